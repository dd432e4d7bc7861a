"""Numbers of JSON records, in which null stands for NaN."""

from __future__ import annotations

import math


def or_nan(value: float | None) -> float:
    """Return a number of a record, NaN for null.

    Args:
        value: the number.
    """
    return math.nan if value is None else value
