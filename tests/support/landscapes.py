"""Simulated landscapes: scores of all sets of layers with known means and noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.cli import command
from sumcirc.placement.landscape import Landscape, Measured, all_sets
from sumcirc.placement.landscape_files import Choice, write_landscape
from sumcirc.reporting.arms import settings_of
from sumcirc.schema import MODULES, configuration
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


def landscape(
    scores: Array, layers: int = 6, size: int = 3, modules: tuple[str, ...] = ()
) -> Landscape:
    """A landscape with these scores as `facts`."""
    return Landscape(
        "simulated",
        layers,
        all_sets(layers * max(len(modules), 1), size),
        tuple(range(1, scores.shape[1] + 1)),
        tuple(f"wire-{i}" for i in range(scores.shape[2])),
        {"facts": scores},
        modules=modules,
    )


def measured(
    scores: Array, layers: int = 6, size: int = 3, modules: tuple[str, ...] = ()
) -> Measured:
    """The same, ready for analysis."""
    return landscape(scores, layers, size, modules).measured("facts")


def of_modules(scores: Array, layers: int = 6) -> Measured:
    """A landscape of single modules of all kinds, ready for analysis."""
    return measured(scores, layers, 1, MODULES)


def write_example(folder: Path, name: str = "example", rng: int = 1, seeds: int = 3) -> Path:
    """Write a landscape of the built-in model with made-up scores; early layers are the best."""
    means = 0.5 - 0.02 * np.array([sum(layers) for layers in all_sets(6, 3)])
    choices = [Choice("page", ((0, 1, 2),), (6, 5, 4, 3, 2, 1)), Choice("last", ((3, 4, 5),))]
    _write(folder, _made_up(name, means, 3, rng, seeds), choices)
    return folder


def write_modules(folder: Path, name: str = "modules", rng: int = 1, seeds: int = 2) -> Path:
    """Write one of its single modules; early layers and late kinds are the best."""
    means = 0.5 - 0.02 * np.arange(6)[:, None] + 0.01 * np.arange(4)
    page = Choice("page", ((3,),), tuple(map(float, range(24, 0, -1))))
    _write(folder, _made_up(name, means.ravel(), 1, rng, seeds, MODULES), [page])
    return folder


def _made_up(
    name: str, means: Array, size: int, rng: int, seeds: int, modules: tuple[str, ...] = ()
) -> Landscape:
    spreads = (0.02, 0.01, 0.1, 0.02, 0.02, 0.05)
    scores = draw(means, seeds=seeds, documents=20, spreads=spreads, rng=rng)
    whole = {"LoRA, all layers": {"facts": scores.mean(axis=0) + 0.03}}
    return replace(landscape(scores, 6, size, modules), name=name, others=whole)


def _write(folder: Path, made: Landscape, choices: list[Choice]) -> None:
    configuration.register()
    words = "adaptation=lora", "adaptation.budget=98304", "trainer.threads=1", "sweep.name=s"
    sizes = "data.sizes.train=30", "data.sizes.validation=10"
    (composed,) = command.compose(command.read("train", [*words, *sizes]))
    apart = "adaptation.modules" if made.modules else "adaptation.layers"
    settings = {
        key: json.loads(value)
        for key, value in settings_of(plain(composed)).items()
        if key not in ("adaptation.layers", apart)
    }
    write_landscape(replace(made, settings=settings), choices, folder)
