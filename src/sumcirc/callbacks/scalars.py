"""Converts measure records to named scalars: overall means, and means by layer.

Names are `MEASURE` for the mean over layers, heads and documents and `MEASURE/layer_03` for one
layer. For measures of the residual stream they are `MEASURE/embedding`, and `MEASURE/layer_03` for
the stream after layer 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.statistics import bootstrap_means
from sumcirc.tracking.measure_records import MEASURES, STREAM, ProbeRecord

HEAD_COLUMNS = ("step", "layer", "head", "measure", "value", "low", "high")  # columns of `by_head`


def overall(record: ProbeRecord, *names: str) -> dict[str, float]:
    """Return the mean of each measure over layers, heads and documents, by the measure's name.

    Undefined values are ignored, and measures without any defined value are omitted.

    Args:
        record: the measures of one step.
        names: names of the measures to average.
    """
    found = {name: float(mean_of(record.values[name])) for name in names}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def by_layer(record: ProbeRecord, *names: str) -> dict[str, float]:
    """Return the mean of each measure in each layer, over heads and documents.

    Args:
        record: the measures of one step.
        names: names of the measures to average.

    Returns:
        The means, by names such as `MEASURE/layer_03`; undefined means are omitted.
    """
    found = {}
    for name in names:
        values = record.values[name]
        for place in range(len(values)):
            value = mean_of(values[place])
            if np.isfinite(value):
                found[f"{name}/{place_name(name, place)}"] = float(value)
    return found


def place_name(name: str, place: int) -> str:
    """Return the name of an entry along a measure's first dimension: `layer_03` or `embedding`.

    Args:
        name: name of the measure.
        place: index along the measure's first dimension.
    """
    if MEASURES[name].axes != STREAM:
        return f"layer_{place:02d}"
    return "embedding" if place == 0 else f"layer_{place - 1:02d}"


def mean_of(values: NDArray[np.floating]) -> np.floating | float:
    """Return the mean of the finite values, or NaN if there are none.

    Args:
        values: an array of any shape.
    """
    defined = np.isfinite(values)
    return values[defined].mean(dtype=np.float64) if defined.any() else np.nan


def by_head(
    record: ProbeRecord, name: str, values: NDArray[np.floating] | None = None, label: str = ""
) -> list[tuple[int, int, int, str, float, float | None, float | None]]:
    """Return a table of one measure by head, with bootstrap intervals over documents.

    Args:
        record: the measures of one step.
        name: name of the measure.
        values: [layers, heads, documents] values to average over documents; None for the measure's
            values in `record`.
        label: name of the measure in the rows; if empty, `name`.

    Returns:
        One row per head with the columns HEAD_COLUMNS; `low` and `high` are None where there is no
        interval.
    """
    means, low, high = bootstrap_means(record.values[name] if values is None else values)
    return [
        (
            record.step,
            layer,
            head,
            label or name,
            float(means[layer, head]),
            _defined(low[layer, head]),
            _defined(high[layer, head]),
        )
        for layer in range(means.shape[0])
        for head in range(means.shape[1])
    ]


def _defined(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
