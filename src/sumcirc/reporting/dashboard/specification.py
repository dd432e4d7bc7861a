"""Converts panels to a W&B workspace and report, with the public classes of wandb-workspaces.

No network access is needed: `_to_model` of a workspace or report gives what its `save` sends. The
report's entity is always given, since the class would otherwise ask the server for the user's. The
run sets in a report have neither entity nor project, since the class would look them up on the
server. W&B then uses the report's own project.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.reporting.dashboard.axes import grouping, settings_axes
from sumcirc.reporting.dashboard.layout import Layout
from sumcirc.reporting.dashboard.logged_runs import Material
from sumcirc.reporting.dashboard.panels import (
    Axis,
    BarPanel,
    CurvePanel,
    Differences,
    Panel,
    Parallel,
    Pictures,
    Scatter,
    TablePanel,
)
from sumcirc.reporting.dashboard.report_text import story
from sumcirc.tracking.metric_names import STEP

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace

RUNS_SHOWN = 100  # runs in a panel; W&B's default is 10
TITLE_LENGTH = 100  # of the 128 characters that a report's title may have
OPEN = {"Quality", "Sweep", "Attention", "Drift", "Circuits"}  # open sections of a workspace
WIDTH, HEIGHT = 12, 8  # of a panel in a report with 24 columns
WIDE = (Parallel, Differences, Pictures, TablePanel)  # panels that fill a row of a report


def check_extra() -> None:
    """Check that the package wandb-workspaces is installed.

    Raises:
        UserError: the package isn't installed.
    """
    import importlib.util

    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError(
            "sumcirc dashboard needs wandb-workspaces, which isn't installed;"
            " pip install 'sumcirc[dashboard]'"
        )


def _reports() -> Any:
    """Return wandb-workspaces' module of reports as Any: type checkers miss its public names."""
    from wandb_workspaces.reports import v2

    return v2


def title(material: Material) -> str:
    """Return the title of the workspace and the report, which consists of the names of the sweeps.

    Characters other than letters, digits and some punctuation are replaced, since W&B refuses them.

    Args:
        material: the runs and the data that they logged.
    """
    name = re.sub(r"[^\w.,-]+", "-", " ".join(material.groups)).strip("-") or "sweep"
    return f"sumcirc {name}"[:TITLE_LENGTH]


def workspace(material: Material, plan: Layout, entity: str, project: str) -> Workspace:
    """Return a W&B workspace with the panels, which shows only the sweeps' runs, grouped by arm.

    Args:
        material: the runs and the data that they logged.
        plan: the sections and panels of the workspace.
        entity, project: W&B entity and project in which the workspace is saved.
    """
    from wandb_workspaces import expr
    from wandb_workspaces import workspaces as ws

    sections = []
    for section in plan.sections:
        panels = [_panel(panel) for panel in section.panels]
        _name_all(panels, "workspace", section.title)
        rows = min(4, -(-len(panels) // 3))
        sections.append(
            ws.Section(
                name=section.title,
                panels=panels,
                is_open=section.title in OPEN,
                layout_settings=ws.SectionLayoutSettings(columns=3, rows=rows),
                panel_settings=ws.SectionPanelSettings(x_axis=STEP),
            )
        )
    shown = max(10, min(RUNS_SHOWN, len(material.runs)))
    made = ws.Workspace(
        entity=entity,
        project=project,
        name=title(material),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=shown),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config(f"sweep_axes.{axis.name}") for axis in _groups(material)],
            pinned_columns=_columns(material, plan),
        ),
    )
    _only_groups(made, made.runset_settings.filters, material.groups)
    made._internal_runset_id = _identity("workspace", "runs")
    return made


def report(material: Material, plan: Layout, entity: str, project: str, measure: str) -> Report:
    """Return a W&B report with an introduction, the table of arms, and the panels.

    Args:
        material: the runs and the data that they logged.
        plan: the sections and panels of the report.
        entity, project: W&B entity and project in which the report is saved.
        measure: name of the score that the table of arms shows.
    """
    wr = _reports()

    blocks: list[Any] = [wr.TableOfContents()]
    for part in story(material, measure):
        blocks.append(wr.H1(part.heading))
        blocks += [wr.P(text) for text in part.paragraphs]
        blocks += [wr.MarkdownBlock(text) for text in part.markdown]
        blocks += [wr.CodeBlock(text, language=None) for text in part.commands]
    for section in plan.sections:
        runs = wr.Runset(
            name="runs of the sweep",
            groupby=[f"config.sweep_axes.{axis.name}" for axis in _groups(material)],
        )
        runs._id = _identity("report", section.title, "runs")
        _only_groups(runs, runs.filters, material.groups)
        panels = [_panel(panel) for panel in section.panels]
        _name_all(panels, "report", section.title)
        _lay_out(section.panels, panels)
        blocks += [
            wr.H1(section.title),
            wr.P(section.look),
            wr.PanelGrid(runsets=[runs], panels=panels),
            wr.P("Found: "),
        ]
    return wr.Report(
        entity=entity,
        project=project,
        title=title(material),
        description=f"{len(material.runs)} runs of {', '.join(material.groups)}",
        blocks=blocks,
        width="fluid",
    )


