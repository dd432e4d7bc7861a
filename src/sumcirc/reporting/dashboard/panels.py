"""Panels of a dashboard, before anybody's format: what is drawn, of which logged names."""

from __future__ import annotations

from dataclasses import dataclass

from sumcirc.tracking.metric_names import Kind


@dataclass(frozen=True)
class Axis:
    """A dimension that runs differ in: a setting, or a value of the run's summary.

    Attributes:
        name: of `sweep_axes`, or of a summary value.
        setting: which of the two.
        numeric: whether all values are numbers.
    """

    name: str
    label: str
    setting: bool
    numeric: bool = True


@dataclass(frozen=True)
class Curves:
    """Values over optimizer steps.

    Attributes:
        pattern: a regular expression in place of names; for values by layer.
    """

    title: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class Bars:
    """Summary values of each run, or of each group of runs."""

    title: str
    names: tuple[str, ...]
    by: Axis | None = None


@dataclass(frozen=True)
class Scatter:
    """One point for each run."""

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Parallel:
    """One line for each run through all axes."""

    title: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Differences:
    """Settings in which runs differ, side by side."""

    title: str


@dataclass(frozen=True)
class Pictures:
    """Logged images."""

    title: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """A logged table."""

    title: str
    name: str


Panel = Curves | Bars | Scatter | Parallel | Differences | Pictures | Rows


@dataclass(frozen=True)
class Section:
    """Panels under a heading, and what to look at."""

    title: str
    look: str
    panels: tuple[Panel, ...]


def names_of(panel: Panel) -> list[tuple[Kind, str]]:
    """Every logged name that a panel speaks of; patterns aside."""
    if isinstance(panel, Curves):
        return [(Kind.curve, name) for name in panel.names]
    if isinstance(panel, Bars):
        return [(Kind.summary, name) for name in panel.names]
    if isinstance(panel, Pictures):
        return [(Kind.image, name) for name in panel.names]
    if isinstance(panel, Rows):
        return [(Kind.table, panel.name)]
    axes = panel.axes if isinstance(panel, Parallel) else ()
    axes = (panel.x, panel.y) if isinstance(panel, Scatter) else axes
    return [(Kind.summary, axis.name) for axis in axes if not axis.setting]
