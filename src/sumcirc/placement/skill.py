"""Where a choice lies between a random draw and the best set: skill and regret.

    skill = (mean of the choice - mean of all sets) / (best mean - mean of all sets)

is 1 for the best set and 0 on average for a set drawn at random. A choice is given by the
probability w_a of each set: one set for a selector that always chooses the same layers.

**Interval of the skill.** Let c = w - 1/A, b_j = e_j - 1/A and m the true means. Since the largest
b_j m is the denominator, skill <= x holds for x >= 0 if and only if (c - x b_j) m <= 0 for some j,
and skill >= x if and only if (c - x b_j) m >= 0 for all j; for x < 0 `some` and `all` change
places. So skill <= x is rejected at level p where every (one of the) statistics is above its
margin: a union of hypotheses is tested by the tests of its members at the full level (R. L.
Berger, Multiparameter hypothesis testing and acceptance sampling, Technometrics 24, 1982), an
intersection by a critical value for all A statistics. Both are the same idea as E. C. Fieller's for
ratios and J. C. Hsu's for the best. The interval holds all x that are not rejected at p = (1 -
confidence) / 2 from either side. It reaches to -infinity where it isn't shown that any set is
better than the mean.

The critical value for an intersection is Dunnett's for |x| <= 1, where the statistics' correlation
is at least about 1/2, and Bonferroni's beyond.

**Regret.** The plug-in max(means) - mean of the choice is biased up, since the largest of noisy
means is too large. `split_regret` finds the best set on one half of seeds and documents and
compares it on the other half, averaged over splits. That is unbiased for the set that was found,
which may not be the best, so it is biased down. The truth lies between the two expectations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sumcirc.placement.landscape import Array
from sumcirc.placement.variance import Noise
from sumcirc.statistics.multiple import dunnett_quantile

LEAST = -5.0  # below it the interval's end is searched on a coarse grid
_GRID = np.concatenate([-np.geomspace(100.0, -LEAST, 80)[:-1], np.linspace(LEAST, 1.0, 1201)])
SPLITS = 400


@dataclass(frozen=True)
class Skill:
    """A choice's skill with its interval.

    Attributes:
        skill: the plug-in estimate; NaN if all means are equal.
        low, high: ends of the interval; `low` is -inf where no set is shown to be above the mean.
    """

    skill: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitBest:
    """The best set, found on one half of the seeds and documents and measured on the other half.

    Attributes:
        regret: [sets] mean over splits of (found set - each set) on the other half.
        gain: mean over splits of (found set - mean of all sets) on the other half.
        splits: number of splits.
        of_seeds: whether seeds were split, too; with one seed only documents are.
    """

    regret: Array
    gain: float
    splits: int
    of_seeds: bool


def weights_of(places: Sequence[int], sets: int) -> Array:
    """Return the share of each set among a selector's choices, [sets].

    Args:
        places: indices of the chosen sets, one for each time the selector was asked.
        sets: number of sets.
    """
    return np.bincount(places, minlength=sets) / len(places)


def plug_in_skill(means: Array, weights: Array) -> float:
    """Return the skill of a choice, by the means as they are.

    Args:
        means: [sets].
        weights: [sets] probability with which each set is chosen.
    """
    best = means.max() - means.mean()
    gained = weights @ means - means.mean()
    return float(gained / best) if best > 1e-12 * np.abs(means).max() else math.nan


def skill(means: Array, weights: Array, noise: Noise, confidence: float = 0.95) -> Skill:
    """Return the skill of a choice with its interval.

    Args:
        means: [sets].
        weights: [sets] probability with which each set is chosen.
        noise: the variance of contrasts of the means.
        confidence: level of the interval.
    """
    count, p = len(means), (1.0 - confidence) / 2
    chosen, deviations = weights - 1.0 / count, means - means.mean()
    # [grid, sets]: for each value of the skill and each set that may be the best, the contrast
    # c - x b_j of the means and its length
    values = weights @ deviations - _GRID[:, None] * deviations
    squared = chosen @ chosen - 2 * _GRID[:, None] * chosen + _GRID[:, None] ** 2 * (1 - 1 / count)
    norms = np.sqrt(np.maximum(squared, 0.0))
    one, near, far = (noise.margin(quantile) for quantile in _quantiles(count, p))
    every = np.where(np.abs(_GRID) <= 1, near, far)[:, None] * norms
    single = one * norms
    slack = 1e-12 * np.abs(means).max()
    positive = _GRID >= 0
    above = np.where(
        positive,
        (values > single + slack).all(axis=1),
        (values > every + slack).any(axis=1),
    )
    below = np.where(
        positive,
        (values < -every - slack).any(axis=1),
        (values < -single - slack).all(axis=1),
    )
    kept = np.flatnonzero(~above & ~below)
    found = plug_in_skill(means, weights)
    if not kept.size:  # rejected from both sides everywhere, between two points of the grid
        return Skill(found, found, found)
    low = -math.inf if kept[0] == 0 else float(_GRID[kept[0] - 1])
    high = float(_GRID[min(kept[-1] + 1, len(_GRID) - 1)])
    return Skill(found, low, high)


def _quantiles(count: int, p: float) -> list[Callable[[int], float]]:
    from scipy.special import stdtrit

    return [
        lambda degrees: float(-stdtrit(degrees, p)),
        lambda degrees: dunnett_quantile(count, degrees, p),
        lambda degrees: float(-stdtrit(degrees, p / count)),
    ]


def split_best(scores: Array, splits: int = SPLITS, seed: int = 0) -> SplitBest:
    """Find the best set on half of the seeds and documents, and measure it on the other half.

    Each split is used in both directions. All divisions of the seeds occur equally often; the
    documents are divided at random.

    Args:
        scores: [sets, seeds, documents].
        splits: number of splits, counting both directions.
        seed: seed of the random divisions of the documents.
    """
    _, seeds, documents = scores.shape
    rng = np.random.default_rng(seed)
    halves = [list(half) for half in combinations(range(seeds), seeds // 2)] or [[]]
    regret = np.zeros(len(scores))
    gain = 0.0
    rounds = max(1, splits // 2)
    for turn in range(rounds):
        first = halves[turn % len(halves)]
        order = rng.permutation(documents)
        # with one seed both halves are of that seed
        one = first if seeds > 1 else [0]
        other = [s for s in range(seeds) if s not in first] if seeds > 1 else [0]
        parts = order[: documents // 2], order[documents // 2 :]
        means = [
            scores[:, rows][:, :, columns].mean(axis=(1, 2))
            for rows, columns in zip((one, other), parts, strict=True)
        ]
        for found, measured in (means, means[::-1]):
            best = measured[int(found.argmax())]
            regret += best - measured
            gain += float(best - measured.mean())
    return SplitBest(regret / (2 * rounds), gain / (2 * rounds), 2 * rounds, seeds > 1)
