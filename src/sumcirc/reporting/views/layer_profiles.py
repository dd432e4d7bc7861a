"""Views of measures by depth, a curve for each checkpoint or pair of models, and of drift."""

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
from sumcirc.tracking.measure_records import HEADS, MEASURES, ProbeRecord

MAGNITUDE = "residual/magnitude"
DRIFT = ("residual/cka", "residual/centered_cosine", "residual/relative_change")


def by_layer(
    curves: Mapping[str, tuple[Values, Values, Values]],
    label: str,
    x: str = "layer",
    column: str = "mean",
    from_zero: bool = False,
) -> View:
    """Return a measure over depth, a curve with its interval for each pair of models.

    Args:
        curves: mean, low and high ([places] each) by the name of the pair, such as `base-LoRA`.
        label: of the measure, with its unit.
        x: `layer`, or the label of the residual stream.
        column: name of the means in the table.
        from_zero: whether the y axis starts at 0.

    Raises:
        NotDrawableError: there is no curve.
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
    """Return one measure over depth, a curve for each checkpoint, the last with its intervals.

    Args:
        name: of the measure.
        reading: how to read it, for the caption.
        records: by checkpoint.

    Raises:
        NotDrawableError: there is no record, one lacks the measure, or all its values are
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
    """Return ActMag along the residual stream for each step, and its change from the first record.

    ActMag (the mean absolute activation) varies much more with depth than training changes it, so
    training is visible in the second panel (percent of the first record, which is the base's if it
    is among `records`).

    Raises:
        NotDrawableError: there is no record, one lacks the measure, or they are of different
            models.
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
    """Return CKA, centred cosine and relative change over steps, a curve for each depth.

    A single record has no steps to follow: its values are shown over depth instead.

    Raises:
        NotDrawableError: no record, one lacks a measure, or they are of different models.
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
