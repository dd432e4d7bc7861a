"""Views of measures over the model's depth, and of drift from the base over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sumcirc.reporting.kinds import Curve, Curves, NotDrawableError, Values, View
from sumcirc.reporting.measured import (
    STREAM_LABEL,
    capitalized,
    document_means,
    documents_of,
    labelled,
    measured,
    record_name,
)
from sumcirc.statistics import bootstrap_means, mean_over
from sumcirc.tracking.measure_records import CKA, HEADS, MEASURES, ProbeRecord

MAGNITUDE = "residual/magnitude"
DRIFT = (CKA, "residual/centered_cosine", "residual/relative_change")


def by_layer(
    curves: Mapping[str, tuple[Values, Values, Values]],
    label: str,
    x: str = "layer",
    column: str = "mean",
    from_zero: bool = False,
) -> View:
    """Return a view of a measure over depth, with one or several curves and their intervals.

    Args:
        curves: for each curve, by its name such as `base-LoRA`, the means and the lower and upper
            ends of their intervals, [depths] each.
        label: label of the measure, with its unit.
        x: label of the depth axis.
        column: name of the column of means in the view's table.
        from_zero: whether the y axis starts at 0.

    Raises:
        NotDrawableError: there are no curves.
    """
    if not curves:
        raise NotDrawableError("no pair of models to compare by layer")
    drawn = [Curve(name, range(len(one[0])), *one) for name, one in curves.items()]
    panel = Curves(x, label, drawn, "layer", limits=(0.0 if from_zero else None, None))
    rows = [
        (name, place, *values)
        for name, one in curves.items()
        for place, values in enumerate(zip(*one, strict=True))
    ]
    columns = ("pair", "layer", column, "low", "high")
    alt = f"{label} by depth for {', '.join(curves)}."
    return View(capitalized(label), [[panel]], "", alt, columns=columns, rows=rows)


def profile(name: str, reading: str, records: Sequence[ProbeRecord]) -> View:
    """Return a view of one measure over depth, with a curve for each checkpoint.

    The curve of the last checkpoint also has intervals.

    Args:
        name: name of the measure.
        reading: sentence that says how to read the measure, which is added to the caption.
        records: one record for each checkpoint, in order.

    Raises:
        NotDrawableError: there are no records, a record lacks the measure, or all of its values are
            undefined.
    """
    heads = MEASURES[name].axes == HEADS
    values = [
        mean_over(measured(one, name), 1) if heads else measured(one, name) for one in records
    ]
    if not any(np.isfinite(one).any() for one in values):
        raise NotDrawableError(f"`{name}`: no value is defined")
    places = range(len(values[0]))
    curves = [
        Curve(record_name(record), places, mean_over(one, -1))
        for record, one in zip(records, values, strict=True)
    ]
    curves[-1] = Curve(record_name(records[-1]), places, *bootstrap_means(values[-1]))
    label, x = labelled(name), "layer" if heads else STREAM_LABEL
    mean = "Mean over heads. " if heads else ""
    return View(
        capitalized(label),
        [[Curves(x, MEASURES[name].unit, curves, "layer", ordered=True, bars=True)]],
        f"{mean}{reading} {documents_of(records[-1]).capitalize()}.",
        f"{label} over {len(places)} depths at {len(records)} checkpoints.",
    )


def magnitude(records: Sequence[ProbeRecord]) -> View:
    """Return a view of the activations' size along the residual stream at each step.

    The first panel shows ActMag, the mean absolute activation. It varies much more with depth than
    with training, so the second panel shows its change, in percent, from the record with the
    smallest step, which is the base's if `records` contains it.

    Args:
        records: records of several checkpoints, in any order.

    Raises:
        NotDrawableError: there are no records, a record lacks the measure, or the records are of
            different models.
    """
    ordered = sorted(records, key=lambda record: record.step)
    means = document_means(ordered, MAGNITUDE)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 100 * (means / means[0] - 1)
    labels = (labelled(MAGNITUDE), f"change from {record_name(ordered[0])} (%)")
    panels = [
        Curves(
            STREAM_LABEL,
            label,
            [
                Curve(
                    record_name(one), range(len(row)), row, look="base" if one.step < 0 else "plain"
                )
                for one, row in zip(ordered, values, strict=True)
            ],
            "layer",
            ordered=True,
        )
        for label, values in zip(labels, (means, change), strict=True)
    ]
    rows = [
        (record.step, stream, means[i, stream], change[i, stream])
        for i, record in enumerate(ordered)
        for stream in range(means.shape[1])
    ]
    columns = ("step", "stream", "magnitude", "change_percent")
    return View("Mean absolute activation", [panels], columns=columns, rows=rows)


def drift(records: Sequence[ProbeRecord]) -> View:
    """Return a view of drift from the base over training steps, with a curve for each depth.

    Drift is measured by CKA, centred cosine and relative change. If there is only one record, its
    values are shown over depth instead.

    Args:
        records: records of several checkpoints, in any order.

    Raises:
        NotDrawableError: there are no records, a record lacks a measure, or the records are of
            different models.
    """
    ordered = sorted(records, key=lambda record: record.step)
    found = {name: document_means(ordered, name) for name in DRIFT}
    steps, streams = [record.step for record in ordered], found[DRIFT[0]].shape[1]
    single = len(ordered) == 1
    panels = []
    for name, values in found.items():
        if single:
            curves = [Curve("", range(streams), values[0])]
        else:
            curves = [
                Curve("embedding" if i == 0 else f"after layer {i - 1}", steps, values[:, i])
                for i in range(streams)
            ]
        panels.append(
            Curves(
                STREAM_LABEL if single else "optimizer step",
                labelled(name),
                curves,
                "layer" if single else "step",
                ordered=not single,
                title=""
                if np.isfinite(values).any()
                else f"undefined on {documents_of(ordered[-1])}",
            )
        )
    rows = [
        (step, stream, *(found[name][i, stream] for name in DRIFT))
        for i, step in enumerate(steps)
        for stream in range(streams)
    ]
    columns = ("step", "stream", *(name.split("/")[1] for name in DRIFT))
    heading = f"{record_name(ordered[0])}, {documents_of(ordered[0])}" if single else ""
    return View("Drift from the base", [panels], heading=heading, columns=columns, rows=rows)
