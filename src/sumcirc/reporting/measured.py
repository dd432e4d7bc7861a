"""Reads values from measure records, and names measures and records in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.statistics import mean_over
from sumcirc.tracking.measure_records import ENTROPY, MEASURES, ProbeRecord

STREAM_LABEL = "residual stream (0: embedding, l: after layer l − 1)"
ALPHA = 0.05  # false discovery rate for marked heads


def measured(record: ProbeRecord, name: str) -> NDArray[np.float64]:
    """Return the values of a measure from a record, with NaN for values that are not finite.

    Args:
        record: record of one checkpoint.
        name: name of the measure.

    Raises:
        NotDrawableError: the record lacks the measure.
    """
    if name not in record.values:
        raise NotDrawableError(
            f"{record_name(record)}: its record has no `{name}`; measure it again with the"
            " callback that logs it"
        )
    values = np.asarray(record.values[name], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def document_means(records: Sequence[ProbeRecord], name: str) -> NDArray[np.float64]:
    """Return the means of a measure over documents, as an array [records, ...].

    The other dimensions are those of the measure, such as layers and heads.

    Args:
        records: records of several checkpoints.
        name: name of the measure.

    Raises:
        NotDrawableError: there are no records, one lacks the measure, or the records are of
            different models.
    """
    if not records:
        raise NotDrawableError("no measure record")
    means = [mean_over(measured(record, name), axis=-1) for record in records]
    if len({mean.shape for mean in means}) > 1:
        raise NotDrawableError(f"`{name}`: the records are of models of different depth")
    return np.stack(means)


def entropy_difference(record: ProbeRecord, base: ProbeRecord | None) -> NDArray[np.float64]:
    """Return the change of attention entropy, [layers, heads, documents] in nats.

    Args:
        record: record of the tuned model.
        base: record of the base model; None raises NotDrawableError.

    Raises:
        NotDrawableError: a record is missing or lacks the measure, or the records are of different
            documents or models.
    """
    if base is None:
        raise NotDrawableError("there is no record of the base")
    tuned, before = measured(record, ENTROPY), measured(base, ENTROPY)
    if record.documents != base.documents or tuned.shape != before.shape:
        raise NotDrawableError(
            f"{record_name(record)} and {record_name(base)}: their records are of different"
            " documents or models; measure both on the same documents"
        )
    return tuned - before


def labelled(name: str) -> str:
    """Return the label of a measure, followed by its unit in parentheses if it has one.

    Args:
        name: name of the measure.
    """
    measure = MEASURES[name]
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def record_name(record: ProbeRecord) -> str:
    """Return the name by which views and messages refer to a record, such as `step 200`.

    Args:
        record: record of one checkpoint.
    """
    named = record.found.get("name")
    return named or step_name(record.step)


def step_name(step: int) -> str:
    """Return the name of a checkpoint, such as `step 200`, or `base` for a negative step.

    Args:
        step: optimizer step of the checkpoint.
    """
    return "base" if step < 0 else f"step {step:,}"


def documents_of(record: ProbeRecord) -> str:
    """Return, in words, how many documents a record has, such as `12 documents`.

    Args:
        record: record of one checkpoint.
    """
    count = len(record.documents)
    return f"{count} document{'s' * (count != 1)}"


def percent(share: float) -> str:
    """Format a fraction as a percentage, such as `5 %`.

    Args:
        share: the fraction.
    """
    return f"{100 * share:.0f} %"


def capitalized(text: str) -> str:
    """Capitalize the first letter of a text and leave the others unchanged."""
    return text[:1].upper() + text[1:]
