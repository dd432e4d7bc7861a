"""All patching from one model into another: of single components, of sets, and of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sumcirc.compare.patching.components import (
    BY_GROUP,
    MLP,
    OUTPUT,
    UNEMBEDDING,
    Component,
    components,
)
from sumcirc.compare.patching.patching_scores import (
    PatchingResult,
    PatchingSetup,
    first_sets,
    pairs_of,
    random_sets,
    synergy,
)
from sumcirc.runtime.progress import Counted
from sumcirc.schema import CompareOptions

FIRST, RANDOM, OWN = "first", "random", "own"
RANKED = (OUTPUT, MLP)  # kinds of parts that the first sets are made of: they don't overlap


@dataclass(frozen=True)
class NamedSet:
    """Components that are patched together.

    Attributes:
        kind: how the components were chosen: FIRST (those with the largest effects), RANDOM, or OWN
            (named in the settings).
        draw: index of the random draw; 0 for other kinds.
        parts: the components.
    """

    kind: str
    draw: int
    parts: list[Component]


@dataclass(frozen=True)
class Carried:
    """The results of all patching from a donor model into a receiving model.

    Attributes:
        moved: results of patching single components.
        sets: sets of components that were patched together.
        set_effects: [sets, items] change of the metric if a set is patched.
        pairs: all pairs of components in the largest set of kind FIRST.
        synergies: [pairs, items] effect of patching a pair minus the sum of the effects of patching
            either component alone.
    """

    moved: PatchingResult
    sets: list[NamedSet]
    set_effects: NDArray[np.float64]
    pairs: list[list[Component]]
    synergies: NDArray[np.float64]


def carry(
    crossing: PatchingSetup, options: CompareOptions, seed: int, label: str, counted: Counted
) -> Carried:
    """Patch components one by one, in sets and in pairs, and return all results.

    Args:
        crossing: a receiving model, a donor and items.
        options: settings of the comparison, which name the components and sets to patch.
        seed: seed of the random sets.
        label: name of the patching direction, shown with the progress.
        counted: function that shows progress, such as `runtime.progress.counted`.
    """
    shape = crossing.hooked.shape
    kinds = list(options.parts)
    if not crossing.donor.unembedding:
        kinds = [kind for kind in kinds if kind != UNEMBEDDING]
    parts = list(components(shape, kinds))
    count = len(crossing.items)
    with counted(f"{label}: move {len(parts)} parts", count) as done:
        moved = crossing.each(parts, done)
    named = [
        NamedSet(OWN, 0, [Component.parse(name, shape, "compare.sets") for name in one])
        for one in options.sets
    ]
    named += _made_sets(moved, options, seed)
    effects = np.empty((len(named), count))
    if named:
        with counted(f"{label}: move {len(named)} sets", count) as done:
            effects = crossing.together([one.parts for one in named], done)
    chosen = [one.parts for one in named if one.kind == FIRST]
    pairs = pairs_of(chosen[-1]) if chosen else []
    gained = np.empty((0, count))
    if pairs:
        with counted(f"{label}: move {len(pairs)} pairs", count) as done:
            gained = synergy(moved, pairs, crossing.together(pairs, done))
    return Carried(moved, named, effects, pairs, gained)


def _made_sets(moved: PatchingResult, options: CompareOptions, seed: int) -> list[NamedSet]:
    ranked = [part for part in moved.parts if part.kind in RANKED]
    if not options.top or not ranked or len(moved.gap) < 2:
        return []
    places = [moved.parts.index(part) for part in ranked]
    few = PatchingResult(
        ranked, moved.receiver, moved.donor, moved.effects[places], moved.effects[places]
    )
    first = first_sets(few, options.top)
    drawn = random_sets(ranked, [len(one) for one in first], options.random_sets, seed)
    return [
        *(NamedSet(FIRST, 0, one) for one in first),
        *(NamedSet(RANDOM, i // len(first), one) for i, one in enumerate(drawn)),
    ]


def agreement(moved: PatchingResult) -> dict[str, dict[str, float]]:
    """Return how well effects estimated from one backward pass agree with measured effects.

    Args:
        moved: results of patching single components.

    Returns:
        For each kind of component, the `pearson` and `spearman` correlations between estimated and
        measured effects, which are means over items, over the components of this kind. Kinds with
        fewer than three components, or whose components all have the same estimated or measured
        effect, are omitted.
    """
    found = {}
    for kind in dict.fromkeys(part.kind for part in moved.parts):
        places = [i for i, part in enumerate(moved.parts) if part.kind == kind]
        measured, told = (one[places].mean(-1) for one in (moved.effects, moved.attributed))
        if len(places) < 3 or np.ptp(measured) == 0 or np.ptp(told) == 0:
            continue
        found[kind] = {
            "pearson": float(np.corrcoef(measured, told)[0, 1]),
            "spearman": float(spearmanr(measured, told).statistic),  # type: ignore[attr-defined]
        }
    return found


def label_of(part: Component, heads: int, key_value_heads: int) -> str:
    """Return a component's name; for a key or value that several heads share, it names these heads.

    Args:
        part: the component.
        heads, key_value_heads: numbers of query heads and of key/value heads in a layer.
    """
    group = heads // key_value_heads
    if part.kind not in BY_GROUP or group == 1:
        return str(part)
    first = part.index * group
    return f"{part} (heads {first}-{first + group - 1})"


def grid(
    moved: PatchingResult, scores: NDArray[np.float64], kind: str, layers: int, count: int
) -> NDArray[np.float64]:
    """Arrange the scores of one kind of component in an array [layers, count].

    Components that were not patched get NaN.

    Args:
        moved: results of patching the scored components.
        scores: [components] score of each component in `moved`.
        kind: kind of the components to return.
        layers: number of layers.
        count: number of components of this kind in a layer.
    """
    found = np.full((layers, count), np.nan)
    for part, score in zip(moved.parts, scores, strict=True):
        if part.kind == kind and part.layer < layers:
            found[part.layer, part.index] = score
    return found
