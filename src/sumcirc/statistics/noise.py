"""Criteria for noise: float32 rounding, gaps that may be zero, and differences due to chance.

**Rounding.** A difference of quantities of size x is treated as rounding where it is no more than
`ROUNDING` x, four units in the last place. With every weight of the built-in model changed by half
a unit at random, KL of attention, entropy and edge fractions change by 1e-8 to 1e-7. Losses and
logits result from exponentials and their sums, so they are rounded like quantities of size 1 even
where they are smaller.

**No gap.** A fraction of a gap between two means is unbounded where the gap may be zero. So no
fraction is given where the mean gap is rounding or, with `MIN_DOCUMENTS` documents or more, where
its bootstrap interval includes zero.

**Chance.** If rows (layers, say) differ by no more than documents do, the values of a document are
exchangeable between rows. So they are shuffled among the rows, independently in each document, and
the p-value is how often the shuffled rows differ as much as the real ones (a permutation test; E.
S. Edgington, Randomization Tests, 1980). The statistic is that of an analysis of variance with
documents as blocks, the sum of squares between rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics.intervals import (
    bootstrap_difference,
    bootstrap_ratios,
    bracketed,
    includes_zero,
)

ALPHA = 0.05  # p-values above it mean that a difference is noise
DRAWS = 999
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # 4.8e-7, relative to the subtracted quantities

_TIE = 1e-9  # relative tolerance: sums in another order count as equal


def rounding_of(*quantities: NDArray[np.floating] | float) -> float:
    """Return the size up to which a difference of mean losses or logits is treated as rounding.

    Args:
        quantities: the subtracted losses or logits, numbers or arrays.
    """
    return ROUNDING * max(1.0, *(float(np.abs(one).mean()) for one in quantities))


def no_gap(first: NDArray[np.floating], second: NDArray[np.floating]) -> str | None:
    """Return why the mean of `second` - `first` can't be distinguished from zero, or None.

    Args:
        first, second: [documents] losses or logits of the same documents.

    Returns:
        The mean with the reason, such as `0.1 [-0.2, 0.4], which includes zero`; None if the mean
        can be distinguished from zero.
    """
    gap = bootstrap_difference(second, first)
    if abs(gap.mean) <= rounding_of(first, second):
        return f"{gap.mean:.1e}, which is rounding"
    if includes_zero(gap.low, gap.high):
        return f"{bracketed(gap.mean, gap.low, gap.high, '.3g')}, which includes zero"
    return None


def shares_of_gap(
    effects: NDArray[np.floating], first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean effects as fractions of the mean of `second` - `first`, with intervals.

    Args:
        effects: [..., documents] effects in the unit of the losses or logits.
        first, second: [documents] losses or logits of the same documents.

    Returns:
        Fractions, low ends and high ends of their intervals, [...] each as in `bootstrap_ratios`;
        all are NaN where `no_gap` gives a reason.
    """
    return bootstrap_ratios(effects, second - first, rounding=rounding_of(first, second))


def difference_p_value(values: NDArray[np.floating], draws: int = DRAWS, seed: int = 0) -> float:
    """Return the p-value of the hypothesis that all rows have the same mean over documents.

    It is computed by a permutation test after each document's mean over rows is subtracted.

    Args:
        values: [rows, documents], finite.
        draws: number of random permutations.
        seed: seed of the permutations.

    Returns:
        A value from 1 / (draws + 1) to 1; 1 where all rows are equal.
    """
    rows = np.asarray(values, dtype=np.float64)
    deviations = rows - rows.mean(0)
    deviations[np.abs(deviations) <= _TIE * np.abs(rows).max(initial=0.0)] = 0.0
    random = np.random.default_rng(seed)
    found = _spread(deviations)
    reached = sum(
        _spread(random.permuted(deviations, axis=0)) >= found * (1 - _TIE) for _ in range(draws)
    )
    return (1 + reached) / (1 + draws)


def sign_flip_p_values(
    values: NDArray[np.floating], draws: int = 9999, seed: int = 0
) -> NDArray[np.float64]:
    """Return p-values of the hypotheses that rows are symmetric about zero, against means above it.

    The signs of a row's values are flipped; the p-value is how often the mean is then at least as
    large. With n values it is no smaller than 1 / 2^n, values of zero not counted.

    Args:
        values: [rows, documents], finite.
        draws: number of random flips of all signs; if there are no more than these, each flip is
            made once, and p-values are exact.
        seed: seed of the flips.

    Returns:
        [rows] p-values.
    """
    rows = np.asarray(values, dtype=np.float64)
    count = rows.shape[1]
    exact = 2**count <= draws
    if exact:
        flips = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, count))
    found = rows.sum(1)
    slack = _TIE * np.abs(rows).sum(1)
    reached = (flips @ rows.T >= found - slack).sum(0)
    return reached / len(flips) if exact else (1 + reached) / (1 + draws)


def _spread(deviations: NDArray[np.float64]) -> float:
    """Return the between-row sum of squares, up to a constant factor."""
    return float((deviations.sum(1) ** 2).sum())
