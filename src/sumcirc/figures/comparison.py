"""Figures of a comparison: scores over parameters, differences to controls, validation loss.

They take plain values; a figure is three files (see `drawing.save`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import (
    COLOURS,
    MARKERS,
    STYLES,
    integer_ticks,
    new_figure,
    plain_axes,
    save,
    shown_name,
)

_LINE = 0.2  # inches from one label of 8 points to the next
_PLOT = 5.0  # inches, about, of the parameter axis
_BESIDE = 0.5  # inches between arms and between their tick labels


@dataclass(frozen=True)
class Point:
    """An arm or a difference with its interval; `hollow` marks what is not on a par or not shown.

    `parameters` are trainable ones.
    """

    label: str
    mean: float
    low: float
    high: float
    parameters: float = 0.0
    hollow: bool = False


def draw_parameters(points: Sequence[Point], unit: str, target: Path) -> None:
    """Score over trainable parameters, one point an arm, its label at the right margin.

    Args:
        unit: label of the score axis.
        target: stem of the files.
    """
    height = max(3.8, _LINE * len(points) + 1.2)
    figure = new_figure(8.0, height)
    axes = figure.add_subplot()
    places = _place(axes, np.array([point.parameters for point in points]))
    bottom, top = min(p.low for p in points), max(p.high for p in points)
    room = 0.06 * (top - bottom or 1.0)
    axes.set_ylim(bottom - room, top + room)
    labels = _spread([p.mean for p in points], bottom, top, _LINE / (height - 1.2))
    for i, (point, place, level) in enumerate(zip(points, places, labels, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(
            place,
            point.mean,
            [[point.mean - point.low], [point.high - point.mean]],
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markerfacecolor="white" if point.hollow else colour,
            markersize=6,
            capsize=2,
        )
        # a thin line leads from the point to its label
        axes.annotate(
            shown_name(point.label),
            (place, point.mean),
            xytext=(1.03, level),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.3,
                "linewidth": 0.7,
                "relpos": (0.0, 0.5),
            },
        )
    axes.set_ylabel(unit)
    if any(point.hollow for point in points):
        axes.set_xlabel(f"{axes.get_xlabel()}\nhollow: not on a par with the others", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    plain_axes(axes)
    rows = [(p.label, p.parameters, p.mean, p.low, p.high, p.hollow) for p in points]
    save(figure, target, ("arm", "parameters", "mean", "low", "high", "not_on_a_par"), rows)


def draw_differences(
    groups: Mapping[str, Sequence[Point]], order: Sequence[str], unit: str, target: Path
) -> None:
    """Forest plot: each arm minus its control with its interval, a panel for each control.

    Filled: shown after Holm's correction; hollow: not shown, or of fewer than three seeds.

    Args:
        order: labels from top to bottom.
    """
    present = {point.label for points in groups.values() for point in points}
    labels = [label for label in order if label in present]
    figure = new_figure(2.4 + 3.4 * len(groups), max(2.2, 0.32 * len(labels) + 1.4))
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    rows = []
    for panel, (against, points) in zip(panels, groups.items(), strict=True):
        panel.axvline(0.0, color="0.6", linewidth=1)
        for point in points:
            colour = "0.45" if point.hollow else COLOURS[1 if point.mean < 0 else 0]
            panel.errorbar(
                point.mean,
                labels.index(point.label),
                xerr=[[point.mean - point.low], [point.high - point.mean]],
                color=colour,
                marker="o",
                markerfacecolor="white" if point.hollow else colour,
                markersize=6,
                capsize=2,
            )
            rows.append((against, point.label, point.mean, point.low, point.high, not point.hollow))
        panel.set_title(shown_name(f"minus {against}"), fontsize=10)
        panel.set_xlabel(unit, fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "intervals are of one arm at a time; hollow: no difference was shown after correction for"
        " several, or 1-2 seeds"
        if len(groups) > 1
        else "intervals are of one arm at a time\nhollow: not shown after correction, or 1-2 seeds",
        fontsize=9,
    )
    panels[0].set_yticks(range(len(labels)), map(shown_name, labels))
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    save(figure, target, ("against", "arm", "difference", "low", "high", "shown"), rows)


def draw_losses(curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]], target: Path) -> None:
    """Validation loss over steps: mean of an arm's runs, shaded from the lowest to the highest.

    Args:
        curves: by arm, for each run its (step, loss in nats per summary token).
    """
    figure = new_figure(8.0, max(4.0, _LINE * len(curves) + 1.0))
    axes = figure.add_subplot()
    rows: list[tuple[Any, ...]] = []
    for i, (label, runs) in enumerate(curves.items()):
        steps, values = _common_steps(runs)
        if not steps:
            continue
        mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            steps,
            mean,
            color=colour,
            linestyle=STYLES[i // len(COLOURS) % len(STYLES)],
            marker=MARKERS[i % len(MARKERS)] if len(steps) < 30 else None,
            markersize=3,
            label=shown_name(f"{label} ({len(runs)} seed{'s' * (len(runs) > 1)})"),
        )
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        rows += zip([label] * len(steps), steps, mean, low, high, strict=True)
    axes.set(xlabel="optimizer step", ylabel="validation loss (nats per summary token)")
    integer_ticks(axes.xaxis)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    plain_axes(axes)
    save(figure, target, ("arm", "step", "mean", "lowest", "highest"), rows)


def _place(axes: Any, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on the parameter axis: to scale, or in columns where arms would hide each other."""
    name = "trainable parameters"
    logarithmic = sizes.max() > 4 * sizes.min()
    scaled = np.sort(np.log10(sizes) if logarithmic else sizes)
    gaps = np.diff(scaled)
    if len(sizes) > 1 and gaps.min() * _PLOT > _BESIDE * (scaled[-1] - scaled[0]):
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(sizes, [_short(size) for size in sizes])
        axes.minorticks_off()
        axes.margins(x=0.08)
        axes.set_xlabel(name)
        return sizes
    places = np.empty(len(sizes))
    ticks: list[tuple[float, str]] = []
    right = 0.0
    for column in _columns(sizes):
        places[column] = right + np.arange(len(column))
        ends = [_short(sizes[column].min()), _short(sizes[column].max())]
        ticks.append((right + (len(column) - 1) / 2, " to ".join(dict.fromkeys(ends))))
        right += len(column) + 1.0
        axes.axvline(right - 1.0, color="0.9", linewidth=1)
    axes.set_xlim(-1.0, right - 1.0)
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.set_xlabel(f"{name}: columns of equal size within 3 %, not to scale")
    return places


