"""Telling a value from noise: rounding of float32, and differences that chance reaches too.

**Rounding.** A number found as the difference of quantities of size x is rounding where it is no
more than `ROUNDING` x, four units in the last place. With every weight of the built-in model
changed by half a unit at random, KL of attention, entropy and shares of edges change by 1e-8 to
1e-7.

**Chance.** If rows (layers, say) differ by no more than documents do, the values of a document
might as well stand at other rows. So they are shuffled among the rows, in each document anew, and
counted how often the rows then differ as much as they do (a permutation test; E. S. Edgington,
Randomization Tests, 1980). The statistic is that of an analysis of variance with documents as
blocks, the sum of squares between rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05  # above it a difference is noise
DRAWS = 999
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # 4.8e-7, of the quantities that are differenced

_TIE = 1e-9  # relative: sums in another order are the same value


def difference_p_value(values: NDArray[np.floating], draws: int = DRAWS, seed: int = 0) -> float:
    """Return the p-value of the hypothesis that all rows have the same mean over documents.

    What the rows of a document have in common is taken off first.

    Args:
        values: [rows, documents], finite.

    Returns:
        From 1 / (draws + 1) to 1; 1 where all rows are equal.
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


def _spread(deviations: NDArray[np.float64]) -> float:
    """The sum of squares between rows, up to a factor; that of all values stays the same."""
    return float((deviations.sum(1) ** 2).sum())
