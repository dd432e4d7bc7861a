"""Layers of the base that do something: I(l) = 1 - CKA(stream before layer l, stream after it).

After layer-wise LoRA with CKA (arXiv 2602.05988), which adapts the half of the layers of largest I.
Differences: the rows are all those that predict the summary, not a text's last token, and CKA is
debiased (`probes.representation`). No model is trained for it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from sumcirc.measures.representation import debiased_cka
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, require_defined


def score(evidence: Evidence) -> Scores:
    """Score layers by how little their output resembles their input."""
    streams, groups = _streams(evidence)
    values = [
        1 - debiased_cka(before.double(), after.double(), groups)[1]
        for before, after in pairwise(streams)
    ]
    found = require_defined(torch.stack(values)[:, None].cpu().numpy(), "cka_redundancy")
    return Scores(found, "its output differs from its input", "1 - CKA", "documents", scale=1.0)


def _streams(evidence: Evidence) -> tuple[Tensor, Tensor]:
    """The base's stream [streams, rows, width] and each row's document."""
    residual, groups = [], []
    for number, batch in enumerate(evidence.probes.batches):
        residual.append(evidence.base.batch(number)["residual"].float())
        groups.append(torch.tensor(batch.documents)[batch.groups])
    return torch.cat(residual, 1), torch.cat(groups)
