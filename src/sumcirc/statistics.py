"""Uncertainty of a mean over documents: the percentile bootstrap.

From n values x_1..x_n draw n with replacement and take their mean; repeat B times. The interval of
confidence c goes from the (1-c)/2 to the (1+c)/2 quantile of the B means. For two systems scored on
the same items the same is done to the differences a_i - b_i, so that what the items have in common
cancels. Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

The draws depend on the seed and n alone: metrics of the same documents are resampled alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20  # values drawn at once: bounds memory to some 16 MB, whatever n and B are


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `n` values stand behind it.

    One value says nothing about its spread: with n = 1 the interval is that point.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` (one per document) with its percentile bootstrap interval.

    Raises ValueError for no values, values that aren't finite, less than 1 of `resamples` and a
    `confidence` outside (0, 1).
    """
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: must be at least 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must lie between 0 and 1")
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected a non-empty list of values, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("a value is NaN or infinite: leave undefined items out before averaging")

    rng = np.random.default_rng(seed)
    size = sample.size
    rows = max(1, _CHUNK // size)
    means = np.empty(resamples)
    for first in range(0, resamples, rows):
        last = min(first + rows, resamples)
        # The stream is that of one call per resample, so the chunk size doesn't show.
        chosen = rng.integers(size, size=(last - first, size))
        means[first:last] = sample[chosen].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(sample.mean()), float(low), float(high), size)


def bootstrap_difference(
    a: Sequence[float] | NDArray[np.floating],
    b: Sequence[float] | NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of a_i - b_i with its interval.

    `a` and `b` are scores of two systems on the same items in the same order. Raises
    ValueError when the lengths differ, and whatever `bootstrap_mean` raises.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values needed, got shapes {first.shape} and {second.shape}")
    return bootstrap_mean(first - second, resamples, confidence, seed)
