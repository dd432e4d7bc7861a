"""Means over few runs and many documents, where every run scores the same documents.

Runs (seeds) and documents are crossed random factors. The score of run s on document d is

    y_sd = mean + run_s + document_d + rest_sd

with S runs and D documents. With sample variances (ddof = 1), and for the rest the mean square with
(S - 1)(D - 1) degrees of freedom, the variance of the overall mean has the estimates

    V_runs = var(run means) / S    V_documents = var(document means) / D    V_rest = MS_rest / (S D)
    variance = V_runs + V_documents - V_rest

(the rest is part of both, so it is subtracted once). This is the two-way cluster-robust variance of
A. C. Cameron, J. B. Gelbach and D. L. Miller, Robust inference with multiway clustering, Journal of
Business & Economic Statistics 29 (2011).

**Quantile.** With t_f(p) the two-sided critical value of Student's t with f degrees of freedom, a
mean is significant at level p where its square exceeds the squared margin

    m(p)^2 = t_{S-1}(p)^2 V_runs + t_{D-1}(p)^2 V_documents - min(t_{S-1}(p), t_{D-1}(p))^2 V_rest

or either of its first two terms, whichever is larger. The p-value is the p at which |mean| = m(p),
and the interval of confidence c is mean ± m(1 - c), so the two always agree.

Each variance keeps its own quantile because few runs estimate their variance badly: with 3 runs the
estimate is a hundred times too small in 1 of 100 cases. Approximations that match moments (F. E.
Satterthwaite, Biometrics Bulletin 2, 1946; M. G. Kenward and J. H. Roger, Biometrics 53, 1997; for
cluster-robust variances R. M. Bell and D. F. McCaffrey, Survey Methodology 28, 2002) derive the
degrees of freedom from those estimates. Where V_runs is small by chance they arrive at many degrees
of freedom just when the margin is too narrow, and extreme p-values are too small by orders of
magnitude. The sum above cannot fail in this way. For independent chi-square estimates X_k of
variances v_k that add up to v,

    P(mean^2 <= sum_k t_k^2 X_k) >= 1 - p

since F(x) = P(Z^2 <= x) is concave, so that F(sum_k t_k^2 X_k / v) is at least the average, with
weights v_k / v, of F(t_k^2 X_k / v_k), each of which has the expectation 1 - p (S. K. Banerjee,
Sankhya 22, 1960; J. Hajek, Mathematical Bulletin 12, 1962, bounds the common t with the fewest
degrees of freedom in the same way). The effect of subtracting V_rest was simulated, see
`benchmarks/few_seeds.py`: error rates stay at or below the nominal level.

**Differences.** For two arms (configurations compared over seeds) with the same seeds, y_sd is the
difference seed by seed, whatever the variance of either arm. With different seeds each arm has its
own V_runs and quantile, and V_documents is that of the difference of document means. Variances are
not pooled over arms: an arm whose runs vary more than the others', as runs with randomly drawn
layers do, would be tested with too small a variance.

**Assumptions.** Run effects are normal. Runs that end at one of two levels can agree by chance, and
two of them often do, so no claim is made with fewer than `SEEDS_TO_CLAIM` seeds. With one run the
margin is that of documents alone and holds for this run only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.intervals import check_settings

Scores = NDArray[np.floating]

SEEDS_TO_CLAIM = 3
_LEAST_P = 1e-300  # below it no quantile is computed


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and documents with its interval.

    Attributes:
        mean: the mean.
        low, high: ends of the interval.
        p_value: two-sided p-value of the hypothesis that the mean is zero; it is below 1 -
            confidence exactly where the interval excludes zero.
        error: standard error of the mean.
        documents: number of documents.
        seeds: number of runs; for a difference of two arms, the smaller of their numbers. With one
            run, the interval and the p-value reflect variation over documents only.
    """

    mean: float
    low: float
    high: float
    p_value: float
    error: float
    documents: int
    seeds: int


