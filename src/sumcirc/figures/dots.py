"""Scatter plots whose labels cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import MARKERS, integer_ticks, plain_axes, shown_name, spread_colours
from sumcirc.reporting.kinds import PALETTE, Dots

_LETTER, _LINE = 0.066, 0.13  # inches per letter and line of a label
_APART = 0.2  # inches between labels at the margin
_PLOT = 5.0  # approximate length of the parameter axis in inches
_BESIDE = 0.5  # inches between columns and between their tick labels
_KEY = 34  # letters in a line of the key
# costs of a label's position: covering an interval, a point, another label; lying outside
_BAR, _POINT, _LABEL, _OUTSIDE = 1, 4, 4, 40


def dots_size(panel: Dots, several: bool) -> tuple[float, float]:
    """Return the width and height of a scatter plot in inches.

    Args:
        panel: the plot.
        several: not used. All functions that return a panel's size have the same signature.
    """
    if panel.columns:
        return 8.0, max(3.8, _APART * len(panel.dots) + 1.2)
    if panel.key:
        names, texts = _key_columns(panel)
        width = _LETTER * (_KEY + max(map(len, names)) + 4)
        return 6.6 + width, max(5.0, 1.2 * _LINE * len(texts) + 1.2)
    return 6.6, 5.0


def draw_dots(axes: Any, panel: Dots, width: float, height: float) -> None:
    """Draw a scatter plot with the intervals and the names of the points in `panel.named`.

    Args:
        axes: matplotlib axes in which the plot is drawn.
        panel: the plot.
        width, height: size of the panel in inches.
    """
    x, y, low, high, left, right = (
        np.array([getattr(dot, name) for dot in panel.dots])
        for name in ("x", "y", "low", "high", "left", "right")
    )
    sides = None if np.isnan(left).all() else np.nan_to_num(np.abs([x - left, right - x]))
    axes.set(xlabel=panel.x, ylabel=panel.y)
    if panel.columns:
        x = _columns_axis(axes, panel.x, x)
    axes.tick_params(labelsize=8)
    plain_axes(axes)
    if panel.title:
        axes.set_title(shown_name(panel.title), fontsize=10)
    if panel.colours == "order":
        _coloured(axes, panel, x, y)
    else:
        bounds = np.nan_to_num(np.abs([y - low, high - y]))
        for i, dot in enumerate(panel.dots):
            colour = PALETTE[i % len(PALETTE) if panel.colours == "each" else 0]
            axes.errorbar(
                *(x[i], y[i], bounds[:, [i]], None if sides is None else sides[:, [i]]),
                color=colour,
                marker=MARKERS[i % len(MARKERS) if panel.colours == "each" else 0],
                markerfacecolor=colour if dot.filled else "white",
                markersize=6,
                capsize=2,
            )
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    if panel.columns:
        _names_at_margin(axes, panel, x, height)
    elif panel.named:
        if panel.key:
            _draw_key(axes, panel)
        _names_beside(axes, panel, np.stack([x, y], 1))


def _coloured(axes: Any, panel: Dots, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Draw points whose colours show their rank, such as the layer, with a colour bar."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    order = [dot.order or 0 for dot in panel.dots]
    count = 1 + max(order)
    norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
    options = {"s": 26, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}
    points = axes.scatter(
        x, y, c=order, cmap=ListedColormap(spread_colours(count)), norm=norm, **options
    )
    bar = axes.figure.colorbar(points, ax=axes, label=panel.order, shrink=0.8)
    integer_ticks(bar.ax.yaxis)
    bar.ax.tick_params(which="minor", length=0)
    for line in (axes.axhline, axes.axvline):
        line(0.0, color="0.88", linewidth=0.8, zorder=0)
    axes.margins(0.14)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the line must not change them
    if panel.diagonal:
        axes.axline((0.0, 0.0), slope=1.0, color="0.6", linestyle="--", linewidth=1, zorder=1)


def _key_columns(panel: Dots) -> tuple[list[str], list[str]]:
    """Return the lines of the key: names, and texts that are wrapped, one of each per line."""
    names, texts = [], []
    for name, text in panel.key:
        lines = wrap(text, _KEY) or [""]
        names += [shown_name(name), *[""] * (len(lines) - 1)]
        texts += [shown_name(line) for line in lines]
    return names, texts


def _draw_key(axes: Any, panel: Dots) -> None:
    """Write the key at the right of the plot, from its top."""
    names, texts = _key_columns(panel)
    beside = 72 * _LETTER * (max(map(len, names)) + 2)
    for column, right in ((names, 10.0), (texts, 10.0 + beside)):
        axes.annotate(
            "\n".join(column),
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(right, 0.0),
            textcoords="offset points",
            va="top",
            fontsize=8,
            linespacing=1.2,
            annotation_clip=False,
        )


def _names_beside(axes: Any, panel: Dots, points: NDArray[np.float64]) -> None:
    """Write the names of labelled points near them, each connected to its point by a thin line."""
    order = [i for i, dot in enumerate(panel.dots) if dot.name in panel.named]
    names = [panel.dots[i].name for i in order]
    places = _free(axes, points, _intervals(panel, points), order, names)
    for i, name, place in zip(order, names, places, strict=True):
        axes.annotate(
            *(name, points[i]),
            xytext=tuple(72 * place),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 3},
            zorder=4,
        )


def _intervals(panel: Dots, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return both ends of all drawn intervals as positions in the data, [intervals, 2, 2]."""
    found = []
    for dot, (x, y) in zip(panel.dots, points, strict=True):
        if np.isfinite(dot.low):
            found.append([[x, dot.low], [x, dot.high]])
        if np.isfinite(dot.left):
            found.append([[dot.left, y], [dot.right, y]])
    return np.array(found).reshape(-1, 2, 2)


