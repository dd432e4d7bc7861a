"""Figures of interventions between two models: patch scores, and scaling of the change of weights.

They take plain values; a figure is three files (see `drawing.save`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.differences import Curve
from sumcirc.figures.drawing import (
    MARKERS,
    STYLES,
    NotDrawableError,
    draw_grid,
    fill_grid,
    integer_ticks,
    largest,
    mark_cells,
    new_figure,
    part_column,
    plain_axes,
    save,
    spread_colours,
)

_NAMED = 8  # heads with a label in the scatter
_LETTER, _LINE = 0.066, 0.13  # inches, of a label's text


def draw_patching(
    heads: NDArray[np.float64],
    target: Path,
    label: str,
    mlp: NDArray[np.float64] | None = None,
    significant: NDArray[np.bool_] | None = None,
    title: str = "",
) -> None:
    """Map of patch scores by layer and head, with the MLPs in a column of their own.

    Args:
        heads: [layers, heads]; NaN is drawn grey.
        label: of the colour bar, with the unit.
        mlp: [layers].
        significant: [layers, heads], with the MLPs as a last column where they are given; a dot
            marks them.

    Raises:
        NotDrawableError: no value is finite.
        UserError: the files can't be written.
    """
    values = heads if mlp is None else np.column_stack([heads, mlp])
    if not np.isfinite(values).any():
        raise NotDrawableError("patch scores: none is finite; do the models differ at all?")
    limit, count = largest(values), heads.shape[1]
    figure, axes = draw_grid(values, "RdBu_r", (-limit, limit), label)
    if significant is not None:
        mark_cells(axes, significant)
    if mlp is not None:
        part_column(axes, count, "MLP")
    if title:
        figure.suptitle(title, fontsize=10)
    rows = []
    for (layer, column), value in np.ndenumerate(values):
        name, head = (f"m{layer}", "") if column == count else (f"a{layer}.h{column}", column)
        marked = "" if significant is None else significant[layer, column]
        rows.append((name, layer, head, value, marked))
    save(figure, target, ("node", "layer", "head", "score", "significant"), rows)


def draw_output_value(
    output: NDArray[np.float64],
    value: NDArray[np.float64],
    target: Path,
    label: str = "patch score",
    title: str = "",
) -> None:
    """Scatter of heads: the score of patching a head's output, and of its value alone.

    On the line both are equal: what moves is the value, not the pattern. The heads with the largest
    scores are named, `13.23` for head 23 of layer 13.

    Args:
        output, value: [layers, heads]; under grouped queries heads of a group have one value.

    Raises:
        NotDrawableError: no head has both scores.
        UserError: the files can't be written.
    """
    both = np.isfinite(output) & np.isfinite(value)
    if not both.any():
        raise NotDrawableError("output against value: no head has both patch scores")
    layer, head = np.nonzero(both)
    x, y = output[both], value[both]
    figure = new_figure(6.6, 5.2)
    axes = figure.add_subplot()
    axes.axhline(0.0, color="0.88", linewidth=0.8, zorder=0)
    axes.axvline(0.0, color="0.88", linewidth=0.8, zorder=0)
    palette, norm = _layer_colours(len(output))
    points = axes.scatter(
        x, y, c=layer, cmap=palette, norm=norm, s=26, edgecolors="white", linewidths=0.5, zorder=3
    )
    bar = figure.colorbar(points, ax=axes, label="layer", shrink=0.8)
    integer_ticks(bar.ax.yaxis)
    bar.ax.tick_params(which="minor", length=0)
    axes.margins(0.14)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the line is to change neither
    axes.axline((0.0, 0.0), slope=1.0, color="0.6", linestyle="--", linewidth=1, zorder=1)
    axes.set(xlabel=f"output {label}", ylabel=f"value {label}")
    axes.set_title(f"{title}\ndashed: equal".strip(), fontsize=10)
    plain_axes(axes)
    order = np.argsort(-np.maximum(np.abs(x), np.abs(y)), kind="stable")[:_NAMED]
    names = [f"{layer[i]}.{head[i]}" for i in order]
    places = _label_places(figure, axes, np.stack([x, y], 1), order, names)
    for i, name, place in zip(order, names, places, strict=True):
        axes.annotate(
            name,
            (x[i], y[i]),
            xytext=tuple(72 * place),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 3},
            zorder=4,
        )
    rows = [(*place, output[place], value[place]) for place in zip(layer, head, strict=True)]
    save(figure, target, ("layer", "head", "output", "value"), rows)


def draw_delta_scaling(
    scales: Sequence[float],
    whole: Curve,
    layers: NDArray[np.float64],
    removal: NDArray[np.float64],
    modules: Sequence[str],
    target: Path,
    label: str,
    significant: NDArray[np.bool_] | None = None,
    removal_label: str = "",
) -> None:
    """What becomes of a metric when the change of weights is scaled, or taken out of one module.

    Args:
        scales: lambda: 0 is the model before, 1 the one after.
        whole: all layers scaled together, with the interval, each [scales].
        layers: [layers, scales] means with one layer scaled alone; a layer of NaN has no change.
        removal: [layers, modules] effect of taking the change out of one module; NaN is grey.
        modules: their names.
        label: of the metric, with the unit.
        significant: [layers, modules] a dot marks them.
        removal_label: of the map's colour bar; by default the metric's change.

    Raises:
        UserError: the files can't be written.
    """
    count = len(layers)
    figure = new_figure(8.4 + 0.55 * len(modules), max(4.4, 0.22 * count + 1.6))
    lines, grid = figure.subplots(1, 2, width_ratios=(5.6, 1.6 + 0.55 * len(modules)))
    mean, low, high = whole
    for scale in (0.0, 1.0):
        lines.axvline(scale, color="0.88", linewidth=0.8, zorder=0)
    lines.fill_between(scales, low, high, color="black", alpha=0.12, linewidth=0)
    lines.plot(scales, mean, color="black", linewidth=3, label="all layers", zorder=2)
    colours = spread_colours(count)
    for layer in reversed(range(count)):  # the legend has layer 0 at its bottom, as the map
        if np.isfinite(layers[layer]).any():
            lines.plot(
                scales,
                layers[layer],
                color=colours[layer],
                marker=MARKERS[layer % len(MARKERS)],
                linestyle=STYLES[layer % len(STYLES)],
                markersize=3.5,
                linewidth=1.2,
                label=f"layer {layer}",
                zorder=3,
            )
    lines.set(xlabel="λ, scale of the change (0: before, 1: after)", ylabel=label)
    plain_axes(lines)
    lines.legend(
        frameon=False,
        fontsize=7.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        ncols=-(-(count + 1) // 18),
    )
    limit = largest(removal)
    if not np.isfinite(removal).all():
        grid.set_title("grey: not changed", fontsize=9)
    image = fill_grid(grid, removal, "RdBu_r", (-limit, limit), 0.3)
    grid.set_aspect("auto")
    grid.set(xlabel="", xticks=range(len(modules)))
    grid.set_xticklabels(modules, rotation=45, ha="right", rotation_mode="anchor")
    if significant is not None:
        mark_cells(grid, significant)
    bar_label = removal_label or f"change of {label} without it"
    figure.colorbar(image, ax=grid, label=bar_label, aspect=24)
    rows: list[tuple[Any, ...]] = [
        ("all", "", scales[i], mean[i], low[i], high[i], "") for i in range(len(scales))
    ]
    rows += [
        (layer, "", scales[i], value, "", "", "") for (layer, i), value in np.ndenumerate(layers)
    ]
    for (layer, column), value in np.ndenumerate(removal):
        marked = "" if significant is None else significant[layer, column]
        rows.append((layer, modules[column], 0.0, value, "", "", marked))
    save(figure, target, ("layer", "removed", "scale", "mean", "low", "high", "significant"), rows)


def _layer_colours(layers: int) -> tuple[Any, Any]:
    """Colour map and scale with one colour a layer."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    return ListedColormap(spread_colours(layers)), BoundaryNorm(np.arange(layers + 1) - 0.5, layers)


