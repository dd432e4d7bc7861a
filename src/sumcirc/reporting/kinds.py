"""Classes for tables, panels and views: what a result shows, independent of how it is drawn.

A function in `reporting.views` reads records and returns a `View` or a `Table`. The package
`figures` draws views with matplotlib and writes PNG, PDF and CSV files. The package
`reporting.page` draws views with plotly. The module `reporting.tables` writes tables for the
terminal and for Markdown. This module depends on none of them and imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError

# colours of Okabe and Ito, which colour-blind readers can distinguish; markers and dashes help too
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
Values = Sequence[float] | NDArray[np.float64]


class NotDrawableError(UserError):
    """Error that is raised if the records don't contain the values that a view shows."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: title of the table.
        headings: heading of each column.
        rows: the cells of each row.
        prose: headings of columns that are left-aligned, as the first column always is.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve with optional intervals.

    Attributes:
        name: name of the curve in the legend.
        x: x positions of the points, as numbers or as names on a category axis.
        y: y positions of the points.
        low, high: ends of the interval at each point, NaN where there is no interval; None to draw
            no intervals.
        look: `base`, `whole` (the model as a whole), `control`, `chance` and `noise` are drawn in
            grey or black; `plain` curves get the colours of the palette in turn.
        filled: for each point, whether it is filled rather than hollow; None fills all points.
        group: curves in the same group share a colour and an entry in the legend.
    """

    name: str
    x: Sequence[Any]
    y: Values
    low: Values | None = None
    high: Values | None = None
    look: Literal["plain", "base", "whole", "control", "chance", "noise"] = "plain"
    filled: Sequence[bool] | None = None
    group: str = ""


@dataclass(frozen=True, eq=False)
class Curves:
    """A panel of curves that share their axes.

    Attributes:
        x, y: labels of the axes.
        curves: the curves of the panel.
        scale: kind of x axis. Beside `linear` and `log` axes, `layer` has ticks at whole numbers,
            `name` has names instead of numbers, and `step` is logarithmic if the steps are spaced
            logarithmically.
        ordered: whether colours show the order of the curves, such as the order of checkpoints.
        bars: whether intervals are drawn as bars rather than as bands.
        levels: y values of horizontal lines, by their names.
        limits: lower and upper end of the y axis; an end that is None is chosen by the renderer.
        title: title of the panel.
    """

    x: str
    y: str
    curves: Sequence[Curve]
    scale: Literal["linear", "log", "layer", "step", "name"] = "linear"
    ordered: bool = False
    bars: bool = False
    levels: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[float | None, float | None] = (None, None)
    title: str = ""


@dataclass(frozen=True, eq=False)
class Map:
    """A heat map, usually of layers (rows) by heads (columns).

    Attributes:
        values: [rows, columns] values; NaN is drawn grey.
        label, unit: name and unit of the values.
        signed: whether 0 is the middle of the colour scale rather than its lower end.
        marked: [rows, columns] cells that get a dot; None for no dots.
        framed: [rows, columns] cells that get a frame; None for no frames.
        columns, rows: names of columns and rows; None for numbers from 0. Row 0 is drawn at the
            bottom.
        x, y: labels of the axes.
        parted: whether the last column, such as the column of MLPs, is set apart from the others.
        limit: value at the upper end of the colour scale; None for the largest absolute value.
        rooted: whether colours show the square roots of the values, so that small values are
            visible.
        details: [rows][columns] text shown when the pointer hovers over a cell; None shows the
            value.
        title: title of the panel.
        bar: whether the panel has its own colour bar.
    """

    values: NDArray[np.float64]
    label: str
    unit: str = ""
    signed: bool = False
    marked: NDArray[np.bool_] | None = None
    framed: NDArray[np.bool_] | None = None
    columns: Sequence[str] | None = None
    rows: Sequence[str] | None = None
    x: str = "head"
    y: str = "layer"
    parted: bool = False
    limit: float | None = None
    rooted: bool = False
    details: Sequence[Sequence[str]] | None = None
    title: str = ""
    bar: bool = True

    @property
    def limits(self) -> tuple[float, float]:
        """The values at the lower and the upper end of the colour scale."""
        high = self.limit or largest(self.values)
        if self.signed:
            return -high, high
        low = float(np.min(self.values, initial=0.0, where=np.isfinite(self.values)))
        return low, high if high > low else low + 1

    @property
    def peak(self) -> tuple[int, int]:
        """The row and column of the cell with the largest absolute value."""
        sizes = sizes_of(self.values)
        row, column = np.unravel_index(int(sizes.argmax()), sizes.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class Bar:
    """A mean with its interval.

    Attributes:
        name: name of the row in which the bar is drawn.
        mean: the mean.
        low, high: ends of the interval; NaN if there is none.
        series: name of the bar's series. All bars of a series have the same colour.
        filled: whether the point is filled rather than hollow. A hollow point stands for a
            difference that is not significant, or for a value that is not directly comparable.
        note: text shown when the pointer hovers over the bar.
    """

    name: str
    mean: float
    low: float = float("nan")
    high: float = float("nan")
    series: str = ""
    filled: bool = True
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """A panel of means with intervals, one below the other.

    Attributes:
        x: label of the axis of values.
        bars: the means with their intervals.
        y: label of the axis of names.
        points: whether means are drawn as points instead of bars from 0.
        zero: whether 0 is marked by a line.
        title: title of the panel.
    """

    x: str
    bars: Sequence[Bar]
    y: str = ""
    points: bool = True
    zero: bool = False
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A point of a scatter plot.

    Attributes:
        name: name of the point.
        x, y: position of the point.
        low, high: ends of the interval of y; NaN if there is none.
        left, right: ends of the interval of x; NaN if there is none.
        filled: whether the point is filled rather than hollow.
        order: rank that the point's colour shows, such as the index of the layer; None if it has
            none.
        note: text shown when the pointer hovers over the point.
    """

    name: str
    x: float
    y: float
    low: float = float("nan")
    high: float = float("nan")
    filled: bool = True
    order: int | None = None
    note: str = ""
    left: float = float("nan")
    right: float = float("nan")


