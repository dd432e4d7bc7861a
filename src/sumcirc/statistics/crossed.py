"""Uncertainty of a mean over seeds and documents, where every seed's run scores the same documents.

Seeds and documents are crossed random factors. The score of seed s on document d is

    y_sd = mean + seed_s + document_d + rest_sd

with S seeds and D documents. The mean of all y_sd varies because other seeds and other documents
could have been drawn. `crossed_mean` estimates that variance from mean squares,

    T_seeds = var(mean of each seed) / S           T_documents = var(mean of each document) / D
    T_rest  = var(rest) / (S D)                    variance = T_seeds + T_documents - T_rest

(the rest is in both of the former, so it is taken off once; the variance is no less than either of
them, of which both are expected to lie below it), and takes Student's t with

    degrees = variance^2 / (T_seeds^2 / (S - 1) + T_documents^2 / (D - 1))

degrees of freedom after Satterthwaite. This is how studies of few readers and many cases are
analysed: S. L. Hillis, A comparison of denominator degrees of freedom methods for multiple observer
ROC analysis, Statistics in Medicine 26 (2007), with seeds as readers and documents as cases; the
term of the documents is added to his formula for the sake of few documents.

`crossed_bootstrap` resamples seeds and documents, each with replacement (the pigeonhole bootstrap:
A. B. Owen, Annals of Applied Statistics 1, 2007). It assumes no distribution, but of 3 seeds it can
draw 10 different sets only, and the variance of their means is (S - 1) / S of what it should be:
where seeds matter its interval is far too narrow. No choice of quantiles repairs that (T. C.
Hesterberg, The American Statistician 69, 2015, section 5.3), so it is good from some 20 seeds on.

With one seed nothing is known of other seeds: documents alone vary, and `seeds_vary` is False.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.documents import check_settings, tails

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and documents, its interval, and the two-sided p-value of its being zero.

    The interval of confidence c leaves out zero exactly where `p_value` < 1 - c. Where `seeds_vary`
    is False it holds for the given seeds only.
    """

    mean: float
    low: float
    high: float
    p_value: float
    degrees: float
    documents: int
    seeds_vary: bool


def crossed_mean(values: Scores, confidence: float = 0.95) -> Estimate:
    """Return the mean of `values` [seeds, documents] with its interval.

    Raises:
        ValueError: not two axes, fewer than two documents, a value that isn't finite, or a
            `confidence` outside (0, 1).
    """
    scores = _checked(values)
    return _estimate([scores], scores.mean(axis=0), confidence)


def crossed_difference(a: Scores, b: Scores, paired: bool, confidence: float = 0.95) -> Estimate:
    """Return the mean of `a` minus the mean of `b` with its interval.

    Args:
        a: [seeds, documents].
        b: [seeds, documents] on the same documents in the same order.
        paired: row i of both is of the same seed; else their seeds are independent.

    Raises:
        ValueError: other documents, or paired with other numbers of seeds; as `crossed_mean`.
    """
    first, second = _same_documents(a, b, paired)
    if paired:
        return crossed_mean(first - second, confidence)
    by_document = first.mean(axis=0) - second.mean(axis=0)
    return _estimate([first, second], by_document, confidence)


def crossed_bootstrap(
    values: Scores, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return both ends of the percentile interval of the mean of `values` [seeds, documents].

    Raises:
        ValueError: as `crossed_mean`, or less than 1 of `resamples`.
    """
    scores = _checked(values)
    return _percentiles([scores], [1.0], resamples, confidence, seed)


def crossed_bootstrap_difference(
    a: Scores,
    b: Scores,
    paired: bool,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return both ends of the percentile interval of the mean of `a` minus that of `b`.

    Documents are drawn for both at once, and so are seeds where `paired`. Arguments and errors are
    those of `crossed_difference`.
    """
    first, second = _same_documents(a, b, paired)
    if paired:
        return crossed_bootstrap(first - second, resamples, confidence, seed)
    return _percentiles([first, second], [1.0, -1.0], resamples, confidence, seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being a family, in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is less than one before
    it, none above 1. Calling those below alpha different errs anywhere in the family with a
    probability of at most alpha, however the tests depend on each other (S. Holm, A simple
    sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979).

    Raises ValueError for a p-value outside [0, 1].
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError(f"p-values must lie in [0, 1], got {list(p_values)}")
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _estimate(groups: Sequence[Scores], by_document: Scores, confidence: float) -> Estimate:
    """Of a sum over independent groups of seeds; `by_document` is what they amount to on each."""
    from scipy.special import stdtr, stdtrit

    check_settings(1, confidence)
    mean, size = float(by_document.mean()), by_document.size
    variance = documents = by_document.var(ddof=1) / size
    spread = documents**2 / (size - 1)
    vary = all(len(group) > 1 for group in groups)
    if vary:
        seeds = [group.mean(axis=1).var(ddof=1) / len(group) for group in groups]
        rest = sum(_rest(group) / group.size for group in groups)
        variance = max(sum(seeds) + documents - rest, sum(seeds), documents)
        spread += sum(part**2 / (len(group) - 1) for part, group in zip(seeds, groups, strict=True))
    # differences of equal scores leave rounding errors that no spread should be made of
    scale = max(float(np.abs(group).max()) for group in groups)
    if variance <= (1e-12 * scale) ** 2:
        zero = abs(mean) <= 1e-12 * scale
        return Estimate(mean, mean, mean, float(zero), size - 1.0, size, vary)
    degrees = variance**2 / spread
    error = math.sqrt(variance)
    half = error * float(stdtrit(degrees, tails(confidence)[1]))
    p_value = float(2.0 * stdtr(degrees, -abs(mean) / error))
    return Estimate(mean, mean - half, mean + half, p_value, float(degrees), size, vary)


def _rest(scores: Scores) -> float:
    """Mean square of what neither seed nor document explains."""
    seeds, documents = scores.shape
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    return float((rest**2).sum() / ((seeds - 1) * (documents - 1)))


def _percentiles(
    groups: Sequence[Scores],
    signs: Sequence[float],
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    check_settings(resamples, confidence)
    size = groups[0].shape[1]
    documents = _drawn(size, resamples, (seed, 0))
    means = np.zeros(resamples)
    for place, (group, sign) in enumerate(zip(groups, signs, strict=True), start=1):
        seeds = _drawn(len(group), resamples, (seed, place))
        means += sign * ((seeds @ group) * documents).sum(axis=1)
    low, high = np.quantile(means, tails(confidence))
    return float(low), float(high)


@lru_cache(maxsize=8)
def _drawn(size: int, resamples: int, seed: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each of `size` in each resample, [resamples, size]; the same for all measures."""
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(size, np.full(size, 1.0 / size), size=resamples) / size
    shares.flags.writeable = False
    return shares


def _checked(values: Scores) -> NDArray[np.float64]:
    # one order in memory: sums of equal scores are equal to the last bit
    scores = np.ascontiguousarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"expected [seeds, documents] of 2 or more documents, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite: leave undefined documents out of all runs")
    return scores


def _same_documents(
    a: Scores, b: Scores, paired: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _checked(a), _checked(b)
    if first.shape[1] != second.shape[1] or (paired and len(first) != len(second)):
        raise ValueError(f"paired scores needed, got shapes {first.shape} and {second.shape}")
    return first, second
