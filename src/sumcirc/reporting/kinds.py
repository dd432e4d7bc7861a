"""The kinds of data that results are turned into, once, before anything is drawn.

A function in `report.views` reads records and returns a `View` or a `Table`. `figures` draws a view
with matplotlib (PNG, PDF and CSV), `report.page` with plotly; `report.tables` writes tables for the
terminal, Markdown and HTML. Nothing here knows a renderer, and nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError

# Okabe and Ito's colours, told apart by the colour-blind; markers and dashes need no colour at all
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
Values = Sequence[float] | NDArray[np.float64]


class NotDrawableError(UserError):
    """The records lack what a view shows."""


@dataclass(frozen=True)
class Table:
    """A table of text: the first column holds names, the columns in `prose` hold words."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve.

    Attributes:
        x: places, as numbers or as names of a category axis.
        low, high: ends of the interval at each place, or None; NaN leaves one out.
        look: `base`, `whole` (the model as a whole), `control`, `chance` and `noise` are drawn in
            grey or black; `plain` curves take the colours of the palette in turn.
        filled: False where a point is drawn hollow; None fills them all.
        group: curves of one group share a colour and an entry in the legend.
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
        """Whether at least one place has an interval."""
        return self.low is not None and bool(np.isfinite(np.asarray(self.low, float)).any())


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves in one pair of axes.

    Attributes:
        scale: of the x axis; `layer` has whole numbers, `step` is logarithmic where the steps are.
        ordered: whether the curves have an order, such as that of checkpoints or layers, which
            their colours then show.
        bars: draw intervals as bars and not as bands.
        levels: named values of y, drawn as horizontal lines.
        limits: of the y axis; None leaves an end to the renderer.
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
    """A value for each pair of row and column, usually layer by head, drawn as colours.

    Attributes:
        values: [rows, columns]; NaN has no value and is drawn grey.
        signed: whether 0 is the middle of the colours; otherwise it is their lower end.
        marked: [rows, columns], cells with a dot.
        framed: [rows, columns], cells with a frame.
        columns, rows: names; numbers from 0 where they are None. Row 0 is drawn at the bottom.
        parted: whether the last column, such as that of the MLPs, is set apart.
        limit: the upper end of the colours; by default the largest absolute value.
        rooted: colour by the square root of the value, for a few values far above all others.
        details: a text for each cell, shown on hover.
        bar: whether the panel has a colour bar of its own.
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
        """The values at the ends of the colours."""
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
    """A mean with its interval; `low` and `high` are NaN where there is none.

    Attributes:
        series: bars of one series share a colour.
        filled: False marks what was not shown, or can't be compared directly.
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
    """Means with intervals, one below the other, from top to bottom.

    Attributes:
        y: label of the names' axis.
        points: draw points, where a bar from 0 would mean nothing.
        zero: whether 0 has a line.
    """

    x: str
    bars: Sequence[Bar]
    y: str = ""
    points: bool = True
    zero: bool = False
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A point of two values; `low` and `high` bound y, `order`, such as a layer, is its colour."""

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
        colours: one for all, one for each, or by `Dot.order`, which `order` then names.
        named: names of dots that are written beside them.
        columns: x is a size: where dots would hide each other they stand in columns of equal size.
        diagonal: draw the line on which x and y are equal.
        limits: of the y axis.
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
class Graph:
    """Edges of a circuit: source, destination, the input of a head (q, k, v or none), score.

    Attributes:
        edges: in order of falling |score|.
        size: edges of the circuit, of which `edges` may be the largest.
    """

    edges: Sequence[tuple[str, str, str, float]]
    layers: int
    heads: int
    size: int
    unit: str = ""
    title: str = ""


Panel = Curves | Map | Bars | Dots | Graph


@dataclass(frozen=True)
class View:
    """One result as it is drawn.

    Attributes:
        title: what is shown.
        panels: rows of panels; most views have one.
        caption: what is shown and how to read it.
        alt: what it says, for readers who can't see it.
        heading: stands above the picture, where the caption is not beside it.
        note: stands below the picture.
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
        """The first panel, of most views the only one."""
        return self.panels[0][0]


def one_scale(views: Sequence[View]) -> list[View]:
    """Give the maps, or the y axes of the dots, of several checkpoints one scale."""
    panels = [view.panel for view in views]
    if isinstance(panels[0], Graph):
        return list(views)
    if isinstance(panels[0], Map):
        high = max(largest(panel.values) for panel in panels)
        return [replace(v, panels=[[replace(v.panel, limit=high)]]) for v in views]
    high = 1.1 * max((abs(dot.y) for panel in panels for dot in panel.dots), default=1.0) or 1.0
    return [replace(v, panels=[[replace(v.panel, limits=(-high, high))]]) for v in views]


def sizes_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute values to rank by; what is undefined counts as 0."""
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def largest(*values: NDArray[np.float64]) -> float:
    """The largest absolute value that is defined; 1 if all are 0."""
    return max(float(sizes_of(part).max(initial=0.0)) for part in values) or 1.0


def cells(*grids: NDArray[Any]) -> list[tuple[Any, ...]]:
    """Rows of a table of [layers, heads] arrays: layer, head, and each array's value."""
    return [(*place, *(grid[place] for grid in grids)) for place in np.ndindex(grids[0].shape)]


def log_ticks(values: Any) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis over positive values, and their labels as whole numbers.

    Labels are powers of ten over three decades and more, else also their multiples by 2 and 5; over
    less than that, the values themselves.
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
    """Where the nodes of a circuit stand: heads at both sides of a stem of MLPs.

    A layer is 1 high, its MLP half a layer above its heads; the embedding is below, the logits
    above.
    """
    left, stem = (heads + 1) // 2, 1.6
    middle = left - 1 + stem / 2
    found = {"input": (middle, -0.75), "logits": (middle, layers + 0.1)}
    for layer in range(layers):
        for head in range(heads):
            found[f"a{layer}.h{head}"] = (head + (stem if head >= left else 0.0), float(layer))
        found[f"m{layer}"] = (middle, layer + 0.5)
    return found