def _free(
    axes: Any,
    points: NDArray[np.float64],
    intervals: NDArray[np.float64],
    order: Sequence[int],
    names: Sequence[str],
) -> list[NDArray[np.float64]]:
    """Return, for each label, its offset from its point in inches, so that labels cover nothing.

    Each label takes the nearest position on circles around its point where it covers the least:
    no other label, no point, no interval, if there is one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.figure
    FigureCanvasAgg(figure).draw()  # the layout is computed when the figure is drawn

    def inches(values: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = axes.transData.transform(values.reshape(-1, 2)) / figure.dpi
        return np.asarray(flat).reshape(values.shape)

    at, bars = inches(points), inches(intervals)
    middles, halves = bars.mean(1), np.abs(bars[:, 1] - bars[:, 0]) / 2
    frame = axes.get_window_extent()
    low, high = np.array([frame.p0, frame.p1]) / figure.dpi
    taken = np.zeros((0, 2, 2))  # centre and half size of each label
    found = []
    for i, name in zip(order, names, strict=True):
        half = np.array([_LETTER * len(name) / 2, _LINE / 2])
        best, least = np.zeros(2), np.inf
        for radius in (0.2, 0.3, 0.42, 0.56, 0.75, 1.0, 1.3):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4:
                offset = radius * np.array([np.cos(angle), np.sin(angle)])
                middle = at[i] + offset
                outside = bool((middle - half < low).any() or (middle + half > high).any())
                cost = (
                    _POINT * _near(at, middle, half + 0.045)
                    + _LABEL * _near(taken[:, 0], middle, half + taken[:, 1] + 0.02)
                    + _BAR * _near(middles, middle, half + halves + 0.01)
                    + _OUTSIDE * outside
                )
                if cost < least:
                    best, least = offset, cost
        taken = np.concatenate([taken, [[at[i] + best, half]]])
        found.append(best)
    return found


def _near(
    centres: NDArray[np.float64], middle: NDArray[np.float64], reach: NDArray[np.float64]
) -> int:
    """Count the centres whose distance from a position is below `reach` along both axes."""
    return int((np.abs(centres - middle) < reach).all(1).sum())


def _names_at_margin(axes: Any, panel: Dots, x: NDArray[np.float64], height: float) -> None:
    """Write every name at the right margin, as near to the height of its point as possible."""
    ends = [(dot.low, dot.high) if np.isfinite(dot.low) else (dot.y,) * 2 for dot in panel.dots]
    bottom, top = min(low for low, _ in ends), max(high for _, high in ends)
    span = top - bottom or 1.0
    axes.set_ylim(bottom - 0.06 * span, top + 0.06 * span)
    heights = (np.array([dot.y for dot in panel.dots]) - bottom) / span
    levels = bottom + span * apart(heights, _APART / (height - 1.2))
    for i, (dot, level) in enumerate(zip(panel.dots, levels, strict=True)):
        colour = PALETTE[i % len(PALETTE)]
        axes.annotate(
            *(shown_name(dot.name), (x[i], dot.y)),
            xytext=(1.03, level),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
            arrowprops={
                **{"arrowstyle": "-", "color": colour, "alpha": 0.3, "linewidth": 0.7},
                "relpos": (0.0, 0.5),
            },
        )


def apart(places: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Move positions in [0, 1] apart that are too close to each other, and keep their order.

    Positions that are too close are spaced evenly around their mean. If there is no room for that,
    all positions are spaced evenly from 0 to 1.

    Args:
        places: [points] positions.
        least: smallest distance allowed between two positions.

    Returns:
        [points] new positions, in the order of `places`.
    """
    order = np.argsort(places, kind="stable")
    least = min(least, 1.0 / max(len(places) - 1, 1))
    clusters: list[list[float]] = []  # wanted places, in order; each cluster is evenly spaced

    def start(cluster: list[float]) -> float:
        half = least * (len(cluster) - 1) / 2
        return float(np.clip(np.mean(cluster), half, 1.0 - half)) - half

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


