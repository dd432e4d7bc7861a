"""Quantiles for comparing many means at once, all with the same independent estimate of variance.

Let k means have independent normal errors of variance v, and let s^2 be an estimate of v with f
degrees of freedom. Compared with one of them, the other k - 1 have the statistics

    T_j = (mean_j - mean_0) / (s sqrt(2))

`dunnett_quantile` is the d with P(max_j T_j <= d) = 1 - p: one-sided critical values of C. W.
Dunnett, A multiple comparison procedure for comparing several treatments with a control, Journal of
the American Statistical Association 50 (1955). `range_quantile` is the r with P(max |mean_i -
mean_j| <= r s sqrt(2)) = 1 - p, over all pairs: the studentized range divided by sqrt(2) (J. W.
Tukey; see J. C. Hsu, Multiple Comparisons, 1996, chapter 5).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MANY = 20_000  # degrees of freedom above which the variance counts as known
_NODES = 128


@lru_cache(maxsize=256)
def dunnett_quantile(means: int, degrees: int, p: float) -> float:
    """Return the one-sided critical value for comparing `means` - 1 means with one of them.

    With two means it is Student's one-sided critical value.

    Args:
        means: number of means, including the one with which the others are compared.
        degrees: degrees of freedom of the variance's estimate.
        p: one-sided level of the whole family of comparisons, below 1/2.

    Raises:
        ValueError: there are fewer than two means, or `p` is outside (0, 1/2).
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, stdtrit

    if means < 2 or degrees < 1 or not 0 < p < 0.5:
        raise ValueError(f"means={means}, degrees={degrees}, p={p}: out of range")
    z, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    spreads, shares = _spreads(degrees)

    def excess(quantile: float) -> float:
        below = ndtr(z + np.sqrt(2.0) * quantile * spreads[:, None]) ** (means - 1)
        return float(shares @ (below @ weights)) - (1.0 - p)

    # between the critical values for one comparison and for comparisons that share nothing
    low = float(stdtrit(degrees, 1.0 - p))
    high = float(stdtrit(degrees, 1.0 - p / (means - 1)))
    if means == 2:
        return low
    return float(brentq(excess, 0.99 * low, 1.01 * high, xtol=1e-8))  # pyright: ignore


@lru_cache(maxsize=256)
def range_quantile(means: int, degrees: int, p: float) -> float:
    """Return the critical value for all pairwise differences of `means` means, two-sided.

    With two means it is Student's two-sided critical value.

    Args:
        means: number of means.
        degrees: degrees of freedom of the variance's estimate.
        p: level of the whole family of comparisons.

    Raises:
        ValueError: there are fewer than two means, or `p` is outside (0, 1).
    """
    from scipy.stats import studentized_range

    if means < 2 or degrees < 1 or not 0 < p < 1:
        raise ValueError(f"means={means}, degrees={degrees}, p={p}: out of range")
    return float(studentized_range.isf(p, means, degrees)) / math.sqrt(2.0)


@lru_cache(maxsize=64)
def _spreads(degrees: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values of the estimated spread over the true one, [values], with their weights."""
    from scipy.special import chdtri

    if degrees > _MANY:
        return np.ones(1), np.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # quadrature over the probability; its square root makes small spreads, which matter, denser
    root = (nodes + 1) / 2
    share = root**2
    spreads = np.sqrt(chdtri(degrees, 1.0 - share) / degrees)
    return spreads, weights * root
