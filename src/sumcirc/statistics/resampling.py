"""Documents resampled with replacement, with the same draws for every array of equal length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.intervals import MIN_DOCUMENTS, Interval


def resampled(values: NDArray[np.floating], resamples: int) -> NDArray[np.float64]:
    """Return the mean of each bootstrap resample of the last axis.

    Args:
        values: [..., samples].
        resamples: number of resamples.

    Returns:
        [..., resamples] means; all rows use the same resamples.
    """
    return values.astype(np.float64) @ weights(values.shape[-1], resamples).T


def weights(samples: int, resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the weight of each sample in the mean of each bootstrap resample.

    Args:
        samples: number of values that are resampled.
        resamples: number of resamples.
        seed: seed of the random draws.

    Returns:
        [resamples, samples]; every row adds up to 1.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(samples, np.full(samples, 1 / samples), resamples) / samples


@dataclass(frozen=True)
class Bootstrap:
    """A percentile bootstrap over documents, for any statistic of the documents drawn.

    Attributes:
        resamples: number of resamples.
        seed: seed of the draws.
        confidence: level of the interval, between 0 and 1.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def interval(self, statistic: Callable[[NDArray[np.int64]], Any], documents: int) -> Interval:
        """Return the value of a statistic on all documents, with its interval.

        Resamples in which the statistic is not finite are ignored. The ends are NaN with fewer than
        `MIN_DOCUMENTS` documents.

        Args:
            statistic: function that maps indices of drawn documents [..., documents] to values
                [...].
            documents: number of documents.
        """
        value = float(statistic(np.arange(documents)))
        draw = np.random.default_rng(self.seed)
        picks = draw.integers(documents, size=(self.resamples, documents))
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.asarray(statistic(picks), dtype=np.float64)
        # a resample in which corruption makes no difference has no ratio
        drawn = drawn[np.isfinite(drawn)]
        tail = (1 - self.confidence) / 2
        told = documents >= MIN_DOCUMENTS and len(drawn) > 0
        low, high = np.quantile(drawn, [tail, 1 - tail]) if told else (np.nan, np.nan)
        return Interval(value, float(low), float(high), documents)
