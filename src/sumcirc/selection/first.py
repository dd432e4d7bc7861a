"""The first layers."""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule


def score(evidence: Evidence) -> Scores:
    """Less the layer's index."""
    return rule([-layer for layer in range(evidence.layers)], "the first ones")
