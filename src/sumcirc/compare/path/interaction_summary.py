"""Interactions of pairs of units as means with intervals, and as rows with a value per item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.path.interactions import Interactions
from sumcirc.compare.path.units import Unit
from sumcirc.statistics import bootstrap_ratios, significantly_different

Values = NDArray[np.float64]


def interaction_summary(
    found: Interactions, units: Sequence[Unit], gain: Values
) -> list[dict[str, Any]]:
    """Return the interactions of each pair as shares of the gain, by kind.

    For every kind, the false discovery rate over all pairs is controlled.

    Args:
        found: the interactions, with a value for each item.
        units: the units.
        gain: [items] metric after minus metric before.
    """
    rows: list[dict[str, Any]] = [
        {"units": [units[i].label, units[j].label]} for i, j in found.pairs
    ]
    for kind, values in found.values.items():
        shares, significant = bootstrap_ratios(values, gain), significantly_different(values)
        for place, row in enumerate(rows):
            mean, low, high = (float(one[place]) for one in shares)
            row[kind] = {
                **{"mean": mean, "low": low, "high": high},
                "significant": bool(significant[place]),
            }
    return rows


def interaction_rows(
    found: Interactions, units: Sequence[Unit], items: Sequence[str], grain: str
) -> Iterator[Mapping[str, Any]]:
    """Yield a row for every kind, pair and item.

    Args:
        found: the interactions.
        units: the units.
        items: ids of the items.
        grain: the grain of the units.
    """
    for kind, values in found.values.items():
        for (i, j), row in zip(found.pairs, values, strict=True):
            about = {"kind": kind, "grain": grain, "unit": units[i].label, "other": units[j].label}
            for item, value in zip(items, row, strict=True):
                yield about | {"item": item, "value": float(value)}
