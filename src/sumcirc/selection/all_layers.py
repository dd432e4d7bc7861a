"""Every layer: the usual LoRA, beside which fewer layers have to hold."""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule


def score(evidence: Evidence) -> Scores:
    """The same score for all."""
    return rule([1] * evidence.layers, "every layer")
