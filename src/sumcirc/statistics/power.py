"""Power of the tests in `statistics.seeds`: which differences a design shows, and what it takes.

The scores of S runs on D documents have the variance components of the model there: of runs,
documents and the rest. With normal effects the four estimates that a test uses, the mean, V_runs,
V_documents and V_rest, are independent; the last three are multiples of chi-square variables. So

    power(d) = E[ Phi((d - m) / s) + Phi((-d - m) / s) ]

with the true standard error s of the mean and the margin m, over the distributions of V_runs and
V_documents, which are replaced by quantiles. V_rest, which has many degrees of freedom, is replaced
by its expectation. The level is that of a single test; for the smallest p-value of k tests that are
corrected by Holm's method it is alpha / k.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.seeds import SEEDS_TO_CLAIM, MeanSquares, mean_squares

POWER = 0.8
MOST_SEEDS = 100  # more are not considered
_POINTS = {1: (200, 15), 2: (50, 11)}  # quantiles by number of groups: of runs, of documents
_LARGEST = 1e7  # difference in standard errors


@dataclass(frozen=True)
class Components:
    """Variances of the effects of which scores, or differences of scores, consist.

    Attributes:
        runs: variance of a run's effect, for each independent group of runs: one group for a
            difference that is paired by seed, else one for each arm.
        rest: variance of what neither run nor document explains, for each group.
        documents: variance of a document's effect; for a difference, of its difference.
    """

    runs: tuple[float, ...]
    rest: tuple[float, ...]
    documents: float


def components(groups: Sequence[NDArray[np.floating]]) -> Components:
    """Estimate the components of a mean or a difference, without bias; a variance may be negative.

    Args:
        groups: scores [runs, documents] of each independent group, on the same documents: one
            group, or those of an arm and its control. Each has two runs or more.
    """
    means = [np.asarray(group, dtype=np.float64).mean(axis=0) for group in groups]
    by_document = means[0] if len(means) == 1 else means[0] - means[1]
    size = by_document.size
    parts = [
        mean_squares([np.asarray(group, dtype=np.float64)], mean)
        for group, mean in zip(groups, means, strict=True)
    ]
    seeds = [len(group) for group in groups]
    rest = tuple(float(one.rest) * s * size for one, s in zip(parts, seeds, strict=True))
    between = [float(one.runs[0][0]) * s for one, s in zip(parts, seeds, strict=True)]
    runs = tuple(b - r / size for b, r in zip(between, rest, strict=True))
    noise = sum(r / s for r, s in zip(rest, seeds, strict=True))
    return Components(runs, rest, float(by_document.var(ddof=1)) - noise)


def pooled(several: Sequence[Components]) -> Components:
    """Return the means of variance components, in which no variance is negative.

    Args:
        several: components with the same number of groups.
    """

    def mean(values: Sequence[float]) -> float:
        return max(0.0, sum(values) / len(values))

    groups = range(len(several[0].runs))
    return Components(
        tuple(mean([one.runs[group] for one in several]) for group in groups),
        tuple(mean([one.rest[group] for one in several]) for group in groups),
        mean([one.documents for one in several]),
    )


def power(
    parts: Components, seeds: Sequence[int], documents: int, difference: float, level: float
) -> float:
    """Return the probability that a difference is significant.

    Args:
        parts: the variance components, none of them negative.
        seeds: number of runs of each group, at least 2.
        documents: number of documents, at least 2.
        difference: the true difference.
        level: level of the two-sided test.
    """
    error, margins = _margins(parts, seeds, documents, level)
    if error == 0:
        return float(difference != 0)
    return _power(abs(difference) / error, margins)


def detectable(
    parts: Components,
    seeds: Sequence[int],
    documents: int,
    level: float,
    wanted: float = POWER,
) -> float:
    """Return the smallest difference that is significant with a given probability.

    Args:
        parts, seeds, documents, level: as in `power`.
        wanted: the probability.
    """
    from scipy.optimize import brentq

    error, margins = _margins(parts, seeds, documents, level)
    if error == 0:
        return 0.0
    found: Any = brentq(lambda d: _power(d, margins) - wanted, 0.0, _LARGEST, xtol=1e-6)
    return error * float(found)


def seeds_needed(
    parts: Components, documents: int, difference: float, level: float, wanted: float = POWER
) -> int | None:
    """Return the smallest number of seeds with which a difference is shown; None beyond 100.

    Args:
        parts, documents, difference, level: as in `power`; all groups get the same number.
        wanted: the probability with which it is to be shown.
    """

    def enough(seeds: int) -> bool:
        groups = [seeds] * len(parts.runs)
        return power(parts, groups, documents, difference, level) >= wanted

    counts = range(SEEDS_TO_CLAIM, MOST_SEEDS + 1)
    place = bisect_left(counts, True, key=enough)
    return counts[place] if place < len(counts) else None


def _margins(
    parts: Components, seeds: Sequence[int], documents: int, level: float
) -> tuple[float, NDArray[np.float64]]:
    """Return the standard error of the mean, and equally likely margins in units of it."""
    noise = [rest / (count * documents) for rest, count in zip(parts.rest, seeds, strict=True)]
    runs = [run / count + rest for run, count, rest in zip(parts.runs, seeds, noise, strict=True)]
    rest = sum(noise)
    of_documents = parts.documents / documents + rest
    error = math.sqrt(sum(runs) + of_documents - rest)
    if error == 0:
        return 0.0, np.zeros(1)
    many, few = _POINTS[len(seeds)]
    spread = np.ix_(*(_ratios(count - 1, many) for count in seeds), _ratios(documents - 1, few))
    squares = MeanSquares(
        tuple(
            (run * ratio, count - 1)
            for run, ratio, count in zip(runs, spread[:-1], seeds, strict=True)
        ),
        (of_documents * spread[-1], documents - 1),
        rest,
    )
    return error, np.sqrt(np.ravel(squares.squared_margin(level))) / error


def _ratios(degrees: int, count: int) -> NDArray[np.float64]:
    """Return quantiles of an estimated variance over the true one, equally likely."""
    from scipy.special import gammaincinv

    shares = (np.arange(count) + 0.5) / count
    return gammaincinv(degrees / 2, shares) * 2 / degrees


def _power(difference: float, margins: NDArray[np.float64]) -> float:
    """Return the power for a difference and margins in standard errors."""
    from scipy.special import ndtr

    return float((ndtr(difference - margins) + ndtr(-difference - margins)).mean())
