"""The last layers."""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule


def score(evidence: Evidence) -> Scores:
    """The layer's index."""
    return rule(range(evidence.layers), "the last ones")