def workspace_json(made: Workspace) -> dict[str, Any]:
    """Return, as JSON data, what a workspace's `save` sends to W&B.

    Args:
        made: the workspace.
    """
    view = made._to_model()
    body = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "type": "project-view",
        "entityName": view.entity,
        "projectName": view.project,
        "displayName": view.display_name,
        "spec": body,
    }


def report_json(made: Report) -> dict[str, Any]:
    """Return, as JSON data, what a report's `save` sends to W&B.

    Args:
        made: the report.
    """
    view = made._to_model()
    body = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "type": "runs",
        "entityName": view.project.entity_name,
        "projectName": view.project.name,
        "displayName": view.display_name,
        "description": view.description,
        "spec": body,
    }


def _columns(material: Material, plan: Layout) -> list[str]:
    """Return the columns of the workspace's table of runs: differing settings, cost and scores."""
    axes = settings_axes(material.trained)
    for section in plan.sections:
        axes += [
            axis for panel in section.panels if isinstance(panel, Parallel) for axis in panel.axes
        ]
    names = [
        f"config:sweep_axes.value.{axis.name}" if axis.setting else f"summary:{axis.name}"
        for axis in axes
    ]
    return list(dict.fromkeys(names))


def _groups(material: Material) -> list[Axis]:
    return grouping(settings_axes(material.trained))


def _only_groups(made: Any, text: Any, groups: Sequence[str]) -> None:
    """Restrict the runs that a workspace or run set shows to the given W&B groups.

    The library writes its public filter expressions as text and parses them again, which breaks
    names with a quote, a bracket or a sign such as `=`. The filter is therefore set as if it had
    been read from a saved view, since the library sends such a filter unchanged.
    """
    from wandb_workspaces import expr

    leaf = expr.Metric("Group").isin(list(groups)).to_model()
    tree = expr.Filters(op="AND", filters=[leaf])
    made._stashed_filters_v2 = expr.filters_tree_to_v2(tree)
    made._stashed_filter_string = text


def _panel(panel: Panel) -> Any:
    wr = _reports()

    if isinstance(panel, CurvePanel):
        return wr.LinePlot(
            title=panel.title,
            x=STEP,
            y=list(panel.names),
            metric_regex=panel.pattern,
            title_x="optimizer steps",
            title_y=panel.unit or None,
            max_runs_to_show=RUNS_SHOWN,
        )
    if isinstance(panel, BarPanel):
        return wr.BarPlot(
            title=panel.title,
            metrics=list(panel.names),
            groupby=_metric(panel.by) if panel.by else None,
            groupby_aggfunc="mean" if panel.by else None,
            groupby_rangefunc="minmax" if panel.by else None,
            max_runs_to_show=RUNS_SHOWN,
        )
    if isinstance(panel, Scatter):
        return wr.ScatterPlot(title=panel.title, x=_metric(panel.x), y=_metric(panel.y))
    if isinstance(panel, Parallel):
        columns = [
            wr.ParallelCoordinatesPlotColumn(metric=_metric(axis), display_name=axis.label)
            for axis in panel.axes
        ]
        return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
    if isinstance(panel, Differences):
        return wr.RunComparer(diff_only="split")
    if isinstance(panel, Pictures):
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.names), num_columns=2)
    return wr.WeavePanelSummaryTable(table_name=panel.name)


def _metric(axis: Axis) -> Any:
    wr = _reports()

    return wr.Config(f"sweep_axes.{axis.name}") if axis.setting else wr.SummaryMetric(axis.name)


def _name_all(panels: Sequence[Any], *where: str) -> None:
    """Replace the random ids of panels by fixed ones, so that a dashboard is always the same."""
    for number, panel in enumerate(panels):
        panel._id = _identity(*where, str(number))


def _identity(*where: str) -> str:
    return hashlib.sha256("/".join(where).encode()).hexdigest()[:12]


def _lay_out(given: Sequence[Panel], panels: Sequence[Any]) -> None:
    """Place the panels in rows of two. A wide panel has a row of its own."""
    x = y = 0
    for panel, made in zip(given, panels, strict=True):
        width = 2 * WIDTH if isinstance(panel, WIDE) else WIDTH
        if x + width > 2 * WIDTH:
            x, y = 0, y + HEIGHT
        made.layout.x, made.layout.y, made.layout.w, made.layout.h = x, y, width, HEIGHT
        x += width
