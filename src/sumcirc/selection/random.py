"""Targets drawn at random: the control that every other choice has to beat."""

from __future__ import annotations

import numpy as np

from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, rule


def score(evidence: Evidence) -> Scores:
    """Draws by `selector.seed`, else the run's seed: another set for each, on any machine."""
    parts = 1 if evidence.granularity is Granularity.layer else len(MODULES)
    draws = np.random.default_rng(evidence.seed).random((evidence.layers, parts))
    return rule(draws, f"drawn at random by seed {evidence.seed}")
