"""Which sets may be the best, and which ranks a set may have.

**Multiple comparisons with the best** (J. C. Hsu, Constrained simultaneous confidence intervals for
multiple comparisons with the best, Annals of Statistics 12, 1984). With d the margin of a
difference of two means by Dunnett's one-sided critical value,

    upper_a = max(0, mean_a - max of the other means + d)
    G       = the sets with upper_a > 0
    lower_a = 0 if G = {a}, else min(0, min over b in G, b != a of mean_a - mean_b - d)

contain mean_a - max of the other true means for all sets at once with the given confidence. A set
with upper_a = 0 is not the best; the others can't be told from the best.

**Ranks** (M. Mogstad, J. P. Romano, A. M. Shaikh, D. Wilhelm, Inference for Ranks with Applications
to Mobility across Neighbourhoods and Academic Achievement across Countries, Review of Economic
Studies 91, 2024). From simultaneous intervals of all pairwise differences, the rank of a set (1 is
the best) lies between 1 + the number of sets that are significantly better and A - the number of
sets that are significantly worse, for all sets at once. In the balanced design with pooled variance
the critical value is that of Tukey's studentized range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sumcirc.placement.landscape import Array
from sumcirc.placement.variance import Noise
from sumcirc.statistics.multiple import dunnett_quantile, range_quantile


@dataclass(frozen=True)
class Against:
    """The sets compared with the best of the others.

    Attributes:
        low, high: [sets] ends of the simultaneous intervals of mean - best other mean.
        candidates: [sets] whether a set can't be told from the best.
        margin: the difference between two sets above which one is not the best.
    """

    low: Array
    high: Array
    candidates: np.ndarray
    margin: float


@dataclass(frozen=True)
class RankSets:
    """The ranks that each set may have; 1 is the best.

    Attributes:
        low, high: [sets] best and worst rank.
        margin: the difference above which two sets differ, over all pairs at once.
    """

    low: np.ndarray
    high: np.ndarray
    margin: float


def ranks_of(means: Array) -> np.ndarray:
    """Return the rank of each mean, [sets]; 1 is the largest, and equal means share the best."""
    return 1 + (means[None, :] > means[:, None]).sum(axis=1)


def with_the_best(means: Array, noise: Noise, confidence: float = 0.95) -> Against:
    """Return Hsu's simultaneous intervals for each set against the best of the others.

    Args:
        means: [sets] means.
        noise: the variance of contrasts of the means.
        confidence: joint level of all intervals.
    """
    count, level = len(means), 1.0 - confidence
    margin = math.sqrt(2) * noise.margin(lambda f: dunnett_quantile(count, f, level))
    differences = means[:, None] - means[None, :]
    np.fill_diagonal(differences, np.inf)
    gaps = differences.min(axis=1)  # to the best of the others
    high = np.maximum(0.0, gaps + margin)
    # where all means are equal up to rounding and nothing varies, all are the best
    candidates = high > 0 if margin > 0 else gaps >= -1e-12 * np.abs(means).max()
    low = np.zeros(count)
    for place in range(count):
        rivals = [b for b in np.flatnonzero(candidates) if b != place]
        if rivals:
            low[place] = min(0.0, float((means[place] - means[rivals]).min() - margin))
    return Against(low, high, candidates, margin)


def rank_sets(means: Array, noise: Noise, confidence: float = 0.95) -> RankSets:
    """Return simultaneous confidence sets of the ranks of all sets.

    Args:
        means: [sets] means.
        noise: the variance of contrasts of the means.
        confidence: joint level of all confidence sets.
    """
    count, level = len(means), 1.0 - confidence
    margin = math.sqrt(2) * noise.margin(lambda f: range_quantile(count, f, level))
    ahead = means[None, :] - means[:, None] > margin
    return RankSets(1 + ahead.sum(axis=1), count - ahead.sum(axis=0), margin)
