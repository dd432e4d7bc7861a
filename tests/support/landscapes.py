"""Simulated landscapes: scores of all sets of layers with known means and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sumcirc.placement.landscape import Landscape, Measured, all_sets

Array = NDArray[np.float64]


def draw(
    means: Sequence[float] | Array,
    *,
    seeds: int = 3,
    documents: int = 40,
    spreads: Sequence[float] = (0.3, 0.2, 1.0, 0.4, 0.3, 0.5),
    rng: np.random.Generator | int = 0,
) -> Array:
    """Scores [sets, seeds, documents]; `spreads` are standard deviations.

    Their order: seed, set x seed, document, set x document, seed x document, rest.
    """
    rng = np.random.default_rng(rng)
    count = len(means)
    shapes = (
        (1, seeds, 1),
        (count, seeds, 1),
        (1, 1, documents),
        (count, 1, documents),
        (1, seeds, documents),
        (count, seeds, documents),
    )
    found = np.asarray(means, float)[:, None, None] + np.zeros(shapes[-1])
    for shape, spread in zip(shapes, spreads, strict=True):
        found = found + spread * rng.normal(size=shape)
    return found


def landscape(scores: Array, layers: int = 6, size: int = 3) -> Landscape:
    """A landscape with these scores as `facts`."""
    return Landscape(
        "simulated",
        layers,
        all_sets(layers, size),
        tuple(range(1, scores.shape[1] + 1)),
        tuple(f"wire-{i}" for i in range(scores.shape[2])),
        {"facts": scores},
    )


def measured(scores: Array, layers: int = 6, size: int = 3) -> Measured:
    """The same, ready for analysis."""
    return landscape(scores, layers, size).measured("facts")