def _columns(sizes: NDArray[np.float64]) -> list[list[int]]:
    """Indices of sizes within 3 % of the smallest of their column, in the order given."""
    columns: list[list[int]] = []
    for index in np.argsort(sizes, kind="stable"):
        if not columns or sizes[index] > 1.03 * sizes[columns[-1]].min():
            columns.append([])
        columns[-1].append(int(index))
    return [sorted(column) for column in columns]


def _spread(values: Sequence[float], bottom: float, top: float, least: float) -> list[float]:
    """Heights for labels: as near to their values as may be, `least` of the axis apart."""
    span = top - bottom or 1.0
    places = (np.array(values) - bottom) / span
    return list(bottom + span * _apart(places, 0.0, 1.0, least))


def _apart(
    places: NDArray[np.float64], low: float, high: float, least: float
) -> NDArray[np.float64]:
    """Move places so that none is nearer than `least` to another, keeping their order.

    Places in one cluster are spaced evenly around their mean. Where there is no room for all they
    stand evenly from end to end.
    """
    order = np.argsort(places, kind="stable")
    least = min(least, (high - low) / max(len(places) - 1, 1))
    clusters: list[list[float]] = []  # wanted places, in order; each cluster is evenly spaced

    def start(cluster: list[float]) -> float:
        half = least * (len(cluster) - 1) / 2
        return float(np.clip(np.mean(cluster), low + half, high - half)) - half

    for place in places[order]:
        clusters.append([float(place)])
        while len(clusters) > 1:
            before, last = clusters[-2:]
            if start(before) + least * len(before) <= start(last) + 1e-12:
                break
            clusters[-2:] = [before + last]
    moved = [start(cluster) + least * i for cluster in clusters for i in range(len(cluster))]
    found = np.empty(len(places))
    found[order] = moved
    return found


def _common_steps(
    runs: Sequence[Sequence[tuple[int, float]]],
) -> tuple[list[int], NDArray[np.float64]]:
    """Steps that all runs validated at, and [runs, steps] of losses."""
    found = [dict(run) for run in runs]
    steps = sorted(set.intersection(*(set(run) for run in found))) if found else []
    return steps, np.array([[run[step] for step in steps] for run in found])


def _short(value: float) -> str:
    """`98.3k` or `1.75M`."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.3g}"
