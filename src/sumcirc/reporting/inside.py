"""What happened inside the model of a run, as values by which arms can be compared.

The values are those at the last step at which the run's watchers measured. Measures of attention
and of the residual stream have a value for each measured document; the circuit tracker's have one
value for each run. What was measured on other texts after training is among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    "retention_change": InsideMeasure("nll of other texts, change", "nats"),
    "retention_kl": InsideMeasure("KL on other texts", "nats"),
    "circuit_faithfulness": InsideMeasure("circuit faithfulness", "", by_run=True),
    "circuit_overlap": InsideMeasure("circuit overlap", "", by_run=True),
}
# metrics in metrics.csv that have one value for each run
OF_RUNS = {"circuit_faithfulness": FAITHFULNESS, "circuit_overlap": "circuit/jaccard_base"}

EXPLANATION = (
    "Values at the last measured step, as means over layers and heads. Attention KL and output KL:"
    " KL(tuned || base) of attention and of the next token. Entropy change: attention entropy minus"
    " the base's. Drift: norm of the change of the last residual stream, divided by the base's"
    " norm. Other texts: those of `evaluation.retention` after training, all corpora together; the"
    " change of the negative log-likelihood a token, and KL(base || tuned). Circuit overlap:"
    " Jaccard index of the edges of the circuits before and after training."
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


def retention_values(
    rows: Sequence[Mapping[str, Any]], corpora: Mapping[str, Mapping[str, Any]]
) -> dict[str, InsideValues]:
    """Return what a run measured on other texts; empty if it measured none, or has no base.

    Args:
        rows: rows of the run's retention.parquet.
        corpora: the section `retention` of its summary.json.
    """
    if not rows or any("kl" not in one for one in corpora.values()):
        return {}
    # a text is the same only if its whole corpus is
    names = tuple(f"{corpora[row['corpus']]['items']}/{row['id']}" for row in rows)
    changes = np.array([row["nll"] - row["base_nll"] for row in rows], dtype=np.float64)
    divergences = np.array([row["kl"] for row in rows], dtype=np.float64)
    return {
        "retention_change": InsideValues(names, changes),
        "retention_kl": InsideValues(names, divergences),
    }


def _over_heads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means [documents] of values [layers, heads, documents]."""
    return mean_over(values.reshape(-1, values.shape[-1]), axis=0)
