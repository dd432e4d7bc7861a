"""Figures of neurons and of the residual stream beside the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import (
    COLOURS,
    STREAM_LABEL,
    NotDrawableError,
    documents_of,
    integer_ticks,
    labelled,
    measured,
    new_figure,
    plain_axes,
    record_name,
    save,
    shown_name,
    sizes,
    spread_colours,
    step_ticks,
)
from sumcirc.statistics import mean_over
from sumcirc.tracking.measure_records import ProbeRecord

MAGNITUDE = "residual/magnitude"
DRIFT = ("residual/cka", "residual/centered_cosine", "residual/relative_change")
NEURONS = "mlp/activation_change"
MOST_LABELS = 7  # steps named in a legend


def draw_neurons(record: ProbeRecord, layer: int, target: Path, top: int = 10) -> None:
    """Change of the mean activation of each MLP neuron of a layer; the `top` changed ones by index.

    The error bars are one standard error over documents.

    Raises:
        NotDrawableError: the record lacks the measure or its error, or has no such layer.
        UserError: the files can't be written.
    """
    changes, errors = measured(record, NEURONS), measured(record, f"{NEURONS}_error")
    if not 0 <= layer < len(changes):
        raise NotDrawableError(
            f"{record_name(record)}: has no layer {layer}; choose 0 to {len(changes) - 1}"
        )
    change = np.where(np.isfinite(changes[layer]), changes[layer], np.nan)
    error = np.where(np.isfinite(errors[layer]), errors[layer], np.nan)
    order = np.argsort(-sizes(change), kind="stable")[:top]
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.vlines(np.arange(len(change)), 0, change, color=COLOURS[0], linewidth=0.6)
    left.plot(order, change[order], "o", color=COLOURS[1], markersize=4, label=f"top {len(order)}")
    left.set(xlabel=f"neuron of layer {layer}", ylabel="change of mean activation, tuned − base")
    left.legend(loc="best", fontsize=8)
    integer_ticks(left.xaxis)
    ranks = np.arange(len(order))
    right.errorbar(
        change[order], ranks, xerr=error[order], fmt="o", color=COLOURS[1], markersize=4, capsize=3
    )
    right.set_yticks(ranks, [str(neuron) for neuron in order])
    right.invert_yaxis()
    spread = "± standard error" if len(record.documents) > 1 else "1 document"
    right.set(xlabel=f"change, tuned − base ({spread})", ylabel="neuron")
    right.locator_params(axis="x", nbins=5)
    for axes, line in ((left, left.axhline), (right, right.axvline)):
        line(0, color="0.4", linewidth=0.8, zorder=0)
        plain_axes(axes)
    figure.suptitle(f"{record_name(record)}, {documents_of(record)}", fontsize=10)
    rows = [(layer, neuron, change[neuron], error[neuron]) for neuron in range(len(change))]
    save(figure, target, ("layer", "neuron", "change", "error"), rows)


def draw_magnitude(records: Sequence[ProbeRecord], target: Path) -> None:
    """ActMag by stream position, a line for each step; beside it the change from the first record.

    ActMag grows with depth by far more than training changes it, so that the second panel (percent
    of the first record: the base's where it is among `records`) is what shows training.

    Raises:
        NotDrawableError: no record, one lacks the measure, or they are of different models.
        UserError: the files can't be written.
    """
    ordered = sorted(records, key=lambda record: record.step)
    means = _by_stream(ordered, MAGNITUDE)
    places = np.arange(means.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 100 * (means / means[0] - 1)
    figure = new_figure(9, 4)
    panels = figure.subplots(1, 2)
    named = {*np.linspace(0, len(ordered) - 1, MOST_LABELS).round().astype(int).tolist()}
    colours = spread_colours(sum(record.step >= 0 for record in ordered))
    colours = [*(["black"] * (len(ordered) - len(colours))), *colours]
    for i, record in enumerate(ordered):
        for axes, values in zip(panels, (means[i], change[i]), strict=True):
            axes.plot(
                places,
                values,
                color=colours[i],
                linestyle="--" if record.step < 0 else "-",
                zorder=3 if record.step < 0 else 2,  # the base would be hidden by step 0
                marker="." if len(places) < 20 else None,
                label=shown_name(record_name(record)) if i in named else None,
            )
    finite = means[np.isfinite(means)]
    if finite.size and 0 < 20 * finite.min() < finite.max():
        panels[0].set_yscale("log")
    panels[0].set_ylabel(labelled(MAGNITUDE))
    panels[1].set_ylabel(f"change from {record_name(ordered[0])} (%)")
    for axes in panels:
        integer_ticks(axes.xaxis)
        plain_axes(axes)
    figure.supxlabel(STREAM_LABEL, fontsize=10)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside right center",
        frameon=False,
        fontsize=8,
    )
    rows = [
        (record.step, stream, means[i, stream], change[i, stream])
        for i, record in enumerate(ordered)
        for stream in places
    ]
    save(figure, target, ("step", "stream", "magnitude", "change_percent"), rows)


def draw_drift(records: Sequence[ProbeRecord], target: Path) -> None:
    """CKA, centred cosine and relative change over optimizer steps, a line for a stream position.

    A single record has no steps to follow: its values are drawn over stream positions instead.

    Raises:
        NotDrawableError: no record, one lacks a measure, or they are of different models.
        UserError: the files can't be written.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    ordered = sorted(records, key=lambda record: record.step)
    found = {name: _by_stream(ordered, name) for name in DRIFT}
    steps = [record.step for record in ordered]
    streams = found[DRIFT[0]].shape[1]
    if len(ordered) == 1:
        _drift_by_stream(ordered[0], found, target)
        return
    colours = spread_colours(streams)
    figure = new_figure(11.5, 3.6)
    panels = figure.subplots(1, len(DRIFT))
    for axes, (name, values) in zip(panels, found.items(), strict=True):
        for stream in range(streams):
            axes.plot(
                steps,
                values[:, stream],
                color=colours[stream],
                linewidth=1.2,
                marker=".",
                markersize=5,
            )
        if not np.isfinite(values).any():
            note = f"undefined on\n{documents_of(ordered[-1])}"
            axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
        axes.set(xlabel="optimizer step", ylabel=labelled(name))
        step_ticks(axes, steps, width=2.2)
        plain_axes(axes)
    scale = ScalarMappable(
        BoundaryNorm(np.arange(streams + 1) - 0.5, streams), ListedColormap(colours)
    )
    bar = figure.colorbar(scale, ax=panels, label=STREAM_LABEL.replace(" (", "\n("))
    bar.set_ticks(range(0, streams, 1 if streams <= 14 else 4))
    bar.minorticks_off()
    rows = [
        (step, stream, *(found[name][i, stream] for name in DRIFT))
        for i, step in enumerate(steps)
        for stream in range(streams)
    ]
    save(figure, target, ("step", "stream", *(name.split("/")[1] for name in DRIFT)), rows)


def _drift_by_stream(
    record: ProbeRecord, found: Mapping[str, NDArray[np.float64]], target: Path
) -> None:
    """Draw the drift of one record over stream positions, `found` [1, streams] by measure."""
    figure = new_figure(11.5, 4.0)
    panels = figure.subplots(1, len(found))
    for axes, (name, (values,)) in zip(panels, found.items(), strict=True):
        axes.plot(values, color=COLOURS[0], linewidth=1.2, marker="o", markersize=4)
        if not np.isfinite(values).any():
            note = f"undefined on\n{documents_of(record)}"
            axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
        axes.set_ylabel(labelled(name))
        integer_ticks(axes.xaxis)
        plain_axes(axes)
    figure.supxlabel(STREAM_LABEL, fontsize=10)
    figure.suptitle(f"{record_name(record)}, {documents_of(record)}", fontsize=10)
    columns = [found[name][0] for name in DRIFT]
    rows = [(record.step, stream, *row) for stream, row in enumerate(zip(*columns, strict=True))]
    save(figure, target, ("step", "stream", *(name.split("/")[1] for name in DRIFT)), rows)


def _by_stream(records: Sequence[ProbeRecord], name: str) -> NDArray[np.float64]:
    """Means over documents, [records, streams]."""
    if not records:
        raise NotDrawableError("no probe record")
    means = [mean_over(measured(record, name), axis=-1) for record in records]
    if len({len(mean) for mean in means}) > 1:
        raise NotDrawableError(f"`{name}`: the records are of models of different depth")
    return np.stack(means)