def _columns_axis(axes: Any, name: str, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x positions of points by size, and set the axis' ticks.

    Positions are to scale, unless points would then cover each other. In that case points of nearly
    equal size are placed side by side in columns.
    """
    logarithmic = sizes.max() > 4 * sizes.min()
    scaled = np.sort(np.log10(sizes) if logarithmic else sizes)
    gaps = np.diff(scaled)
    if len(sizes) > 1 and gaps.min() * _PLOT > _BESIDE * (scaled[-1] - scaled[0]):
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(sizes, [_short(size) for size in sizes])
        axes.minorticks_off()
        axes.margins(x=0.08)
        return sizes
    places = np.empty(len(sizes))
    ticks: list[tuple[float, str]] = []
    right = 0.0
    for column in _equal_sizes(sizes):
        places[column] = right + np.arange(len(column))
        ends = [_short(sizes[column].min()), _short(sizes[column].max())]
        ticks.append((right + (len(column) - 1) / 2, " to ".join(dict.fromkeys(ends))))
        right += len(column) + 1.0
        axes.axvline(right - 1.0, color="0.9", linewidth=1)
    axes.set_xlim(-1.0, right - 1.0)
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.set_xlabel(f"{name}: columns of equal size within 3 %, not to scale")
    return places


def _equal_sizes(sizes: NDArray[np.float64]) -> list[list[int]]:
    """Return, for each column, the indices of its sizes, which differ by at most 3 %."""
    columns: list[list[int]] = []
    for index in np.argsort(sizes, kind="stable"):
        if not columns or sizes[index] > 1.03 * sizes[columns[-1]].min():
            columns.append([])
        columns[-1].append(int(index))
    return [sorted(column) for column in columns]


def _short(value: float) -> str:
    """Format a size like `98.3k` or `1.75M`."""
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.3g}"
