"""A landscape: the scores of every set of k units, with several seeds, on the same documents.

A unit is a layer of the model, or a single module of a layer. The sets are a census: each of the
C(N, k) sets of k of the N units was trained. Every set has a run with every seed, and every run
scores the same documents, so the design is balanced and its analysis of variance exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.placement.units import Units, UnitSet

Array = NDArray[np.float64]

LOWER_IS_BETTER = {"facts_wrong", "nll"}
FEWEST_DOCUMENTS = 8


@dataclass(frozen=True)
class Landscape:
    """Scores of all sets of layers, or of single modules, by seed and document.

    Attributes:
        name: name of the landscape, such as that of its sweep.
        layers: number of layers of the model.
        sets: all sets of equally many units, each ascending, in lexicographic order.
        seeds: seed of each run of a set.
        documents: ids of the scored documents.
        scores: [sets, seeds, documents] of each score by its name, with NaN where it is undefined.
        others: the same, [seeds, documents], of arms outside the census, such as LoRA on all
            layers, by label and name of the score.
        settings: the configuration that all runs share, without layers, seed and paths.
        modules: names of the modules of each layer, if single modules are the units; empty if
            layers are.
    """

    name: str
    layers: int
    sets: tuple[UnitSet, ...]
    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    scores: Mapping[str, Array]
    others: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sets != all_sets(self.units.count, len(self.sets[0])):
            raise ValueError(f"the sets are not all sets of this many {self.units.words}, in order")
        shape = len(self.sets), len(self.seeds), len(self.documents)
        for name, values in self.scores.items():
            if values.shape != shape:
                raise ValueError(f"{name}: shape {values.shape}, expected {shape}")

    @cached_property
    def units(self) -> Units:
        """The layers, or single modules, that each set is made of."""
        return Units(self.layers, self.modules)

    @property
    def size(self) -> int:
        """Number of units of each set."""
        return len(self.sets[0])

    @cached_property
    def places(self) -> dict[UnitSet, int]:
        """The index of each set in `sets`."""
        return {chosen: place for place, chosen in enumerate(self.sets)}

    @property
    def one(self) -> str:
        """What a set is called: `set`, or `layer` or `module` if it has one."""
        return "set" if self.size > 1 else self.units.word

    @property
    def many(self) -> str:
        """The plural of `one`."""
        return f"{self.one}s"

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


def all_sets(units: int, size: int) -> tuple[UnitSet, ...]:
    """Return all sets of `size` of the units 0 to `units` - 1, in lexicographic order.

    Args:
        units: number of layers of the model, or of modules of all layers.
        size: number of units of each set.
    """
    return tuple(combinations(range(units), size))
