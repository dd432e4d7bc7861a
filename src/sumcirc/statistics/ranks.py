"""Ranks of rows over resampled documents, and the rank correlation of two lists of values.

To say how certain it is which row comes first, documents are drawn with replacement, the same for
all rows, so that the variation rows share cancels; in each resample the rows are ranked by their
means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.intervals import MIN_DOCUMENTS, check_settings, tails
from sumcirc.statistics.resampling import weights


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of rows by their means; rank 1 is the largest mean. All arrays are [rows].

    Attributes:
        rank: rank of each row by its mean over all documents; of rows with equal means, the earlier
            one comes first.
        low, high: ends of the interval of the rank over resamples. Rows with equal means in a
            resample share all ranks that they occupy: `low` uses the best, `high` the worst. NaN
            with fewer than `MIN_DOCUMENTS` documents.
        first: fraction of resamples in which the row comes first; a first place is divided equally
            among rows with equal means. NaN with fewer than `MIN_DOCUMENTS` documents.
    """

    rank: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    first: NDArray[np.float64]


def rank_interval(
    values: NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ranks:
    """Rank rows by their means over documents, and return the ranks with their intervals.

    Args:
        values: [rows, documents]; NaN is ignored, and a row whose mean is undefined comes last.
        resamples: number of resamples of the documents, which are the same for all rows.
        confidence: level of the intervals, between 0 and 1.
        seed: seed of the random draws.

    Raises:
        ValueError: `values` does not have two axes, `resamples` is below 1, or `confidence` is
            outside (0, 1).
    """
    from scipy.stats import rankdata

    check_settings(resamples, confidence)
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected rows of documents, got shape {rows.shape}")
    count, size = rows.shape
    means = _means(rows, np.ones((1, size)))[0]
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(-means, kind="stable")] = np.arange(1, count + 1)
    if size < MIN_DOCUMENTS or count == 0:
        nothing = np.full(count, np.nan)
        return Ranks(rank, nothing, nothing, nothing)
    again = -_means(rows, weights(size, resamples, seed))
    best, worst = (rankdata(again, method, axis=1) for method in ("min", "max"))
    leads = best == 1
    return Ranks(
        rank,
        np.quantile(best, tails(confidence)[0], axis=0),
        np.quantile(worst, tails(confidence)[1], axis=0),
        (leads / leads.sum(1, keepdims=True)).mean(0),
    )


def standard_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks with mean 0 and length 1; the inner product of two is Spearman's correlation.

    Equal values share the mean of their ranks.

    Args:
        values: [..., values].

    Returns:
        [..., values]; NaN where all values are equal.
    """
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2
    with np.errstate(invalid="ignore"):
        return ranks / np.linalg.norm(ranks, axis=-1, keepdims=True)


def spearman(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation over the last axis.

    Args:
        one, other: [..., values].

    Returns:
        [...]; NaN where all values of either are equal.
    """
    return (standard_ranks(one) * standard_ranks(other)).sum(-1)


def _means(rows: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean of each row's defined values, [draws, rows]; -inf if it has none."""
    defined = ~np.isnan(rows)
    # summed in the same order for every row, so that equal rows get equal means
    total = np.einsum("ds,rs->dr", weight, np.where(defined, rows, 0.0))
    often = np.einsum("ds,rs->dr", weight, defined.astype(np.float64))
    return np.where(often > 0, total / np.where(often > 0, often, 1.0), -np.inf)
