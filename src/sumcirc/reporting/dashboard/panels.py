"""Classes for the panels of a dashboard, independent of W&B's own format."""

from __future__ import annotations

from dataclasses import dataclass

from sumcirc.tracking.metric_names import MetricKind


@dataclass(frozen=True)
class Axis:
    """An axis of a plot: a setting in which runs differ, or a value in the runs' summaries.

    Attributes:
        name: name of the setting in `sweep_axes`, or of the summary value.
        label: label of the axis.
        setting: whether the axis is a setting rather than a summary value.
        numeric: whether all its values are numbers.
    """

    name: str
    label: str
    setting: bool
    numeric: bool = True


@dataclass(frozen=True)
class CurvePanel:
    """A panel of curves over optimizer steps.

    Attributes:
        title: title of the panel.
        names: names of the curves.
        pattern: regular expression that selects curves instead of `names`, such as those of all
            layers; None if `names` is used.
        unit: unit of the values.
    """

    title: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class BarPanel:
    """A panel of bars: the summary values `names` of each run, or their means by values of `by`."""

    title: str
    names: tuple[str, ...]
    by: Axis | None = None


@dataclass(frozen=True)
class Scatter:
    """A scatter plot with one point for each run."""

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Parallel:
    """A parallel-coordinates plot, in which each run is a line through all axes."""

    title: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Differences:
    """A panel that lists the settings in which runs differ, with one column for each run."""

    title: str


@dataclass(frozen=True)
class Pictures:
    """A panel of logged images; `names` are the names under which they were logged."""

    title: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class TablePanel:
    """A panel with a logged table; `name` is the name under which it was logged."""

    title: str
    name: str


Panel = CurvePanel | BarPanel | Scatter | Parallel | Differences | Pictures | TablePanel


@dataclass(frozen=True)
class Section:
    """A section of a dashboard: a title, a text on what to look for, and panels."""

    title: str
    look: str
    panels: tuple[Panel, ...]


def names_of(panel: Panel) -> list[tuple[MetricKind, str]]:
    """Return (kind, name) of everything logged that a panel shows, except by a pattern."""
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
