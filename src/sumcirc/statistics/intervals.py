"""Uncertainty of a mean over documents (the percentile bootstrap) and tests of many heads at once.

From n values x_1..x_n draw n with replacement and take their mean; repeat B times. The interval of
confidence c goes from the (1-c)/2 to the (1+c)/2 quantile of the B means. For two systems scored on
the same items the same is done to the differences a_i - b_i, so that what the items have in common
cancels. Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

Of few values the interval is too narrow: for normal values one of 95 % covers the mean in 51 % of
samples of 2, 74 % of 3, 85 % of 5, 87 % of 8, 90 % of 10 and 93 % of 20 and 32 (simulated). Fewer
than `MIN_DOCUMENTS` have none: both ends are NaN.

The draws depend on the seed and n alone: metrics of the same documents are resampled alike.

`bootstrap_mean` takes one measure. The functions on arrays have documents on the last axis and NaN
where a document leaves a value undefined; every index of the other axes (layer and head) is a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_DOCUMENTS = 8  # values that an interval is given for, at least

_CHUNK = 1 << 20  # values drawn at once: bounds memory to some 16 MB, whatever n and B are
_EXACT = 50  # most values of a row whose exact Wilcoxon distribution is used, as scipy does


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `n` values stand behind it.

    Both ends are NaN where there are fewer than `MIN_DOCUMENTS` values.
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
    check_settings(resamples, confidence)
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected a non-empty list of values, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("a value is NaN or infinite: leave undefined items out before averaging")

    size = sample.size
    if size < MIN_DOCUMENTS:
        return Interval(float(sample.mean()), math.nan, math.nan, size)
    means = np.empty(resamples)
    for part, chosen in _draws(size, resamples, seed, _CHUNK // size):
        means[part] = sample[chosen].mean(axis=1)
    low, high = np.quantile(means, tails(confidence))
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


def mean_over(values: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    """Return the mean over an axis of what is defined there; NaN where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis)
    total = np.where(defined, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def bootstrap_means(
    values: NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of every row over its documents, and both ends of its interval.

    Each row is what `bootstrap_mean` says of its defined values, with the same draws. A row with
    no defined value has the mean NaN; one with fewer than `MIN_DOCUMENTS`, or with an infinite
    value, has the interval NaN to NaN.

    Args:
        values: [..., documents]; NaN is left out.

    Returns:
        Means, low and high ends: [...] each, in the unit of `values`.

    Raises:
        ValueError: `values` has no axis, or a setting is out of range as in `bootstrap_mean`.
    """
    check_settings(resamples, confidence)
    rows, shape = _as_rows(values)
    means, low, high = np.full((3, len(rows)), np.nan)
    # B means of a row are held at once, so rows are taken some at a time
    block = max(1, _CHUNK // resamples)
    for members, kept in _by_count(rows, ~np.isnan(rows)):
        with np.errstate(invalid="ignore"):  # inf - inf
            means[members] = kept.mean(axis=1)
        finite = np.isfinite(kept).all(axis=1)
        members, kept = members[finite], kept[finite]
        if kept.shape[1] < MIN_DOCUMENTS:
            continue
        for first in range(0, len(members), block):
            part = slice(first, first + block)
            low[members[part]], high[members[part]] = np.quantile(
                _resampled_means(kept[part], resamples, seed), tails(confidence), axis=0
            )
    return means.reshape(shape), low.reshape(shape), high.reshape(shape)


def bootstrap_ratios(
    values: NDArray[np.floating],
    whole: NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    rounding: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's mean over documents as a share of the mean of `whole`, with intervals.

    The ratio of the means, not the mean of ratios: a document on which `whole` is near zero has
    little weight instead of all. Documents are resampled, the same for both means.

    Args:
        values: [..., documents], finite.
        whole: [documents], finite.
        rounding: a mean of `whole` no larger than this is zero but for rounding.

    Returns:
        Ratios, low and high ends: [...] each. All three are NaN where the mean of `whole` is zero,
        and where its own interval includes zero, so that ratios are unbounded. A resample in which
        it is zero counts for nothing. Of fewer than `MIN_DOCUMENTS` documents both ends are NaN.

    Raises:
        ValueError: shapes or settings don't fit, or a value isn't finite.
    """
    check_settings(resamples, confidence)
    rows, shape = _as_rows(values)
    total = np.asarray(whole, dtype=np.float64)
    if total.shape != rows.shape[1:] or total.size == 0:
        raise ValueError(f"whole: shape {total.shape} beside {rows.shape[1:]} documents")
    if not (np.isfinite(rows).all() and np.isfinite(total).all()):
        raise ValueError("a value is NaN or infinite: leave undefined items out before averaging")
    ratios, low, high = np.full((3, len(rows)), np.nan)
    _, *ends = bootstrap_means(total, resamples, confidence, seed)
    if abs(total.mean()) <= rounding or includes_zero(*map(float, ends)):
        return ratios.reshape(shape), low.reshape(shape), high.reshape(shape)
    ratios = rows.mean(axis=1) / total.mean()
    block = max(1, _CHUNK // resamples)
    for first in range(0, len(rows) if total.size >= MIN_DOCUMENTS else 0, block):
        part = slice(first, first + block)
        drawn = _resampled_means(np.vstack([rows[part], total]), resamples, seed)
        counted = drawn[:, -1] != 0
        if counted.any():
            shares = drawn[counted, :-1] / drawn[counted, -1:]
            low[part], high[part] = np.quantile(shares, tails(confidence), axis=0)
    return ratios.reshape(shape), low.reshape(shape), high.reshape(shape)


def share_below_zero(
    differences: NDArray[np.floating],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the share of rows whose mean over documents is below zero, with its interval.

    For "the share of heads whose entropy fell". Documents are resampled, the same for all rows,
    and each resample counts anew, so rows that go together widen the interval as they should.
    Resampling adds noise to each mean: where many rows are within their own noise of zero, the
    interval lies nearer to one half than the share, and may leave it out.

    Args:
        differences: [..., documents]; NaN is left out, and rows of nothing but NaN don't count.

    Returns:
        The share, from 0 to 1; `n` is the number of documents with a defined value. With fewer
        than `MIN_DOCUMENTS` both ends of the interval are NaN; with none the share is NaN as well.

    Raises:
        ValueError: `differences` has no axis, or a setting is out of range as in `bootstrap_mean`.
    """
    check_settings(resamples, confidence)
    rows, _ = _as_rows(differences)
    defined = ~np.isnan(rows)
    rows = rows[np.ix_(defined.any(axis=1), defined.any(axis=0))]
    size = rows.shape[1]
    if size == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    defined = ~np.isnan(rows)
    # A mean has the sign of its sum. Infinite values: only their sign matters, and in a product of
    # matrices they would meet weights of zero.
    largest = np.finfo(np.float64).max / (2 * size**2)
    amounts = np.where(defined, np.clip(rows, -largest, largest), 0.0)
    share = float((amounts.sum(axis=1) < 0).mean())
    if size < MIN_DOCUMENTS:
        return Interval(share, np.nan, np.nan, size)
    shares = np.empty(resamples)
    present = defined.astype(np.float64)
    for part, chosen in _draws(size, resamples, seed, _CHUNK // max(rows.shape)):
        weights = _weights(chosen)
        fell = weights @ amounts.T < 0
        # a row of which no defined document was drawn has no mean in that resample
        counted = fell.shape[1] if defined.all() else (weights @ present.T > 0).sum(axis=1)
        shares[part] = fell.sum(axis=1) / counted
    low, high = np.quantile(shares, tails(confidence))
    return Interval(share, float(low), float(high), size)


def significantly_different(
    differences: NDArray[np.floating], alpha: float = 0.05
) -> NDArray[np.bool_]:
    """Say which rows differ from zero over documents, with the false discovery rate held.

    Each row is tested by the two-sided Wilcoxon signed-rank test (F. Wilcoxon, Individual
    comparisons by ranking methods, Biometrics Bulletin 1, 1945). Among all rows that are tested the
    expected share of false findings is held at `alpha` by the step-up procedure of Y. Benjamini
    and Y. Hochberg (Controlling the false discovery rate, J. R. Stat. Soc. B 57, 1995), which
    holds for independent and for positively dependent rows.

    Zeros are dropped from a row, as Wilcoxon did; a row of only zeros has p = 1. The distribution
    is exact up to 50 values (on the safe side with ties), normal beyond. With n documents the
    least p-value is 2 / 2^n, so that 5 documents can't reach 0.05, and with m rows of which only k
    differ, n has to be so large that 2 / 2^n <= alpha k / m.

    For rows that fell: `significantly_different(d) & (d.mean(axis=-1) < 0)`.

    Args:
        differences: paired, [..., documents]; NaN is left out row by row.
        alpha: false discovery rate.

    Returns:
        [...]; False for rows of fewer than two defined documents, which aren't tested.

    Raises:
        ValueError: `differences` has no axis, or `alpha` is outside (0, 1).
    """
    from scipy.stats import false_discovery_control, wilcoxon

    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha={alpha}: must lie between 0 and 1")
    rows, shape = _as_rows(differences)
    defined = ~np.isnan(rows)
    tested = defined.sum(axis=1) >= 2
    p_values = np.ones(len(rows))
    # One call for rows of equally many values: left to itself, scipy chooses one method for all
    # rows, so that a tie in one of them would change the p-values of the others.
    for members, kept in _by_count(rows, defined & (rows != 0)):
        method = "exact" if kept.shape[1] <= _EXACT else "auto"  # auto is normal beyond _EXACT
        result = wilcoxon(kept, axis=-1, method=method)
        p_values[members] = result.pvalue  # type: ignore[attr-defined]
    found = np.zeros(len(rows), dtype=bool)
    if tested.any():
        found[tested] = false_discovery_control(p_values[tested], method="bh") <= alpha
    return found.reshape(shape)


def bracketed(mean: float, low: float | None, high: float | None, form: str) -> str:
    """Return a mean with its interval, like `0.50 [0.40, 0.60]`.

    The mean alone where there is no interval, `-` where it isn't defined.

    Args:
        form: how numbers are written, such as `.2f`.
    """
    if not math.isfinite(mean):
        return "-"
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return format(mean, form)
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def excludes_zero(low: float, high: float) -> bool:
    """Return whether an interval lies above zero or below it; False where there is none."""
    return low > 0 or high < 0


def includes_zero(low: float, high: float) -> bool:
    """Return whether an interval includes zero; False where there is none."""
    return low <= 0 <= high


def check_settings(resamples: int, confidence: float) -> None:
    """Raise ValueError for less than 1 of `resamples` and a `confidence` outside (0, 1)."""
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: must be at least 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must lie between 0 and 1")


def tails(confidence: float) -> list[float]:
    """The quantiles at which an interval begins and ends."""
    tail = (1.0 - confidence) / 2.0
    return [tail, 1.0 - tail]


def _draws(
    size: int, resamples: int, seed: int, at_once: int
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Which of `size` values each resample draws, [resamples, size], some resamples at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, at_once)
    for first in range(0, resamples, step):
        last = min(first + step, resamples)
        # The stream is that of one call per resample, so the chunk size doesn't show.
        yield slice(first, last), rng.integers(size, size=(last - first, size))


def _weights(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each resample draws each value, [resamples, values]."""
    count, size = chosen.shape
    places = chosen + size * np.arange(count)[:, None]
    drawn = np.bincount(places.ravel(), minlength=count * size)
    return drawn.reshape(count, size).astype(np.float64)


def _resampled_means(rows: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of all resamples of every row, [resamples, rows]."""
    size = rows.shape[1]
    means = np.empty((resamples, len(rows)))
    for part, chosen in _draws(size, resamples, seed, _CHUNK // size):
        means[part] = _weights(chosen) @ rows.T / size
    return means


def _as_rows(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """[..., documents] as [rows, documents], and the shape of the rows."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        raise ValueError("expected an array whose last axis is documents, got a number")
    shape = array.shape[:-1]
    return array.reshape(math.prod(shape), array.shape[-1]), shape


def _by_count(
    rows: NDArray[np.float64], kept: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Rows with equally many kept values together: their places, and [members, values]."""
    counts = kept.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == count)
        yield members, rows[members][kept[members]].reshape(len(members), count)
