"""Curves, maps and bars with intervals, drawn into given axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sumcirc.figures.drawing import (
    MARKERS,
    STYLES,
    integer_ticks,
    plain_axes,
    shown_name,
    spread_colours,
    step_ticks,
    tick_places,
)
from sumcirc.reporting.kinds import PALETTE, Bars, Curve, Curves, Map, log_ticks

LOOKS: dict[str, dict[str, Any]] = {
    "base": {"color": "black", "linestyle": "--", "zorder": 3},  # would be hidden at step 0
    "whole": {"color": "black", "linewidth": 2.5, "marker": "o"},
    "control": {"color": "0.45", "linestyle": (0, (4, 2)), "marker": "x"},
    "chance": {"color": "0.3", "linewidth": 1, "linestyle": ":"},
    "noise": {"color": "0.6", "linewidth": 5, "alpha": 0.6, "zorder": 0},
}
MANY = 30  # number of points above which a curve has no markers
MOST_NAMES = 7  # in the legend of ordered curves
_ROOM = 0.12  # inches per letter of a tick's label


def curves_size(panel: Curves, several: bool) -> tuple[float, float]:
    """Return the width and height of a panel of curves in inches.

    Args:
        panel: the curves.
        several: whether the figure has other panels.
    """
    return (4.2, 3.6) if several else (7.0, 4.2)


def draw_curves(axes: Any, panel: Curves, width: float, height: float) -> None:
    """Draw curves with their intervals, and the horizontal lines in `panel.levels`.

    Args:
        axes: matplotlib axes in which the curves are drawn.
        panel: the curves.
        width, height: size of the panel in inches.
    """
    for name, level in panel.levels.items():
        axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate(
            *(name, (1, level)), xycoords=("axes fraction", "data"), xytext=(-2, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=8, color="0.4",
        )  # fmt: skip
    plain = [curve for curve in panel.curves if curve.look == "plain"]
    groups = list(dict.fromkeys(curve.group or curve.name for curve in plain))
    shades = spread_colours(len(groups)) if panel.ordered else []
    names = list(dict.fromkeys(x for curve in panel.curves for x in curve.x))
    for curve in panel.curves:
        look = dict(LOOKS.get(curve.look, {}))
        if curve.look == "plain":
            i = groups.index(curve.group or curve.name)
            # line styles distinguish curves once colours and markers repeat
            look = {
                "color": shades[i] if panel.ordered else PALETTE[i % len(PALETTE)],
                "linestyle": STYLES[(i if len(groups) <= len(STYLES) else i // 6) % len(STYLES)],
                "marker": "." if panel.ordered else MARKERS[i % len(MARKERS)],
            }
            if panel.ordered:
                look["linestyle"] = "-"
        aside = plain.index(curve) - (len(plain) - 1) / 2 if curve in plain else 0.0
        x = [names.index(place) for place in curve.x] if panel.scale == "name" else curve.x
        aside = 0.0 if panel.ordered or not panel.bars else 4 * aside
        _draw_curve(axes, curve, x, look, aside if panel.bars else None)
    _x_axis(axes, panel, names, width)
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.set_ylim(*panel.limits)
    if panel.title:
        axes.set_title(shown_name(panel.title), fontsize=10)
    axes.tick_params(labelsize=8)
    plain_axes(axes)


def _draw_curve(axes: Any, curve: Curve, x: Any, look: dict[str, Any], aside: float | None) -> None:
    """Draw one curve with its intervals.

    Args:
        look: line options for matplotlib.
        aside: offset of the curve to the right in points, so that interval bars of curves don't
            cover each other. None draws intervals as bands instead of bars.
    """
    from matplotlib.transforms import ScaledTranslation

    y, place = np.asarray(curve.y, float), {}
    if aside is not None:
        # a moved line doesn't count for the limits of the axes
        for ends in (y, curve.low, curve.high):
            points = np.column_stack([x, y if ends is None else np.asarray(ends, float)])
            axes.update_datalim(points[np.isfinite(points).all(axis=1)])
        moved = ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
        place = {"transform": axes.transData + moved}
    if curve.low is not None and curve.high is not None:
        low, high = np.asarray(curve.low, float), np.asarray(curve.high, float)
        if aside is not None:
            axes.vlines(x, low, high, color=look["color"], linewidth=1, **place)
        else:
            axes.fill_between(x, low, high, color=look["color"], alpha=0.16, linewidth=0)
    marker = look.pop("marker", None)
    shown = marker if len(y) < MANY else None
    options = {"linewidth": 1.4, "markersize": 4, **look, **place}
    if curve.filled is None:
        axes.plot(x, y, label=curve.name, marker=shown, **options)
        return
    # the points are drawn below, filled or hollow; here the marker is for the legend alone
    axes.plot(x, y, label=curve.name, marker=marker, markevery=[], **options)
    fills = [look["color"] if filled else "white" for filled in curve.filled]
    axes.scatter(
        x, y, s=28, marker=marker, color=fills, edgecolors=look["color"], zorder=3, **place
    )


def _x_axis(axes: Any, panel: Curves, names: list[Any], width: float) -> None:
    if panel.scale == "log":
        axes.set_xscale("log")
        axes.set_xticks(*log_ticks(names))
        axes.minorticks_off()
    elif panel.scale == "step":
        step_ticks(axes, sorted(names), width - 1.6)
    elif panel.scale == "name":
        letters = max(len(str(name)) for name in names)
        every = max(1, int(np.ceil(len(names) * (letters * 0.5 + 1) * _ROOM / (width - 1.0))))
        kept = range(0, len(names), every)
        axes.set_xticks(list(kept), [str(names[i]) for i in kept])
    elif panel.scale == "layer":
        integer_ticks(axes.xaxis)


def legend_of(axes: Any, panel: Any) -> list[tuple[Any, str]]:
    """Return the (handle, name) entries of a panel's legend.

    If the panel has many ordered curves, only some of them have an entry.

    Args:
        axes: matplotlib axes in which the panel was drawn.
        panel: the panel.
    """
    handles, names = axes.get_legend_handles_labels()
    found = [(handle, name) for handle, name in zip(handles, names, strict=True) if name.strip()]
    if isinstance(panel, Curves) and panel.ordered and len(found) > MOST_NAMES:
        kept = {*np.linspace(0, len(found) - 1, MOST_NAMES).round().astype(int).tolist()}
        found = [one for i, one in enumerate(found) if i in kept]
    return found


def _cell(panel: Map, several: bool) -> float:
    """Return the width of one cell of a map in inches."""
    low, high, room = (0.13, 0.42, 2.7) if several else (0.21, 0.8, 5.0)
    return float(np.clip(room / max(panel.values.shape), low, high))


def map_size(panel: Map, several: bool) -> tuple[float, float]:
    """Return the width and height of a map with its colour bar in inches.

    Args:
        panel: the map.
        several: whether the figure has other panels.
    """
    cell = _cell(panel, several)
    rows, columns = panel.values.shape
    words = panel.columns is not None and not panel.parted
    columns *= max(1.0, 0.09 * max(map(len, panel.columns)) / cell) if words else 1.0  # type: ignore[arg-type]
    width = cell * columns + (2.4 if panel.bar else 0.7)
    height = cell * rows + 1.2 + 0.2 * (1 + panel.title.count("\n")) * bool(panel.title)
    return (width, height) if several else (max(width, 5.4), max(height, 3.4))


def draw_map(axes: Any, panel: Map, width: float, height: float) -> None:
    """Draw a map with row 0 at the bottom, as information flows upward through the layers.

    Args:
        axes: matplotlib axes in which the map is drawn.
        panel: the map.
        width, height: size of the panel in inches.
    """
    import matplotlib
    from matplotlib.colors import PowerNorm
    from matplotlib.patches import Rectangle

    rows, columns = panel.values.shape
    low, high = panel.limits
    palette = matplotlib.colormaps["RdBu_r" if panel.signed else "viridis"].with_extremes(bad="0.8")
    scale = {"norm": PowerNorm(0.5, low, high)} if panel.rooted else {"vmin": low, "vmax": high}
    values = np.ma.masked_invalid(panel.values)
    words = panel.columns is not None and not panel.parted
    aspect = "auto" if words else "equal"
    options = {"origin": "lower", "interpolation": "nearest", "aspect": aspect, **scale}
    image = axes.imshow(values, cmap=palette, **options)
    inches = (width - (2.4 if panel.bar else 0.7), height - 1.2)
    _number(axes.xaxis, columns, panel.columns, inches[0])
    _number(axes.yaxis, rows, panel.rows, inches[1])
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.tick_params(labelsize=8)
    if panel.parted:
        # visible on dark and on pale cells
        axes.axvline(columns - 1.5, color="white", linewidth=4)
        axes.axvline(columns - 1.5, color="0.2", linewidth=0.8)
    if panel.marked is not None:
        places = np.nonzero(panel.marked)[::-1]
        # a white rim around black: visible on the pale centre of the colours and on their dark ends
        axes.scatter(*places, s=11, c="black", edgecolors="white", linewidths=0.6)
    for row, column in (
        zip(*np.nonzero(panel.framed), strict=True) if panel.framed is not None else ()
    ):
        corner = (column - 0.46, row - 0.46)
        frame = {"fill": False, "edgecolor": PALETTE[1], "linewidth": 2.5}
        axes.add_patch(Rectangle(corner, 0.92, 0.92, **frame))
    if panel.title:
        axes.set_title(panel.title, fontsize=9)
    if panel.bar:
        label = f"{panel.label} ({panel.unit})" if panel.unit else panel.label
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.85)
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)


def _number(axis: Any, count: int, names: Any, inches: float) -> None:
    """Label the rows or columns of a map, leaving out some if there is no room."""
    places = tick_places(count, inches)
    names = list(map(str, range(count))) if names is None else list(names)
    if not names[-1].isdigit() and places[-1] != count - 1:
        # the label of the last column is a word, which needs room next to the number before it
        places = [place for place in places if place < count - 2] + [count - 1]
    elif not names[0].isdigit():
        places = list(range(count))
    axis.set_ticks(places, [shown_name(names[place]) for place in places])


def bars_size(panel: Bars, several: bool) -> tuple[float, float]:
    """Return the width and height of a panel of bars in inches.

    Args:
        panel: the bars.
        several: whether the figure has other panels.
    """
    longest = max(min(len(bar.name), 60) for bar in panel.bars)
    width = (3.2 if several else 4.6) + 0.075 * longest
    rows = len(dict.fromkeys(bar.name for bar in panel.bars))
    return width, max(2.4, 0.16 * (len(panel.bars) + rows) + 1.3)


def draw_bars(axes: Any, panel: Bars, width: float, height: float) -> None:
    """Draw means with intervals from top to bottom, those with the same name next to each other.

    Args:
        axes: matplotlib axes in which the means are drawn.
        panel: the means.
        width, height: not used. All functions that draw a panel have the same signature.
    """
    names = list(dict.fromkeys(bar.name for bar in panel.bars))
    series = list(dict.fromkeys(bar.series for bar in panel.bars))
    if panel.zero:
        axes.axvline(0.0, color="0.4", linewidth=0.8, zorder=0)
    room = 0.8 / len(series) if panel.points else 0.0
    for bar in panel.bars:
        i = series.index(bar.series)
        colour = PALETTE[i % len(PALETTE)] if bar.filled else "0.45"
        y = names.index(bar.name) + room * (i - (len(series) - 1) / 2)
        ends = np.nan_to_num(np.abs([[bar.mean - bar.low], [bar.high - bar.mean]]))
        marker = {"marker": MARKERS[i % len(MARKERS)], "markersize": 5}
        if not panel.points:
            axes.barh(y, bar.mean, color=colour, height=0.7, label=bar.series)
            marker = {"fmt": "none"}
        axes.errorbar(
            *(bar.mean, y),
            xerr=ends,
            color=colour if panel.points else "0.15",
            markerfacecolor=colour if bar.filled else "white",
            label=bar.series if panel.points else None,
            capsize=2,
            **marker,
        )
    axes.set_yticks(range(len(names)), [shown_name(name) for name in names])
    axes.set(xlabel=panel.x, ylabel=panel.y, ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.label.set_fontsize(9)
    axes.tick_params(labelsize=8)
    if panel.title:
        axes.set_title(shown_name(panel.title), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
