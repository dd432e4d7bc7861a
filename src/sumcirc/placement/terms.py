"""Do single layers add up? The sets' means split into terms of layers, pairs and triples.

Functions on the sets of k of L layers are a sum of orthogonal spaces of dimension C(L, j) - C(L,
j - 1), j = 0 to min(k, L - k): the eigenspaces of the Johnson scheme (P. Delsarte, An Algebraic
Approach to the Association Schemes of Coding Theory, 1973). The space of order j holds what sums of
functions of j layers add to sums of functions of j - 1 layers. For 3 of 6 layers: the mean, layers
(5 degrees of freedom), pairs (9) and triples (5). If only layers contribute, a set's mean is a sum
of one number for each of its layers.

Each term's noise is removed by means of its own interaction with seeds and documents (the mean
squares of the same contrasts, see `variance.Squares`), so nothing is assumed about how the noise of
similar sets is related. A term's variance is its part of sum(set_a^2) / A; the parts add up.

**Effect of a layer**: mean of the sets with it minus mean of the sets without it.

**Left-out sets.** From m measured sets the others are predicted by least squares as a sum over
their layers, and by the mean of the measured sets. The noise of the left-out sets' own means is
subtracted from the mean squared error, so it is the error with which their true means are
predicted from single noisy measurements. Choices of m sets that leave the contribution of a layer
undetermined are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sumcirc.placement.landscape import Array, Layers, Measured
from sumcirc.placement.variance import Noise, Squares, contrast_squares
from sumcirc.statistics import holm

NAMES = ("mean", "layers", "pairs", "triples")
SHARES = (0.4, 0.6, 0.8)  # of the sets are measured, to predict the others
SUBSETS = 2000


@dataclass(frozen=True)
class Term:
    """What layers, pairs or triples of layers contribute to the sets' means.

    Attributes:
        name: `layers`, `pairs`, `triples` or `order 4` and so on.
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
class LayerEffect:
    """Mean of the sets with a layer minus mean of the sets without it.

    Attributes:
        layer: index of the layer.
        effect: the difference.
        low, high: ends of its interval.
        p_value: p-value after Holm's correction over layers.
    """

    layer: int
    effect: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Prediction:
    """How well sets that were not measured are predicted from those that were.

    Attributes:
        measured: number of measured sets.
        additive: root mean squared error of the sum over layers, with the noise of the left-out
            means removed.
        mean: the same of the mean of the measured sets.
        subsets: number of choices of the measured sets that were averaged.
    """

    measured: int
    additive: float
    mean: float
    subsets: int


def membership(sets: Sequence[Layers], layers: int) -> Array:
    """Return which layers are in which set, [sets, layers] of 0 and 1."""
    found = np.zeros((len(sets), layers))
    for row, chosen in zip(found, sets, strict=True):
        row[list(chosen)] = 1.0
    return found


@lru_cache(maxsize=16)
def bases(sets: tuple[Layers, ...], layers: int) -> list[Array]:
    """Return an orthonormal basis of each term, [degrees of freedom, sets], from order 0.

    Args:
        sets: all sets of equally many layers.
        layers: number of layers of the model.
    """
    size = len(sets[0])
    found: list[Array] = []
    below = np.zeros((0, len(sets)))
    for order in range(min(size, layers - size) + 1):
        parts = list(combinations(range(layers), order))
        inside = np.array([[set(part) <= set(chosen) for chosen in sets] for part in parts], float)
        rest = inside - inside @ below.T @ below
        _, values, directions = np.linalg.svd(rest, full_matrices=False)
        basis = directions[values > 1e-9 * max(float(values.max()), 1.0)]
        found.append(basis)
        below = np.vstack([below, basis])
    return found


def _squares(basis: Array, scores: Array) -> Squares:
    return contrast_squares(np.tensordot(basis, scores, axes=1))


def terms(found: Measured) -> list[Term]:
    """Return the terms of layers, pairs and so on, and last all above layers taken together.

    Args:
        found: the scores.
    """
    landscape = found.landscape
    parts = bases(landscape.sets, landscape.layers)[1:]
    names = [NAMES[i] if i < len(NAMES) else f"order {i}" for i in range(1, len(parts) + 1)]
    if len(parts) > 1:
        parts = [*parts, np.vstack(parts[1:])]
        names.append("beyond layers")
    result = []
    for name, basis in zip(names, parts, strict=True):
        squares = _squares(basis, found.scores)
        excess = (squares.effect[0] - squares.error) * len(basis)
        variance = excess / (squares.count * len(landscape.sets))
        result.append(Term(name, len(basis), variance, *squares.test()))
    return result


def layer_noise(found: Measured) -> tuple[Noise, float]:
    """Return the noise of contrasts in the space of layers, and the layer effects' reliability.

    Args:
        found: the scores.
    """
    basis = bases(found.landscape.sets, found.landscape.layers)[1]
    squares = _squares(basis, found.scores)
    effect = squares.effect[0]
    reliability = max(0.0, 1.0 - squares.error / effect) if effect > 0 else 0.0
    return squares.noise, reliability


def layer_effects(found: Measured, confidence: float = 0.95) -> list[LayerEffect]:
    """Return each layer's effect with its interval.

    Args:
        found: the scores.
        confidence: level of each interval.
    """
    from scipy.special import stdtrit

    landscape = found.landscape
    inside = membership(landscape.sets, landscape.layers)
    weights = inside / inside.sum(axis=0) - (1 - inside) / (1 - inside).sum(axis=0)
    effects = weights.T @ found.means
    noise, _ = layer_noise(found)
    norms = np.sqrt((weights**2).sum(axis=0))
    tail = (1 - confidence) / 2
    margins = norms * noise.margin(lambda degrees: float(-stdtrit(degrees, tail)))
    raw = [_p_value(float(e / n), noise) for e, n in zip(effects, norms, strict=True)]
    return [
        LayerEffect(layer, float(effect), float(effect - margin), float(effect + margin), p)
        for layer, (effect, margin, p) in enumerate(zip(effects, margins, holm(raw), strict=True))
    ]


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
    landscape = found.landscape
    count = len(landscape.sets)
    inside, means = membership(landscape.sets, landscape.layers), found.means
    asked = sizes or sorted({round(share * count) for share in SHARES})
    rng = np.random.default_rng(0)
    result = []
    for size in asked:
        if not landscape.layers <= size < count:
            continue
        squared, used = np.zeros(2), 0
        for kept in _choices(count, size, subsets, rng):
            left = np.setdiff1d(np.arange(count), kept)
            slopes, _, rank, _ = np.linalg.lstsq(inside[kept], means[kept], rcond=None)
            if rank < landscape.layers:
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
