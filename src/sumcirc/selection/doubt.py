"""Refuse a ranking that is noise, however often resamples repeat it.

Two things make a ranking of nothing. **Rounding**: scores that are to be chosen are no larger than
the rounding in float32 of what they were computed from (`Scores.scale`), as with an adapter that
does nothing yet.
**Chance**: the targets differ by no more than documents do, by a test at 5 % that shuffles the
scores of each document among the targets (`statistics.noise`). Resamples repeat what happened to
come first in the sample, far more often than `by chance`, so they can't tell. The test takes
`MIN_DOCUMENTS` samples; with fewer no interval and no share of resamples is given either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.statistics.noise import ALPHA, ROUNDING, difference_p_value

REMEDY = "take more of them with selector.documents, or selector=random"


def check_signal(
    values: NDArray[np.float64],
    scale: float | None,
    count: int,
    names: tuple[str, str, str],
) -> None:
    """Refuse scores that are rounding error, or that chance explains.

    Args:
        values: [targets, samples], of a selector that measures.
        scale: of the quantities whose difference a score is; None for the largest score.
        count: targets to choose.
        names: of the selector, the targets and the samples, such as `entropy`, `layer`,
            `documents`.

    Raises:
        UserError: fewer than `count` scores exceed rounding, or the targets don't differ by more
            than the samples do.
    """
    selector, target, samples = names
    means = values.mean(1)
    largest = float(np.abs(means).max())
    floor = ROUNDING * max(scale or 0.0, largest)
    above = int((np.abs(means) > floor).sum())
    if above == 0:
        raise UserError(
            f"selector={selector}: no {target}'s score exceeds float rounding (the largest is"
            f" {largest:.1e}, rounding {floor:.1e}), so there is nothing to rank; the models it"
            " compares, or the base on these documents, show no effect"
        )
    if above < count:
        raise UserError(
            f"selector.count={count}: by selector={selector} only {above} of {len(means)} {target}s"
            f" have a score above float rounding ({floor:.1e}); the others would be chosen by their"
            f" number; choose at most {above}"
        )
    if values.shape[1] < MIN_DOCUMENTS or count == len(means):
        return
    p = difference_p_value(values)
    if p > ALPHA:
        raise UserError(
            f"selector={selector}: its scores don't tell the {target}s apart by more than chance"
            f" (p = {p:.2g} over {values.shape[1]} {samples}, {ALPHA:g} at most is asked for);"
            f" {REMEDY}"
        )
