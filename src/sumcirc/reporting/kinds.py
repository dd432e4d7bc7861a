"""The kinds of data in which results are prepared before anything is drawn.

A function in `reporting.views` reads records and returns a `View` or a `Table`. `figures` draws a
view with matplotlib (PNG, PDF and CSV), `reporting.page` with plotly; `reporting.tables` writes
tables for the terminal, Markdown and HTML. Nothing here depends on a renderer or imports torch.
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
    """The records lack what a view shows."""


@dataclass(frozen=True)
class Table:
    """A table of text; the first column and the columns in `prose` are left-aligned."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve.

    Attributes:
        name: for the legend.
        x: positions, as numbers or as names on a category axis.
        y: values.
        low, high: ends of the interval at each position, or None; NaN omits single intervals.
        look: `base`, `whole` (the model as a whole), `control`, `chance` and `noise` are drawn in
            grey or black; `plain` curves get the colours of the palette in turn.
        filled: False for points that are drawn hollow; None fills all.
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

    @property
    def has_interval(self) -> bool:
        """Whether at least one position has an interval."""
        return self.low is not None and bool(np.isfinite(np.asarray(self.low, float)).any())


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves that share their axes.

    Attributes:
        x, y: labels of the axes.
        curves: to draw.
        scale: of the x axis; `layer` has whole numbers, `step` is logarithmic if the steps are.
        ordered: whether the curves have an order, such as that of checkpoints or layers, which
            colours then show.
        bars: draw intervals as bars rather than as bands.
        levels: named values of y, drawn as horizontal lines.
        limits: of the y axis; None leaves an end to the renderer.
        title: of the panel.
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
    """Values for pairs of row and column, usually layer and head, shown as colours.

    Attributes:
        values: [rows, columns]; NaN is drawn grey.
        label, unit: of the values.
        signed: whether 0 is the middle of the colours rather than their lower end.
        marked: [rows, columns] cells with a dot.
        framed: [rows, columns] cells with a frame.
        columns, rows: names; None for numbers from 0. Row 0 is drawn at the bottom.
        x, y: labels of the axes.
        parted: whether the last column, such as that of the MLPs, is separated.
        limit: the upper end of the colours; by default the largest absolute value.
        rooted: colour by the square root of the value, if a few values far exceed the others.
        details: text for each cell, shown on hover.
        title: of the panel.
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
        """Values at the ends of the colours."""
        high = self.limit or largest(self.values)
        if self.signed:
            return -high, high
        low = float(np.min(self.values, initial=0.0, where=np.isfinite(self.values)))
        return low, high if high > low else low + 1

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest absolute value."""
        sizes = sizes_of(self.values)
        row, column = np.unravel_index(int(sizes.argmax()), sizes.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class Bar:
    """A mean with its interval.

    Attributes:
        name: of the row.
        mean: the value.
        low, high: ends of the interval; NaN if there is none.
        series: bars of the same series share a colour.
        filled: False if the difference is not significant, or not directly comparable.
        note: shown on hover.
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
    """Means with intervals, from top to bottom.

    Attributes:
        x: label of the values' axis.
        bars: to draw.
        y: label of the names' axis.
        points: draw points, for values whose distance from 0 has no meaning.
        zero: whether 0 is marked by a line.
        title: of the panel.
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
        name: of the point.
        x, y: its position.
        low, high: ends of the interval of y; NaN if there is none.
        filled: whether the point is filled.
        order: position in an order, such as that of layers, shown as colour.
        note: shown on hover.
    """

    name: str
    x: float
    y: float
    low: float = float("nan")
    high: float = float("nan")
    filled: bool = True
    order: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Dots:
    """A scatter plot.

    Attributes:
        x, y: labels of the axes.
        dots: the points.
        colours: the same for all, different for each, or by `Dot.order`.
        order: label of `Dot.order`.
        named: names of the points that are labelled.
        columns: whether x is a size; points that would cover each other are then placed in columns
            of equal size.
        diagonal: draw the line on which x equals y.
        limits: of the y axis.
        title: of the panel.
    """

    x: str
    y: str
    dots: Sequence[Dot]
    colours: Literal["one", "each", "order"] = "one"
    order: str = ""
    named: frozenset[str] = frozenset()
    columns: bool = False
    diagonal: bool = False
    limits: tuple[float, float] | None = None
    title: str = ""


@dataclass(frozen=True)
class NodeGraph:
    """A circuit.

    Attributes:
        edges: source, destination, the input of a head (q, k, v or none) and score, in order of
            decreasing |score|.
        layers, heads: of the model.
        size: number of edges in the circuit; `edges` may contain only the largest.
        unit: of the scores.
        title: of the panel.
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
    """One result, ready to be drawn.

    Attributes:
        title: what is shown.
        panels: rows of panels; most views have one panel.
        caption: what is shown and how to read it.
        alt: its content in words, for readers who can't see it.
        heading: shown above the figure, where the caption is not shown.
        note: shown below the figure.
        columns, rows: the values as a table.
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
        """The first panel; most views have no other."""
        return self.panels[0][0]


def one_scale(views: Sequence[View]) -> list[View]:
    """Give the maps, or the y axes of scatter plots, of several checkpoints the same scale."""
    panels = [view.panel for view in views]
    if isinstance(panels[0], NodeGraph):
        return list(views)
    if isinstance(panels[0], Map):
        high = max(largest(panel.values) for panel in panels)
        return [replace(v, panels=[[replace(v.panel, limit=high)]]) for v in views]
    high = 1.1 * max((abs(dot.y) for panel in panels for dot in panel.dots), default=1.0) or 1.0
    return [replace(v, panels=[[replace(v.panel, limits=(-high, high))]]) for v in views]


def sizes_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return absolute values for ranking; undefined values become 0."""
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def largest(*values: NDArray[np.float64]) -> float:
    """Return the largest defined absolute value; 1 if all are 0."""
    return max(float(sizes_of(part).max(initial=0.0)) for part in values) or 1.0


def cells(*grids: NDArray[Any]) -> list[tuple[Any, ...]]:
    """Return table rows of [layers, heads] arrays: layer, head, and each array's value."""
    return [(*place, *(grid[place] for grid in grids)) for place in np.ndindex(grids[0].shape)]


def log_ticks(values: Any) -> tuple[list[float], list[str]]:
    """Return ticks of a logarithmic axis over positive values, and their labels.

    Ticks are powers of ten over three decades and more, otherwise also their multiples by 2 and 5;
    over very short ranges, the values themselves.
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
    """Return the positions of a circuit's nodes: heads at both sides of a column of MLPs.

    A layer is 1 high, with its MLP half a layer above its heads; the embedding is at the bottom,
    the logits at the top.

    Args:
        layers, heads: of the model.

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
