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
        numeric: whether all values on the axis are numbers.
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
        pattern: regular expression that selects the curves, such as those of all layers, in place
            of `names`; None if `names` is used.
        unit: unit of the values.
    """

    title: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class BarPanel:
    """A panel of bars that show summary values of the runs.

    Attributes:
        title: title of the panel.
        names: names of the summary values.
        by: axis by which runs are grouped, so that the bars are means over groups; None for a bar
            per run.
        kind: `curve` if the values are the last ones of curves, which are in the summary too.
    """

    title: str
    names: tuple[str, ...]
    by: Axis | None = None
    kind: MetricKind = MetricKind.summary


@dataclass(frozen=True)
class Scatter:
    """A scatter plot with one point for each run.

    Attributes:
        title: title of the panel.
        x, y: the axes of the plot.
    """

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Parallel:
    """A parallel-coordinates plot, in which each run is a line through all axes.

    Attributes:
        title: title of the panel.
        axes: the axes, from left to right.
    """

    title: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Differences:
    """A panel that lists the settings in which runs differ, with one column for each run."""

    title: str


@dataclass(frozen=True)
class Pictures:
    """A panel of logged images.

    Attributes:
        title: title of the panel.
        names: names under which the images were logged.
    """

    title: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class TablePanel:
    """A panel with a logged table.

    Attributes:
        title: title of the panel.
        name: name under which the table was logged.
    """

    title: str
    name: str


Panel = CurvePanel | BarPanel | Scatter | Parallel | Differences | Pictures | TablePanel


@dataclass(frozen=True)
class Section:
    """A section of a dashboard.

    Attributes:
        title: title of the section.
        look: text that says what to look for.
        panels: the panels of the section.
    """

    title: str
    look: str
    panels: tuple[Panel, ...]


def names_of(panel: Panel) -> list[tuple[MetricKind, str]]:
    """Return the kind and name of all logged data that a panel shows, except by `pattern`.

    Args:
        panel: the panel.
    """
    if isinstance(panel, CurvePanel):
        return [(MetricKind.curve, name) for name in panel.names]
    if isinstance(panel, BarPanel):
        return [(panel.kind, name) for name in panel.names]
    if isinstance(panel, Pictures):
        return [(MetricKind.image, name) for name in panel.names]
    if isinstance(panel, TablePanel):
        return [(MetricKind.table, panel.name)]
    axes = panel.axes if isinstance(panel, Parallel) else ()
    axes = (panel.x, panel.y) if isinstance(panel, Scatter) else axes
    return [(MetricKind.summary, axis.name) for axis in axes if not axis.setting]
