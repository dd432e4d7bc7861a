"""The layers nearest to the middle of the model."""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule


def score(evidence: Evidence) -> Scores:
    """Less the distance from the middle."""
    middle = (evidence.layers - 1) / 2
    return rule([-abs(layer - middle) for layer in range(evidence.layers)], "the middle ones")
