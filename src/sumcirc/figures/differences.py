"""Figures of what differs between two models: attention between spans, direct attribution, curves.

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
    NotDrawableError,
    fill_grid,
    integer_ticks,
    largest,
    mark_cells,
    new_figure,
    plain_axes,
    save,
    shown_name,
)
from sumcirc.statistics import bootstrap_means, mean_over, significantly_different

# mean and both ends of its interval, each [places]
Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

ALPHA = 0.05  # false discovery rate of marked heads
_MOST_LETTERS = 70  # of all names in one line of a legend
_MOST_INCHES = 2.7  # of one map's longer side


@dataclass(frozen=True)
class Direct:
    """Direct contributions of one model to the items' metric.

    Attributes:
        heads: [layers, heads, items].
        attention: [layers, items] all heads with the output projection's bias.
        mlps: [layers, items].
    """

    heads: NDArray[np.float64]
    attention: NDArray[np.float64]
    mlps: NDArray[np.float64]


def draw_span_attention(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    names: Sequence[str],
    target: Path,
    significant: NDArray[np.bool_] | None = None,
    models: tuple[str, str] = ("before", "after"),
) -> None:
    """For each pair of spans three maps of layer x head: both models' attention, the difference.

    Args:
        before, after: [pairs, layers, heads] mean shares of attention; NaN is drawn grey.
        names: of the pairs.
        significant: [pairs, layers, heads] where the difference gets a dot.

    Raises:
        NotDrawableError: there is no pair.
        UserError: the files can't be written.
    """
    if not names:
        raise NotDrawableError("span attention: no pair of spans to draw; name spans in the items")
    pairs, layers, heads = before.shape
    cell = float(np.clip(_MOST_INCHES / max(layers, heads), 0.13, 0.42))
    wide, high = max(cell * heads, 1.3), cell * layers
    figure = new_figure(3 * wide + 3.4, pairs * (high + 0.6) + 0.6, layout="compressed")
    panels = figure.subplots(pairs, 3, squeeze=False)
    for row, name in enumerate(names):
        difference = after[row] - before[row]
        high_end, limit = largest(before[row], after[row]), largest(difference)
        drawn = [
            fill_grid(panels[row, 0], before[row], "viridis", (0.0, high_end), cell),
            fill_grid(panels[row, 1], after[row], "viridis", (0.0, high_end), cell),
            fill_grid(panels[row, 2], difference, "RdBu_r", (-limit, limit), cell),
        ]
        if significant is not None:
            mark_cells(panels[row, 2], significant[row])
        shared = (panels[row, :2], "share of attention"), (panels[row, 2], "difference")
        for image, (beside, label) in zip(drawn[1:], shared, strict=True):
            bar = figure.colorbar(image, ax=beside, aspect=14)
            bar.set_label(label, fontsize=8)
            bar.ax.tick_params(labelsize=7)
        # a line above the models' names, which a narrow map has no room beside
        panels[row, 0].set_title(f"{name}\n", fontsize=10, loc="left", fontweight="bold")
        for panel, text in zip(panels[row], (*models, f"{models[1]} − {models[0]}"), strict=True):
            panel.set_title(text, fontsize=9, loc="right")
            panel.tick_params(labelsize=7)
            if row < pairs - 1:
                panel.set_xlabel("")
        for panel in panels[row, 1:]:
            panel.set_ylabel("")
    rows = []
    for (pair, layer, head), value in np.ndenumerate(before):
        other = after[pair, layer, head]
        marked = "" if significant is None else significant[pair, layer, head]
        rows.append((names[pair], layer, head, value, other, other - value, marked))
    columns = ("pair", "layer", "head", "before", "after", "difference", "significant")
    save(figure, target, columns, rows)


def draw_direct(
    before: Direct,
    after: Direct,
    target: Path,
    unit: str,
    models: tuple[str, str] = ("before", "after"),
) -> None:
    """Direct attribution: a map of what heads add more, and both models' layers with intervals.

    A dot marks heads whose difference is significant (`statistics.significantly_different`, false
    discovery rate 5 %); bars are bootstrap intervals of 95 % over items (none with one item).

    Args:
        unit: of the metric, such as `nats`.

    Raises:
        UserError: the files can't be written.
    """
    layers, heads, items = before.heads.shape
    differences = after.heads - before.heads
    means, marked = mean_over(differences, -1), significantly_different(differences, ALPHA)
    cell = float(np.clip(4.4 / max(layers, heads), 0.16, 0.55))
    wide, high = max(cell * heads, 1.6), max(cell * layers, 2.7)
    curves_wide = float(np.clip(0.42 * layers + 1.6, 4.2, 9.0))
    figure = new_figure(wide + curves_wide + 2.9, high + 1.7, layout="compressed")
    grid, curves = figure.subplots(1, 2, width_ratios=(wide + 1.2, curves_wide))
    limit = largest(means)
    image = fill_grid(grid, means, "RdBu_r", (-limit, limit), cell)
    mark_cells(grid, marked)
    figure.colorbar(image, ax=grid, shrink=0.85, label=unit)
    dots = "\ndots: differs, FDR 5 %" if marked.any() else ""
    grid.set_title(f"heads, {models[1]} − {models[0]}{dots}", fontsize=10)
    rows: list[tuple[Any, ...]] = []
    for name, head, value, significant in _heads(means, marked):
        rows.append(("difference", "head", name, head, value, "", "", significant))
    curves.axhline(0.0, color="0.7", linewidth=0.8)
    for i, (kind, model) in enumerate((k, m) for k in ("attention", "mlps") for m in range(2)):
        side, label = (before, after)[model], "MLP" if kind == "mlps" else kind
        mean, low, high_end = bootstrap_means(getattr(side, kind))
        colour = COLOURS[kind == "mlps"]
        curves.errorbar(
            np.arange(layers) + 0.09 * (i - 1.5),  # so that intervals stand side by side
            mean,
            np.nan_to_num(np.abs([mean - low, high_end - mean])),
            color=colour,
            marker=MARKERS[kind == "mlps"],
            markersize=5,
            markerfacecolor=colour if model else "white",
            linestyle="-" if model else ":",
            linewidth=1.3,
            elinewidth=1,
            label=f"{label}, {models[model]}",
        )
        for layer in range(layers):
            interval = (mean[layer], low[layer], high_end[layer])
            rows.append((("before", "after")[model], label, layer, "", *interval, ""))
    curves.set(xlabel="layer", ylabel=f"direct contribution ({unit})")
    curves.set_title(f"layers, mean of {items} item{'s' * (items != 1)}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    integer_ticks(curves.xaxis)
    plain_axes(curves)
    columns = ("model", "part", "layer", "head", "contribution", "low", "high", "significant")
    save(figure, target, columns, rows)


def draw_layer_curves(
    curves: Mapping[str, Curve],
    target: Path,
    label: str,
    places: str = "layer",
    column: str = "mean",
    from_zero: bool = False,
) -> None:
    """A measure over layers, a curve with the band of its interval for each pair of models.

    Args:
        curves: by the name of the pair, such as `base-LoRA`; an interval of NaN draws no band.
        label: of the measure, with its unit.
        places: what the values are of, `layer` or the stream's positions.
        column: of the means in the CSV.
        from_zero: whether the axis begins at 0.

    Raises:
        NotDrawableError: no curve.
        UserError: the files can't be written.
    """
    if not curves:
        raise NotDrawableError("no pair of models to compare by layer")
    figure = new_figure(7, 4.2)
    axes = figure.add_subplot()
    for i, (name, (mean, low, high)) in enumerate(curves.items()):
        at, colour = np.arange(len(mean)), COLOURS[i % len(COLOURS)]
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(
            at,
            mean,
            label=shown_name(name),
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linestyle=STYLES[i % len(STYLES)],
        )
    axes.set(xlabel=places, ylabel=label)
    if from_zero:
        axes.set_ylim(bottom=0)
    integer_ticks(axes.xaxis)
    plain_axes(axes)
    # names of runs can be long: then each has a line of its own
    columns = min(4, len(curves)) if sum(map(len, curves)) < _MOST_LETTERS else 1
    figure.legend(loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    rows = [
        (name, layer, mean[layer], low[layer], high[layer])
        for name, (mean, low, high) in curves.items()
        for layer in range(len(mean))
    ]
    save(figure, target, ("pair", "layer", column, "low", "high"), rows)


def _heads(
    means: NDArray[np.float64], marked: NDArray[np.bool_]
) -> list[tuple[int, int, float, bool]]:
    return [(*place, value, bool(marked[place])) for place, value in np.ndenumerate(means)]
