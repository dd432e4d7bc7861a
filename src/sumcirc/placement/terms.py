"""Do single layers add up? The sets' means split into terms of layers, pairs and triples.

Functions on the sets of k of L layers are a sum of orthogonal spaces of dimension C(L, j) - C(L,
j - 1), j = 0 to min(k, L - k): the eigenspaces of the Johnson scheme (P. Delsarte, An Algebraic
Approach to the Association Schemes of Coding Theory, 1973). The space of order j holds what sums of
functions of j layers add to sums of functions of j - 1 layers. For 3 of 6 layers: the mean, layers
(5 degrees of freedom), pairs (9) and triples (5). If only layers contribute, a set's mean is a sum
of one number for each of its layers.

Single modules are crossed: L layers by K kinds of module, such as `qkv`. Their means are split by
the two-way analysis of variance into layers (L - 1 degrees of freedom), kinds (K - 1), and what a
module has beyond the sum of its layer's and its kind's part ((L - 1)(K - 1)).

Each term's noise is removed by means of its own interaction with seeds and documents (the mean
squares of the same contrasts, see `variance.Squares`), so nothing is assumed about how the noise of
similar sets is related. A term's variance is its part of sum(set_a^2) / A; the parts add up.

**Effect of a layer** (or of a kind): mean of the sets with it minus mean of the sets without it.

**Left-out sets.** From m measured sets the others are predicted by least squares as a sum over
their layers (of single modules: their layer and their kind), and by the mean of the measured sets.
The noise of the left-out sets' own means is subtracted from the mean squared error, so it is the
error with which their true means are predicted from single noisy measurements. Choices of m sets
that leave the contribution of a layer or kind undetermined are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sumcirc.placement.landscape import Array, Landscape, Measured
from sumcirc.placement.units import Units, UnitSet
from sumcirc.placement.variance import Noise, Squares, contrast_squares, orthonormal
from sumcirc.statistics import holm

PARTS = ("pairs", "triples")  # what sets of more than one unit may contribute
LAYERS, KINDS = "layers", "kinds"
BEYOND_KINDS = "layer x kind"
SHARES = (0.4, 0.6, 0.8)  # of the sets are measured, to predict the others
SUBSETS = 2000


@dataclass(frozen=True)
class Term:
    """What layers, pairs or triples of layers, or kinds of module contribute to the sets' means.

    Attributes:
        name: `layers`, `pairs`, `triples` or `order 4` and so on, or `beyond layers` for all but
            the first; of single modules `layers`, `kinds` and `layer x kind`.
        degrees: degrees of freedom.
        variance: unbiased estimate of the variance of the sets' true means in this space.
        f, error_degrees, p_value: F test of the hypothesis that the term is zero.
    """

    name: str
    degrees: int
    variance: float
    f: float
    error_degrees: float
    p_value: float


@dataclass(frozen=True)
class Effect:
    """Mean of the sets with a layer, or with a module of some kind, minus mean of the others.

    Attributes:
        term: the term that it is a part of, such as `layers` or `kinds`.
        name: the layer or module, such as `2`, or the kind, such as `qkv`.
        effect: the difference.
        low, high: ends of its interval.
        p_value: p-value after Holm's correction over all of the term.
    """

    term: str
    name: str
    effect: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Prediction:
    """How well sets that were not measured are predicted from those that were.

    Attributes:
        measured: number of measured sets.
        additive: root mean squared error of the sum over layers, or of layer and kind, with the
            noise of the left-out means removed.
        mean: the same of the mean of the measured sets.
        subsets: number of choices of the measured sets that were averaged.
    """

    measured: int
    additive: float
    mean: float
    subsets: int


def membership(sets: Sequence[UnitSet], units: int) -> Array:
    """Return which units are in which set, [sets, units] of 0 and 1."""
    found = np.zeros((len(sets), units))
    for row, chosen in zip(found, sets, strict=True):
        row[list(chosen)] = 1.0
    return found


@lru_cache(maxsize=16)
def bases(sets: tuple[UnitSet, ...], units: int) -> list[Array]:
    """Return an orthonormal basis of each order, [degrees of freedom, sets], from order 0.

    Args:
        sets: all sets of equally many units.
        units: number of all units, such as the layers of the model.
    """
    size = len(sets[0])
    found: list[Array] = []
    below = np.zeros((0, len(sets)))
    for order in range(min(size, units - size) + 1):
        parts = list(combinations(range(units), order))
        inside = np.array([[set(part) <= set(chosen) for chosen in sets] for part in parts], float)
        rest = inside - inside @ below.T @ below
        _, values, directions = np.linalg.svd(rest, full_matrices=False)
        basis = directions[values > 1e-9 * max(float(values.max()), 1.0)]
        found.append(basis)
        below = np.vstack([below, basis])
    return found


def spaces(landscape: Landscape) -> dict[str, Array]:
    """Return an orthonormal basis of each term, [degrees of freedom, sets], by its name.

    Together they hold all contrasts of the sets.

    Args:
        landscape: the landscape.
    """
    if crossed(landscape):
        return _two_way(landscape.units)
    parts = bases(landscape.sets, landscape.units.count)[1:]
    names = [landscape.units.words, *PARTS, *(f"order {i}" for i in range(4, len(parts) + 1))]
    return dict(zip(names, parts, strict=False))


def crossed(landscape: Landscape) -> bool:
    """Return whether the sets are single modules, so that layers are crossed with kinds."""
    return landscape.size == 1 and bool(landscape.modules)


def _two_way(units: Units) -> dict[str, Array]:
    """Return the bases of layers, of kinds, and of what modules have beyond them."""
    (layers, same_layer), (kinds, same_kind) = (
        (orthonormal(count), np.full((1, count), count**-0.5))
        for count in (units.layers, len(units.modules))
    )
    pairs = {LAYERS: (layers, same_kind), KINDS: (same_layer, kinds), BEYOND_KINDS: (layers, kinds)}
    return {name: np.kron(*pair).astype(np.float64) for name, pair in pairs.items()}


def parts_of(landscape: Landscape) -> dict[str, tuple[list[str], Array]]:
    """Return what may add up to a set's mean, by the name of the term.

    For sets of several layers these are the layers, for single modules the layers and the kinds;
    single layers have no parts.

    Args:
        landscape: the landscape.

    Returns:
        The parts' names, and which of them is in which set, [sets, parts] of 0 and 1.
    """
    units = landscape.units
    if crossed(landscape):
        layers, kinds = range(units.layers), units.modules
        one_of = np.repeat(np.eye(len(layers)), len(kinds), axis=0)
        return {
            LAYERS: ([str(layer) for layer in layers], one_of),
            KINDS: (list(kinds), np.tile(np.eye(len(kinds)), (len(layers), 1))),
        }
    if landscape.size == 1:
        return {}
    inside = membership(landscape.sets, units.count)
    return {units.words: ([str(name) for name in units.names], inside)}


def differences(inside: Array) -> Array:
    """Return weights of the sets' means for the mean with a part minus that without, [sets, parts].

    Args:
        inside: [sets, parts] of 0 and 1.
    """
    outside = 1 - inside
    return inside / inside.sum(axis=0) - outside / outside.sum(axis=0)


def _squares(basis: Array, scores: Array) -> Squares:
    return contrast_squares(np.tensordot(basis, scores, axes=1))


def terms(found: Measured) -> list[Term]:
    """Return the terms of a landscape; none of single layers, which have no parts.

    Of sets of several layers these are the terms of layers, pairs and so on, and last all above
    layers taken together; of single modules those of layers, kinds, and layer x kind.

    Args:
        found: the scores.
    """
    landscape = found.landscape
    parts = spaces(landscape)
    if not parts_of(landscape):
        return []
    if len(parts) > 1 and not crossed(landscape):
        words, *beyond = parts
        parts[f"beyond {words}"] = np.vstack([parts[name] for name in beyond])
    result = []
    for name, basis in parts.items():
        squares = _squares(basis, found.scores)
        excess = (squares.effect[0] - squares.error) * len(basis)
        variance = excess / (squares.count * len(landscape.sets))
        result.append(Term(name, len(basis), variance, *squares.test()))
    return result


def unit_effects(found: Measured) -> tuple[Array, float]:
    """Return each unit's effect, and the reliability of the effects.

    The effect is the mean of the sets with a unit minus mean of the sets without it, and the
    reliability the share of the effects' variance that is not noise.

    Args:
        found: the scores.

    Returns:
        [units] effects, and their reliability.
    """
    landscape = found.landscape
    count = landscape.units.count
    squares = _squares(bases(landscape.sets, count)[1], found.scores)
    effect = squares.effect[0]
    reliability = max(0.0, 1.0 - squares.error / effect) if effect > 0 else 0.0
    return differences(membership(landscape.sets, count)).T @ found.means, reliability


def effects(found: Measured, confidence: float = 0.95) -> list[Effect]:
    """Return the effects of layers, and of kinds of module, with their intervals.

    Args:
        found: the scores.
        confidence: level of each interval.
    """
    from scipy.special import stdtrit

    tail = (1 - confidence) / 2
    bases_of = spaces(found.landscape)
    result = []
    for term, (names, inside) in parts_of(found.landscape).items():
        weights = differences(inside)
        noise = _squares(bases_of[term], found.scores).noise
        values = weights.T @ found.means
        norms = np.sqrt((weights**2).sum(axis=0))
        margins = norms * noise.margin(lambda degrees: float(-stdtrit(degrees, tail)))
        raw = [_p_value(float(e / n), noise) for e, n in zip(values, norms, strict=True)]
        result += [
            Effect(term, name, float(value), float(value - margin), float(value + margin), p)
            for name, value, margin, p in zip(names, values, margins, holm(raw), strict=True)
        ]
    return result


def _p_value(value: float, noise: Noise) -> float:
    """Return the level at which the margin of a contrast equals its size."""
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    if noise.variance <= 0:
        return float(value == 0)

    def excess(logarithm: float) -> float:
        tail = math.exp(logarithm) / 2
        return noise.margin(lambda degrees: float(-stdtrit(degrees, tail))) - abs(value)

    low = math.log(1e-12)
    if excess(low) <= 0:
        return 1e-12
    return math.exp(brentq(excess, low, 0.0, xtol=1e-9)) if value else 1.0  # pyright: ignore


def predictions(
    found: Measured, noise: Noise, sizes: Sequence[int] | None = None, subsets: int = SUBSETS
) -> list[Prediction]:
    """Return how well left-out sets are predicted, for several numbers of measured sets.

    Args:
        found: the scores.
        noise: the variance of contrasts of the sets' means.
        sizes: numbers of measured sets; by default 40, 60 and 80 % of all (8, 12 and 16 of 20).
        subsets: largest number of choices of the measured sets; all are used if they are fewer.
    """
    count, means = len(found.landscape.sets), found.means
    parts = [inside for _, inside in parts_of(found.landscape).values()]
    if not parts:
        return []
    inside = np.hstack(parts)
    needed = np.linalg.matrix_rank(inside)
    asked = sizes or sorted({round(share * count) for share in SHARES})
    rng = np.random.default_rng(0)
    result = []
    for size in asked:
        if not needed <= size < count:
            continue
        squared, used = np.zeros(2), 0
        for kept in _choices(count, size, subsets, rng):
            left = np.setdiff1d(np.arange(count), kept)
            slopes, _, rank, _ = np.linalg.lstsq(inside[kept], means[kept], rcond=None)
            if rank < needed:
                continue
            guesses = inside[left] @ slopes, np.full(left.size, means[kept].mean())
            squared += [float(((guess - means[left]) ** 2).mean()) for guess in guesses]
            used += 1
        if used:
            additive, mean = np.sqrt(np.maximum(squared / used - noise.variance, 0.0))
            result.append(Prediction(size, float(additive), float(mean), used))
    return result


def _choices(count: int, size: int, most: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    if math.comb(count, size) <= most:
        return [np.array(kept) for kept in combinations(range(count), size)]
    return [np.sort(rng.permutation(count)[:size]) for _ in range(most)]
