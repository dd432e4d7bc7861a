"""Selectors judged: in one landscape, and over several.

**p over landscapes.** The statistic is the mean skill over landscapes. Under the hypothesis that a
selector is no better than a random draw, the labels of the sets are exchangeable: any assignment of
different sets to its different choices is equally likely, the same in all landscapes. So a selector
that chooses the same set everywhere is compared with all A sets, each in all landscapes, and its p
can't be below 1 / A however many landscapes agree; one with u different choices is compared with A!
/ (A - u)! assignments. That keeps the landscapes as they are: similar models make similar
landscapes, and counting them as independent would count their agreement as evidence for the
selector. Assignments are enumerated, or drawn at random where there are more than `MOST`; then p
counts the observed one among the draws (B. Phipson and G. K. Smyth, Statistical Applications in
Genetics and Molecular Biology 9, 2010). P-values of several selectors are corrected by Holm.

**Layer scores.** The correlation of a selector's layer scores with the layers' effects is also
given divided by the square root of the effects' reliability (C. Spearman, American Journal of
Psychology 15, 1904): what it would be if the effects were measured without noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sumcirc.placement.landscape import Array
from sumcirc.statistics import holm

MOST = 200_000


@dataclass(frozen=True)
class Agreement:
    """How a selector's layer scores agree with the layers' effects.

    Attributes:
        pearson, spearman: correlations; NaN if either side is constant.
        corrected: Pearson's correlation, corrected for the effects' reliability; NaN if the
            reliability is zero.
    """

    pearson: float
    spearman: float
    corrected: float


@dataclass(frozen=True)
class OverLandscapes:
    """A selector's mean skill over landscapes.

    Attributes:
        skill: mean of the plug-in skills.
        p_value: probability that random choices have at least this mean skill.
        corrected: the same after Holm's correction over selectors.
        least: the smallest p-value that the selector could have had.
        landscapes: number of landscapes.
    """

    skill: float
    p_value: float
    corrected: float
    least: float
    landscapes: int


def skills_by_set(means: Array) -> Array:
    """Return the plug-in skill of every set, [sets].

    Args:
        means: [sets].
    """
    return (means - means.mean()) / (means.max() - means.mean())


def permutation_p(
    skills: Sequence[Array], choices: Sequence[Sequence[int]], seed: int = 0
) -> tuple[float, float]:
    """Return the p-value of a selector's mean skill over landscapes, and the least possible one.

    Args:
        skills: [sets] skill of every set in each landscape, in the same order of sets.
        choices: for each landscape, the indices of the sets that the selector chose.
        seed: seed of the random assignments, if there are too many to enumerate.
    """
    sets = len(skills[0])
    chosen = sorted({place for one in choices for place in one})
    # weight of each different choice in each landscape, [choices, landscapes]
    weights = np.array(
        [[one.count(place) / len(one) for one in map(list, choices)] for place in chosen]
    )
    table = np.array(skills)  # [landscapes, sets]
    observed = float((weights.T * table[:, chosen]).sum()) / len(skills)
    possible = math.perm(sets, len(chosen))
    if possible <= MOST:
        drawn = np.array(list(permutations(range(sets), len(chosen))))
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        drawn = np.argsort(rng.random((MOST - 1, sets)), axis=1)[:, : len(chosen)]
        extra = 1
    values = np.zeros(len(drawn))
    for column, weight in enumerate(weights):
        values += (weight @ table)[drawn[:, column]]
    values /= len(skills)
    total = len(drawn) + extra
    slack = 1e-9 * max(1.0, float(np.abs(values).max()))
    count = int((values >= observed - slack).sum()) + extra
    # equal weights make some assignments the same choice, so the least p is counted as well
    best = int((values >= values.max() - slack).sum())
    return count / total, best / total


def over_landscapes(
    means: Sequence[Array], choices: Mapping[str, Sequence[Sequence[int]]]
) -> dict[str, OverLandscapes]:
    """Return each selector's mean skill over landscapes with exact p-values.

    Args:
        means: [sets] means of each landscape, in the same order of sets.
        choices: by selector, for each landscape, the indices of the sets that it chose.
    """
    skills = [skills_by_set(one) for one in means]
    found = {name: permutation_p(skills, chosen) for name, chosen in choices.items()}
    corrected = holm([p for p, _ in found.values()])
    return {
        name: OverLandscapes(
            float(
                np.mean(
                    [s[list(c)].mean() for s, c in zip(skills, choices[name], strict=True)],
                )
            ),
            p,
            adjusted,
            least,
            len(skills),
        )
        for (name, (p, least)), adjusted in zip(found.items(), corrected, strict=True)
    }


def best_by_luck(selectors: int, sets: int) -> float:
    """Return the probability that at least one of several random selectors picks the best set.

    Args:
        selectors: number of selectors, each of which chooses at random.
        sets: number of sets.
    """
    return 1.0 - (1.0 - 1.0 / sets) ** selectors


def agreement(
    scores: Sequence[float], effects: Sequence[float] | Array, reliability: float
) -> Agreement:
    """Return the correlation of a selector's layer scores with the layers' effects.

    Args:
        scores: [layers] scores that the selector gave.
        effects: [layers] effects of the layers in the landscape.
        reliability: share of the variance of `effects` that is not noise.
    """
    from scipy.stats import rankdata

    a, b = np.asarray(scores, float), np.asarray(effects, float)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(math.nan, math.nan, math.nan)
    pearson = float(np.corrcoef(a, b)[0, 1])
    spearman = float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    corrected = pearson / math.sqrt(reliability) if reliability > 0 else math.nan
    return Agreement(pearson, spearman, corrected)