@dataclass(frozen=True)
class Dots:
    """A panel with a scatter plot.

    Attributes:
        x, y: labels of the axes.
        dots: the points.
        colours: `one` gives all points the same colour, `each` gives every point its own, and
            `order` colours the points by `Dot.order`.
        order: label of the colour scale.
        named: names of those points that are labelled in the plot.
        key: lines listed beside the plot, each a name and what is said of it.
        columns: whether x is a size. If points would overlap at their true positions, points of
            nearly equal size are placed side by side in columns, and the axis is not to scale.
        diagonal: whether the line on which x equals y is drawn.
        limits: ends of the y axis; None leaves them to the renderer.
        title: title of the panel.
    """

    x: str
    y: str
    dots: Sequence[Dot]
    colours: Literal["one", "each", "order"] = "one"
    order: str = ""
    named: frozenset[str] = frozenset()
    key: Sequence[tuple[str, str]] = ()
    columns: bool = False
    diagonal: bool = False
    limits: tuple[float, float] | None = None
    title: str = ""


@dataclass(frozen=True)
class NodeGraph:
    """A circuit as a graph of nodes and edges.

    Attributes:
        edges: (source, destination, input, score) of each edge, in order of decreasing |score|. The
            input is `q`, `k` or `v` if the destination is a head with separate inputs, and
            otherwise empty.
        layers, heads: number of layers of the model, and number of heads in each layer.
        size: number of edges in the circuit; `edges` may contain only those with the largest
            |score|.
        unit: unit of the scores.
        title: title of the panel.
    """

    edges: Sequence[tuple[str, str, str, float]]
    layers: int
    heads: int
    size: int
    unit: str = ""
    title: str = ""


Panel = Curves | Map | Bars | Dots | NodeGraph


