"""A landscape: the scores of every set of k layers, with several seeds, on the same documents.

The sets are a census: each of the C(L, k) sets of k of the model's L layers was trained. Every set
has a run with every seed, and every run scores the same documents, so the design is balanced and
its analysis of variance exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError

Layers = tuple[int, ...]
Array = NDArray[np.float64]

LOWER_IS_BETTER = {"facts_wrong", "nll"}
FEWEST_DOCUMENTS = 8


@dataclass(frozen=True)
class Landscape:
    """Scores of all sets of layers by seed and document.

    Attributes:
        name: name of the landscape, such as that of its sweep.
        layers: number of layers of the model.
        sets: all sets of equally many layers, each ascending, in lexicographic order.
        seeds: seed of each run of a set.
        documents: ids of the scored documents.
        scores: [sets, seeds, documents] of each score by its name, with NaN where it is undefined.
        others: the same, [seeds, documents], of arms that are no choice of layers, such as LoRA on
            all layers, by label and name of the score.
        settings: the configuration that all runs share, without layers, seed and paths.
    """

    name: str
    layers: int
    sets: tuple[Layers, ...]
    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    scores: Mapping[str, Array]
    others: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sets != all_sets(self.layers, len(self.sets[0])):
            raise ValueError("the sets are not all sets of this many layers, in order")
        shape = len(self.sets), len(self.seeds), len(self.documents)
        for name, values in self.scores.items():
            if values.shape != shape:
                raise ValueError(f"{name}: shape {values.shape}, expected {shape}")

    @property
    def size(self) -> int:
        """Number of layers of each set."""
        return len(self.sets[0])

    @cached_property
    def places(self) -> dict[Layers, int]:
        """The index of each set in `sets`."""
        return {layers: place for place, layers in enumerate(self.sets)}

    def measured(self, metric: str) -> Measured:
        """Return one score on the documents for which every run defines it.

        Args:
            metric: name of the score, a key of `scores`.

        Raises:
            UserError: there is no such score, or it is defined for too few documents.
        """
        if metric not in self.scores:
            known = ", ".join(self.scores)
            raise UserError(f"metric={metric}: {self.name} has no such score; choose from {known}")
        scores = self.scores[metric]
        others = {label: found[metric] for label, found in self.others.items() if metric in found}
        kept = np.asarray(np.isfinite(scores).all(axis=(0, 1)))
        for values in others.values():
            kept = kept & np.isfinite(values).all(axis=0)
        if kept.sum() < FEWEST_DOCUMENTS:
            raise UserError(
                f"metric={metric}: is defined for {kept.sum()} of {len(self.documents)} documents"
                f" of {self.name}, too few for an analysis (at least {FEWEST_DOCUMENTS}); choose"
                " another metric, such as metric=rougeLsum"
            )
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        return Measured(
            self,
            metric,
            sign * scores[..., kept],
            {label: sign * values[..., kept] for label, values in others.items()},
            tuple(id for id, used in zip(self.documents, kept, strict=True) if used),
        )


@dataclass(frozen=True)
class Measured:
    """One score of a landscape, turned so that higher is better.

    Attributes:
        landscape: the landscape.
        metric: name of the score.
        scores: [sets, seeds, documents], finite.
        others: [seeds, documents] of the other arms, by label.
        documents: ids of the documents for which every run defines the score.
    """

    landscape: Landscape
    metric: str
    scores: Array
    others: Mapping[str, Array]
    documents: tuple[str, ...]

    @property
    def dropped(self) -> int:
        """Number of documents for which some run doesn't define the score."""
        return len(self.landscape.documents) - len(self.documents)

    @cached_property
    def means(self) -> Array:
        """Mean of each set over seeds and documents, [sets]."""
        return self.scores.mean(axis=(1, 2))


def all_sets(layers: int, size: int) -> tuple[Layers, ...]:
    """Return all sets of `size` of the layers 0 to `layers` - 1, in lexicographic order.

    Args:
        layers: number of layers of the model.
        size: number of layers of each set.
    """
    return tuple(combinations(range(layers), size))


def label_of(layers: Sequence[int]) -> str:
    """Return the label of a set of layers, such as `2,3,5`.

    Args:
        layers: the layers.
    """
    return ",".join(map(str, layers))


def check_sets(layers: int, size: int) -> None:
    """Refuse sets of layers among which there is nothing to choose.

    Args:
        layers: number of layers of the model.
        size: number of layers of each set.

    Raises:
        UserError: the model has too few layers for more than one set.
    """
    if not 0 < size < layers:
        raise UserError(
            f"sets of {size} layers: the model has {layers}, so there is"
            f" {'one such set' if size == layers else 'no such set'}; choose a number from 1 to"
            f" {layers - 1}"
        )


def number_of_sets(layers: int, size: int) -> int:
    """Return the number of sets of `size` of `layers` layers."""
    return math.comb(layers, size)
