"""Panels of a dashboard, independent of W&B's format: kinds of plots and the names they show."""

from __future__ import annotations

from dataclasses import dataclass

from sumcirc.tracking.metric_names import MetricKind


@dataclass(frozen=True)
class Axis:
    """A dimension in which runs differ: a setting, or a value of the run's summary.

    Attributes:
        name: of the axis in `sweep_axes`, or of the summary value.
        label: shown on the axis.
        setting: whether it is a setting.
        numeric: whether all values are numbers.
    """

    name: str
    label: str
    setting: bool
    numeric: bool = True


@dataclass(frozen=True)
class CurvePanel:
    """Curves over optimizer steps.

    Attributes:
        title: of the panel.
        names: of the curves.
        pattern: a regular expression instead of names, for values by layer.
        unit: of the values.
    """

    title: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class BarPanel:
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
class TablePanel:
    """A logged table."""

    title: str
    name: str


Panel = CurvePanel | BarPanel | Scatter | Parallel | Differences | Pictures | TablePanel


@dataclass(frozen=True)
class Section:
    """Panels under a heading, and what to look for in them."""

    title: str
    look: str
    panels: tuple[Panel, ...]


def names_of(panel: Panel) -> list[tuple[MetricKind, str]]:
    """Return the logged names that a panel refers to, without patterns."""
    if isinstance(panel, CurvePanel):
        return [(MetricKind.curve, name) for name in panel.names]
    if isinstance(panel, BarPanel):
        return [(MetricKind.summary, name) for name in panel.names]
    if isinstance(panel, Pictures):
        return [(MetricKind.image, name) for name in panel.names]
    if isinstance(panel, TablePanel):
        return [(MetricKind.table, panel.name)]
    axes = panel.axes if isinstance(panel, Parallel) else ()
    axes = (panel.x, panel.y) if isinstance(panel, Scatter) else axes
    return [(MetricKind.summary, axis.name) for axis in axes if not axis.setting]
