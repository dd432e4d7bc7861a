"""Selectors that score whole layers by what fine-tuning changes, or by their effect on the stream.

`attention_kl`, `entropy` and `drift` compare a tuned model with the base on the same documents;
rows are the positions that predict the summary. `cka_redundancy` uses only the base. All are
correlational: they intervene in neither model.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.measures.representation import debiased_cka
from sumcirc.schema import SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores, require_defined
from sumcirc.statistics.resampling import resampled
from sumcirc.tracking.measure_records import ATTENTION_KL, CKA, ENTROPY, RELATIVE_CHANGE


@selector(SelectorName.attention_kl, modules=False, compares=True)
def attention_kl(context: SelectionContext) -> Scores:
    """Score layers by the KL(tuned || base) of their attention in nats, averaged over heads.

    The idea comes from arXiv 2505.17073. The definition here differs from that paper's, see
    `measures.attention`.
    """
    record = context.tuned_record("divergence")
    values = record.values[ATTENTION_KL].mean(1, keepdims=True, dtype="float64")
    values = require_defined(values, "attention_kl")
    return Scores(values, "training changes where its heads attend", "nats", "documents", scale=1.0)


@selector(SelectorName.entropy, modules=False, compares=True)
def entropy(context: SelectionContext) -> Scores:
    """Score layers by |mean over documents of H_tuned - H_base|, averaged over heads.

    H is the entropy of a head's attention in nats. A head counts equally if it becomes more focused
    and if it becomes less focused. A document's change is multiplied by the sign of the head's mean
    change, so that the mean over documents is the absolute value of the head's mean change.
    """
    tuned = context.tuned_record("attention").values[ENTROPY].astype(np.float64)
    change = tuned - context.base.record.values[ENTROPY]
    aligned = change * np.sign(change.mean(-1, keepdims=True))
    values = require_defined(aligned.mean(1, keepdims=True), "entropy")
    again = resampled(change, context.config.selector.resamples)
    return Scores(
        values,
        "training changes how focused its heads are",
        "nats",
        "documents",
        resamples=np.abs(again).mean(1, keepdims=True),
        scale=1.0,
    )


@selector(SelectorName.drift, modules=False, compares=True)
def drift(context: SelectionContext) -> Scores:
    """Score layers by how much the residual streams of tuned model and base diverge in them.

    S(l) = CKA before layer l - CKA after it, where CKA is the debiased linear CKA of the two
    models' residual streams, and the value of a document is its jackknife pseudo-value (see
    `measures.representation`). The difference is used because the CKA after a layer also reflects
    changes in earlier layers. S(l) is negative if the streams become more similar in layer l.

    The CKA of the embeddings is 0/0 if all measured rows have the same token in a model without
    position embeddings. No two rows differ there in either model, so nothing has diverged before
    layer 0, and the CKA counts as 1. It also does for embeddings that training left as they were.
    """
    record = context.tuned_record("drift")
    cka = record.values[CKA].astype(np.float64)
    if np.isnan(cka[0]).any():
        rows = _streams(context)[0][0]
        if (rows == rows[0]).all() or (record.values[RELATIVE_CHANGE][0] == 0).all():
            cka[0] = 1.0
    values = require_defined((cka[:-1] - cka[1:])[:, None], "drift")
    return Scores(
        values,
        "the tuned stream departs from the base's here",
        "fall of CKA",
        "documents",
        scale=1.0,
    )


@selector(SelectorName.cka_redundancy, modules=False)
def cka_redundancy(context: SelectionContext) -> Scores:
    """Score layers of the base by I(l) = 1 - CKA(stream before layer l, stream after it).

    This follows layer-wise LoRA with CKA (arXiv 2602.05988), which adapts the half of the layers
    with the largest I. In contrast to that paper, the rows are all positions that predict the
    summary, not only a text's last token, and CKA is debiased. No model is trained for these
    scores.

    Raises:
        UserError: all measured rows have the same embedding, so that CKA with it is 0/0.
    """
    streams, groups = _streams(context)
    if (streams[0] == streams[0][0]).all():
        raise UserError(
            "selector=cka_redundancy: all positions that predict a summary have the same embedding,"
            " so CKA with it is undefined; more documents don't change this, so choose another"
            " selector, such as selector=drift"
        )
    values = [
        1 - debiased_cka(before.double(), after.double(), groups)[1]
        for before, after in pairwise(streams)
    ]
    found = require_defined(torch.stack(values)[:, None].cpu().numpy(), "cka_redundancy")
    return Scores(found, "its output differs from its input", "1 - CKA", "documents", scale=1.0)


def _streams(context: SelectionContext) -> tuple[Tensor, Tensor]:
    """Return the base's residual stream [streams, rows, width] and each row's document."""
    residual, groups = [], []
    for number, batch in enumerate(context.probes.batches):
        residual.append(context.base.batch(number)["residual"].float())
        groups.append(torch.tensor(batch.documents)[batch.groups])
    return torch.cat(residual, 1), torch.cat(groups)