@dataclass(frozen=True)
class View:
    """A figure of one result, independent of how it is drawn.

    Attributes:
        title: title of the view.
        panels: panels by row; most views have one row with one panel.
        caption: text that says what is shown and how to read it.
        alt: content of the view in words, for readers who can't see it.
        heading: text above the figure, for renderers that don't show title and caption.
        note: text below the figure.
        columns, rows: headings and rows of a table with the values that are drawn.
    """

    title: str
    panels: Sequence[Sequence[Panel]]
    caption: str = ""
    alt: str = ""
    heading: str = ""
    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()

    @property
    def panel(self) -> Any:
        """The first panel; most views have only one."""
        return self.panels[0][0]


def one_scale(views: Sequence[View]) -> list[View]:
    """Return views with a common scale, so that checkpoints can be compared.

    Maps get the same colour scale, and scatter plots the same y axis.

    Args:
        views: the same view of several checkpoints.
    """
    panels = [view.panel for view in views]
    if isinstance(panels[0], NodeGraph):
        return list(views)
    if isinstance(panels[0], Map):
        high = max(largest(panel.values) for panel in panels)
        return [replace(v, panels=[[replace(v.panel, limit=high)]]) for v in views]
    high = 1.1 * max((abs(dot.y) for panel in panels for dot in panel.dots), default=1.0) or 1.0
    return [replace(v, panels=[[replace(v.panel, limits=(-high, high))]]) for v in views]


def sizes_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return absolute values, with 0 in place of values that are not finite.

    Args:
        values: an array of any shape.
    """
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def largest(*values: NDArray[np.float64]) -> float:
    """Return the largest finite absolute value in the arrays, or 1 if all values are 0.

    Args:
        values: arrays of any shape.
    """
    return max(float(sizes_of(part).max(initial=0.0)) for part in values) or 1.0


def cells(*grids: NDArray[Any]) -> list[tuple[Any, ...]]:
    """Return one row for each layer and head: layer, head, and the value in each of the arrays.

    Args:
        grids: arrays [layers, heads].
    """
    return [(*place, *(grid[place] for grid in grids)) for place in np.ndindex(grids[0].shape)]


def log_ticks(values: Any) -> tuple[list[float], list[str]]:
    """Return the ticks of a logarithmic axis, and the ticks' labels.

    Ticks are powers of ten if the values span at least three decades, and otherwise also two and
    five times these powers. If there would be fewer than three ticks, the ticks are at the values
    themselves.

    Args:
        values: the values on the axis, of which those that are not positive are ignored.
    """
    ordered = sorted({float(value) for value in values if value > 0})
    if not ordered:
        return [], []
    low, high = ordered[0], ordered[-1]
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    factors = (1,) if high >= 1000 * low else (1, 2, 5)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    ticks = [tick for tick in ticks if low / 1.3 <= tick <= 1.3 * high]
    if len(ticks) < 3:
        ticks = ordered if len(ordered) <= 5 else [low, high]
    return ticks, [_tick_label(tick) for tick in ticks]


def _tick_label(tick: float) -> str:
    if tick >= 1e6:
        return f"{tick / 1e6:.3g}M"
    return f"{tick:,.0f}" if tick >= 1 and tick == round(tick) else f"{tick:.3g}"


def places(layers: int, heads: int) -> dict[str, tuple[float, float]]:
    """Return the positions at which a circuit's nodes are drawn.

    Heads are on both sides of a column of MLPs. Each layer has the height 1, with its MLP half a
    layer above its heads. The embedding is at the bottom, and the logits are at the top.

    Args:
        layers, heads: number of layers of the model, and number of heads in each layer.

    Returns:
        (x, y) by name of the node, such as `a0.h1`, `m2`, `input` or `logits`.
    """
    left, stem = (heads + 1) // 2, 1.6
    middle = left - 1 + stem / 2
    found = {"input": (middle, -0.75), "logits": (middle, layers + 0.1)}
    for layer in range(layers):
        for head in range(heads):
            found[f"a{layer}.h{head}"] = (head + (stem if head >= left else 0.0), float(layer))
        found[f"m{layer}"] = (middle, layer + 0.5)
    return found
