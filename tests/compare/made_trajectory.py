"""Scores along a trajectory with values that were drawn."""

from __future__ import annotations

import numpy as np

from sumcirc.compare.path.quadrature import Errors
from sumcirc.compare.path.trajectory import GRAINS, Trajectory
from sumcirc.compare.path.units import Unit
from sumcirc.schema import Grain

WORTH = np.array([[4.0, 1.0, 4.4, 0.5], [1.2, 0.2, 0.3, 0.1], [0.1, 0.1, 0.1, -0.2]])


def made_trajectory(items: list[str]) -> Trajectory:
    """Three segments, of which the last lowers the gain of one unit and settles nothing."""
    draw, count = np.random.default_rng(4), len(items)
    units = {
        grain: [Unit(f"{grain} {number}", number, str(grain), number) for number in range(4)]
        for grain in GRAINS
    }
    scores = {
        grain: WORTH[..., None] + draw.normal(0, 0.02, size=(3, 4, count)) for grain in GRAINS
    }
    metric = np.concatenate([np.zeros((1, count)), scores[Grain.layer].sum(1).cumsum(0)])
    straight = {grain: values.sum(0) for grain, values in scores.items()}
    straight[Grain.layer] = straight[Grain.layer] + np.array([0.5, -0.5, 0, 0])[:, None]
    return Trajectory(
        items,
        [0, 10, 20, 30],
        units,
        metric,
        scores,
        straight,
        Errors(0.01, 0.001, 0.002),
        [14, 7, 7],
    )