@dataclass(frozen=True)
class MeanSquares:
    """Components of the estimated variance of a mean, as floats or arrays of equal shape.

    Attributes:
        runs: for each independent group of runs, (variance of the group's mean due to runs, degrees
            of freedom); empty if a group has only one run.
        documents: (variance of the mean due to documents, degrees of freedom).
        rest: the part of the variance that `runs` and `documents` both contain.
    """

    runs: tuple[tuple[Any, int], ...]
    documents: tuple[Any, int]
    rest: Any

    @property
    def variance(self) -> Any:
        """Variance of the mean, no less than the part due to runs or to documents alone."""
        runs = sum(part for part, _ in self.runs)
        documents = self.documents[0]
        return np.maximum(np.maximum(runs, documents), runs + documents - self.rest)

    def squared_margin(self, p: float) -> Any:
        """Return m(p)^2, which a mean's square has to exceed to be significant at level `p`.

        The formula is at the top of the module.

        Args:
            p: level of the two-sided test of the hypothesis that the mean is zero.
        """
        return self.squared_margin_by(lambda degrees: _squared_quantile(degrees, p))

    def squared_margin_by(self, squared_quantile: Callable[[int], float]) -> Any:
        """Return m^2 with other quantiles than Student's, such as Dunnett's for many comparisons.

        Args:
            squared_quantile: function from degrees of freedom to the square of the quantile.
        """
        quantiles = [squared_quantile(degrees) for _, degrees in self.runs]
        runs = sum(q * part for q, (part, _) in zip(quantiles, self.runs, strict=True))
        of_documents = squared_quantile(self.documents[1])
        documents = of_documents * self.documents[0]
        both = runs + documents - min([*quantiles, of_documents]) * self.rest
        return np.maximum(np.maximum(runs, documents), both)


def mean_squares(groups: Sequence[Scores], by_document: Scores) -> MeanSquares:
    """Estimate the components of the variance of a mean, or of a difference of two groups' means.

    Args:
        groups: scores [..., runs, documents] of each independent group of runs, on the same
            documents.
        by_document: [..., documents] each document's mean over runs; for two groups, the difference
            of their means over runs.
    """
    documents = by_document.shape[-1]
    of_documents = by_document.var(axis=-1, ddof=1) / documents, documents - 1
    if min(group.shape[-2] for group in groups) < 2:
        return MeanSquares((), of_documents, 0.0)
    runs = tuple(
        (group.mean(axis=-1).var(axis=-1, ddof=1) / group.shape[-2], group.shape[-2] - 1)
        for group in groups
    )
    rest = sum(_rest(group) / (group.shape[-2] * documents) for group in groups)
    return MeanSquares(runs, of_documents, rest)


def crossed_mean(values: Scores, confidence: float = 0.95) -> Estimate:
    """Return the mean of `values` over seeds and documents, with its interval.

    Args:
        values: [seeds, documents], finite.
        confidence: level of the interval, between 0 and 1.

    Raises:
        ValueError: `values` doesn't have two dimensions, contains fewer than two documents, or
            contains a value that isn't finite; or `confidence` is outside (0, 1).
    """
    scores = _checked(values)
    return _estimate([scores], scores.mean(axis=0), confidence)


def crossed_difference(a: Scores, b: Scores, paired: bool, confidence: float = 0.95) -> Estimate:
    """Return the mean of `a` minus the mean of `b`, with its interval.

    Args:
        a: [seeds, documents] scores of one arm.
        b: [seeds, documents] scores of the other arm on the same documents in the same order.
        paired: whether row i of `a` and row i of `b` have the same seed; otherwise the seeds of
            the two arms are independent.
        confidence: level of the interval, between 0 and 1.

    Raises:
        ValueError: `a` and `b` have different numbers of documents, or `paired` is true and they
            have different numbers of seeds; also for the reasons given in `crossed_mean`.
    """
    first, second = _checked(a), _checked(b)
    if first.shape[1] != second.shape[1] or (paired and len(first) != len(second)):
        raise ValueError(f"paired scores needed, got shapes {first.shape} and {second.shape}")
    if paired:
        return crossed_mean(first - second, confidence)
    by_document = first.mean(axis=0) - second.mean(axis=0)
    return _estimate([first, second], by_document, confidence)


def run_mean(values: Scores, confidence: float = 0.95) -> Estimate:
    """Return the mean of one value per run, with Student's interval over runs.

    Args:
        values: [runs], finite.
        confidence: level of the interval, between 0 and 1.

    Returns:
        The estimate, whose `documents` is 0. With one run there is no interval and no p-value: they
        are NaN.
    """
    return _of_runs([values], float(np.mean(values)), confidence)


