"""What happened inside the model of a run, as values by which arms can be compared.

The values are those at the last step at which the run's watchers measured. Measures of attention
and of the residual stream have a value for each measured document; the circuit tracker's have one
value for each run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.reporting.measured import entropy_difference, measured
from sumcirc.statistics import mean_over
from sumcirc.tracking.measure_records import ATTENTION_KL, FAITHFULNESS, ProbeRecord


@dataclass(frozen=True)
class InsideMeasure:
    """Description of a value by which arms are compared.

    Attributes:
        label: name of the measure in tables.
        unit: unit of the values; empty for a pure number.
        by_run: whether a run has one value, rather than one for each document.
    """

    label: str
    unit: str
    by_run: bool = False


INSIDE = {
    "attention_kl": InsideMeasure("attention KL", "nats"),
    "entropy_change": InsideMeasure("entropy change", "nats"),
    "drift": InsideMeasure("drift", ""),
    "output_kl": InsideMeasure("output KL", "nats"),
    "circuit_faithfulness": InsideMeasure("circuit faithfulness", "", by_run=True),
    "circuit_overlap": InsideMeasure("circuit overlap", "", by_run=True),
}
# metrics in metrics.csv that have one value for each run
OF_RUNS = {"circuit_faithfulness": FAITHFULNESS, "circuit_overlap": "circuit/jaccard_base"}

EXPLANATION = (
    "Values at the last measured step, as means over layers and heads. Attention KL and output KL:"
    " KL(tuned || base) of attention and of the next token. Entropy change: attention entropy minus"
    " the base's. Drift: norm of the change of the last residual stream, divided by the base's"
    " norm. Circuit overlap: Jaccard index of the edges of the circuits before and after training."
)


@dataclass(frozen=True, eq=False)
class InsideValues:
    """A run's values of one measure.

    Attributes:
        documents: ids of the measured documents; empty for a measure with one value per run.
        values: [documents] values, or a single one.
    """

    documents: tuple[str, ...]
    values: NDArray[np.float64]


def inside_values(
    record: ProbeRecord | None,
    base: ProbeRecord | None,
    metrics: Mapping[str, list[tuple[int, float]]],
) -> dict[str, InsideValues]:
    """Return a run's values of the measures in `INSIDE` that it recorded.

    Args:
        record: measure record of the last measured step, if there is one.
        base: measure record of the base model, if there is one.
        metrics: the run's values of each metric as (step, value), by name.
    """
    found = {
        name: InsideValues((), np.array([metrics[metric][-1][1]], dtype=np.float64))
        for name, metric in OF_RUNS.items()
        if metrics.get(metric)
    }
    if record is None:
        return found
    readers = {
        "attention_kl": lambda: _over_heads(measured(record, ATTENTION_KL)),
        "entropy_change": lambda: _over_heads(entropy_difference(record, base)),
        "drift": lambda: measured(record, "residual/relative_change")[-1],
        "output_kl": lambda: measured(record, "output/kl_tuned_base"),
    }
    for name, read in readers.items():
        try:
            found[name] = InsideValues(tuple(record.documents), read())
        except NotDrawableError:
            continue  # the run has no watcher for this measure
    return found


def _over_heads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means [documents] of values [layers, heads, documents]."""
    return mean_over(values.reshape(-1, values.shape[-1]), axis=0)