def _label_places(
    figure: Any,
    axes: Any,
    points: NDArray[np.float64],
    order: NDArray[np.int64],
    names: Sequence[str],
) -> list[NDArray[np.float64]]:
    """Where labels go, as inches from their points: hiding neither points nor other labels.

    Each takes the nearest free place on circles around its point; one without a free place stands
    where the fewest are hidden.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()  # the layout is settled when it is drawn
    at = axes.transData.transform(points) / figure.dpi
    frame = axes.get_window_extent()
    low, high = np.array([frame.p0, frame.p1]) / figure.dpi
    taken: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []  # middles, half sizes
    found = []
    for i, name in zip(order, names, strict=True):
        half = np.array([_LETTER * len(name) / 2, _LINE / 2])
        best, fewest = np.zeros(2), np.inf
        for radius in (0.2, 0.3, 0.42, 0.56, 0.75, 1.0):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4:
                offset = radius * np.array([np.cos(angle), np.sin(angle)])
                middle = at[i] + offset
                hidden = int((np.abs(at - middle) < half + 0.045).all(1).sum())
                hidden += sum(
                    bool((np.abs(middle - other) < half + size + 0.02).all())
                    for other, size in taken
                )
                hidden += 10 * bool((middle - half < low).any() or (middle + half > high).any())
                if hidden < fewest:
                    best, fewest = offset, hidden
        taken.append((at[i] + best, half))
        found.append(best)
    return found