def run_difference(a: Scores, b: Scores, paired: bool, confidence: float = 0.95) -> Estimate:
    """Return the mean of `a` minus the mean of `b`, for one value per run.

    Args:
        a, b: [runs] values of the two arms, finite.
        paired: whether `a[i]` and `b[i]` have the same seed; otherwise the runs of the two arms
            are independent, and each arm has its own variance.
        confidence: level of the interval, between 0 and 1.

    Returns:
        The estimate, as in `run_mean`.
    """
    if paired:
        return run_mean(np.asarray(a) - np.asarray(b), confidence)
    return _of_runs([a, b], float(np.mean(a) - np.mean(b)), confidence)


def _of_runs(groups: Sequence[Scores], mean: float, confidence: float) -> Estimate:
    check_settings(1, confidence)
    seeds = min(len(group) for group in groups)
    if seeds < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, 0, seeds)
    runs = tuple((float(np.var(group, ddof=1)) / len(group), len(group) - 1) for group in groups)
    squares = MeanSquares(runs, (0.0, 1), 0.0)
    error = math.sqrt(squares.variance)
    if error <= 1e-12 * max(float(np.abs(group).max()) for group in groups):
        return Estimate(mean, mean, mean, float(mean == 0), 0.0, 0, seeds)
    margin = math.sqrt(squares.squared_margin(1.0 - confidence))
    p_value = _p_value(mean, squares)
    return Estimate(mean, mean - margin, mean + margin, p_value, error, 0, seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for testing several hypotheses at once, in the given order.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on. A corrected value
    is never below the corrected value of a smaller p-value, and never above 1. If all hypotheses
    with a corrected value below alpha are rejected, the probability of one or more false rejections
    is at most alpha, however the tests depend on each other (S. Holm, A simple sequentially
    rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: the p-values of all hypotheses of the family.

    Raises:
        ValueError: a p-value is outside [0, 1].
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
    """Return the estimate of one group's mean, or of the difference of two groups' means.

    Args:
        groups: scores [runs, documents] of each independent group of runs.
        by_document: [documents] each document's mean over runs; for two groups, the difference of
            their means over runs.
        confidence: level of the interval, between 0 and 1.
    """
    check_settings(1, confidence)
    mean, seeds = float(by_document.mean()), min(len(group) for group in groups)
    squares = mean_squares(groups, by_document)
    error = math.sqrt(squares.variance)
    # differences of equal scores leave rounding errors, which are not variation
    noise = 1e-12 * max(float(np.abs(group).max()) for group in groups)
    if error <= noise:
        zero = float(abs(mean) <= noise)
        return Estimate(mean, mean, mean, zero, 0.0, by_document.size, seeds)
    margin = math.sqrt(squares.squared_margin(1.0 - confidence))
    p_value = _p_value(mean, squares)
    return Estimate(mean, mean - margin, mean + margin, p_value, error, by_document.size, seeds)


def _p_value(mean: float, squares: MeanSquares) -> float:
    """Return the level p at which the margin equals |mean|."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    if mean == 0:
        return 1.0
    # the margin is at least that of each part alone, so the p-value is at least that of each
    parts = [(float(part), degrees) for part, degrees in (*squares.runs, squares.documents)]
    alone = [2 * stdtr(f, -abs(mean) / math.sqrt(part)) for part, f in parts if part > 0]
    least = max(float(max(alone)), _LEAST_P)

    def excess(logarithm: float) -> float:
        return float(squares.squared_margin(math.exp(logarithm))) / mean**2 - 1.0

    low = math.log(least)
    if excess(low) <= 0:  # equal up to rounding, or too small to be computed
        return least
    return math.exp(brentq(excess, low, 0.0, xtol=1e-12))  # pyright: ignore


def _squared_quantile(degrees: int, p: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p / 2)) ** 2


def _rest(scores: Scores) -> Any:
    """Return the mean square that neither run nor document explains, [...]."""
    runs, documents = scores.shape[-2:]
    rest = scores - scores.mean(axis=-1, keepdims=True) - scores.mean(axis=-2, keepdims=True)
    rest = rest + scores.mean(axis=(-2, -1), keepdims=True)
    return (rest**2).sum(axis=(-2, -1)) / ((runs - 1) * (documents - 1))


def _checked(values: Scores) -> NDArray[np.float64]:
    # the same memory order for all, so that sums of equal scores are equal to the last bit
    scores = np.ascontiguousarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"expected [seeds, documents] of 2 or more documents, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite: leave undefined documents out of all runs")
    return scores
