"""Simulated landscapes: scores of all sets of layers with known means and noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.cli import command
from sumcirc.placement.landscape import Landscape, Measured, all_sets
from sumcirc.placement.landscape_files import Choice, write_landscape
from sumcirc.reporting.arms import settings_of
from sumcirc.schema import configuration
from sumcirc.tracking.session import plain

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


def write_example(folder: Path, name: str = "example", rng: int = 1, seeds: int = 3) -> Path:
    """Write a landscape of the built-in model with made-up scores; early layers are the best."""
    configuration.register()
    words = "adaptation=lora", "adaptation.budget=98304", "trainer.threads=1", "sweep.name=s"
    sizes = "data.sizes.train=30", "data.sizes.validation=10"
    (composed,) = command.compose(command.read("train", [*words, *sizes]))
    settings = settings_of(plain(composed))
    sets = all_sets(6, 3)
    means = 0.5 - 0.02 * np.array([sum(layers) for layers in sets])
    spreads = (0.02, 0.01, 0.1, 0.02, 0.02, 0.05)
    scores = draw(means, seeds=seeds, documents=20, spreads=spreads, rng=rng)
    made = Landscape(
        *(name, 6, sets, tuple(range(1, seeds + 1)), tuple(f"wire-{i}" for i in range(20))),
        {"facts": scores},
        {"LoRA, all layers": {"facts": scores.mean(axis=0) + 0.03}},
        {key: json.loads(value) for key, value in settings.items() if key != "adaptation.layers"},
    )
    choices = [Choice("page", ((0, 1, 2),), (6, 5, 4, 3, 2, 1)), Choice("last", ((3, 4, 5),))]
    write_landscape(made, choices, folder)
    return folder
