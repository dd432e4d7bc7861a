"""`sumcirc dashboard SWEEP`: makes a W&B workspace and a report with panels for what runs logged.

The job reads only the runs' files. It writes workspace and report as JSON to the sweep's folder
dashboard/, which needs no network. With push=true it also uploads both, and prints their URLs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sumcirc.errors import UserError
from sumcirc.runtime import quoting
from sumcirc.runtime.terminal import say
from sumcirc.schema import DashboardConfig

if TYPE_CHECKING:
    from sumcirc.reporting.dashboard.layout import Layout
    from sumcirc.reporting.dashboard.logged_runs import Material


def check(config: DashboardConfig) -> None:
    """Check that the dashboard can be made and, if `config.push` is true, uploaded.

    Args:
        config: configuration of the job.

    Raises:
        UserError: something that is needed is missing; the message names it and the remedy.
    """
    from sumcirc.reporting.dashboard.logged_runs import read_material
    from sumcirc.reporting.dashboard.pushing import check_push, offline_runs
    from sumcirc.reporting.dashboard.specification import check_extra
    from sumcirc.storage.writing import check_writable
    from sumcirc.tracking.metric_names import MetricKind
    from sumcirc.tracking.run_directory import located
    from sumcirc.tracking.score_names import TRAINED

    if not config.paths:
        raise UserError("name a sweep: sumcirc dashboard runs/SWEEP")
    check_extra()
    if config.push:
        check_push()
    material = read_material([located(path) for path in config.paths])
    if config.push:
        offline_runs(material)
    scores = {
        name for name in material.logged(MetricKind.summary) if name.startswith(f"test/{TRAINED}/")
    }
    if scores and f"test/{TRAINED}/{_measure(config)}" not in scores:
        raise UserError(f"metric={config.metric}: these runs have no such score")
    check_writable("out", _folder(config, material))


def run(config: DashboardConfig, folder: Path) -> None:
    """Write the workspace and the report as JSON files, and upload them if `config.push` is true.

    Args:
        config: configuration of the job.
        folder: not used, since files are written next to the runs.
    """
    from sumcirc.reporting.dashboard import pushing
    from sumcirc.reporting.dashboard.layout import layout
    from sumcirc.reporting.dashboard.logged_runs import read_material
    from sumcirc.reporting.dashboard.specification import (
        report,
        report_json,
        workspace,
        workspace_json,
    )
    from sumcirc.storage.writing import write_json
    from sumcirc.tracking.run_directory import located

    material = read_material([located(path) for path in config.paths])
    measure = _measure(config)
    plan = layout(material, measure)
    out = _folder(config, material)
    # W&B is not asked for the default entity unless the files are uploaded
    entity = config.entity or material.entity or (pushing.default_entity() if config.push else "")
    project = config.project or material.project
    view = workspace(material, plan, entity, project)
    text = report(material, plan, entity, project, measure)
    write_json(out / "workspace.json", workspace_json(view))
    write_json(out / "report.json", report_json(text))
    _print(material, plan)
    say(f"workspace and report: {out}/workspace.json, {out}/report.json")
    if not config.push:
        say(f"to upload them after the runs (`make sync`): {command(config)} push=true")
        return
    waiting = pushing.offline_runs(material)
    if waiting:
        say(f"not uploaded yet, so not shown there: {', '.join(waiting)} (`make sync`)")
    urls = pushing.push(view, text, out / "pushed.json")
    say(f"workspace: {urls[0]}")
    say(f"report: {urls[1]}")


def command(config: DashboardConfig) -> str:
    """Return the shell command that makes the configured dashboard.

    Args:
        config: configuration of the job.
    """
    defaults = DashboardConfig()
    words = ["dashboard", *config.paths]
    for name in ("metric", "out", "entity", "project"):
        value = getattr(config, name)
        if value != getattr(defaults, name):
            words.append(f"{name}={value}")
    return quoting.command(*words)


def _measure(config: DashboardConfig) -> str:
    """Return the name that the configured metric has in the records of runs."""
    return config.metric if config.metric == "facts" else f"{config.metric}_f1"


def _print(material: Material, plan: Layout) -> None:
    panels = ", ".join(f"{one.title} {len(one.panels)}" for one in plan.sections)
    say(f"{len(material.runs)} runs of {', '.join(material.groups)}; panels: {panels}")
    for reason in material.left_out:
        say(f"left out: {reason}")
    if plan.silent:
        say(f"no panels for {', '.join(plan.silent)}: no run logged it (docs/wandb.md)")


def _folder(config: DashboardConfig, material: Material) -> Path:
    """Return the folder in which the files are written.

    Raises:
        UserError: the runs belong to several sweeps, and `out` isn't given.
    """
    if config.out is not None:
        return Path(config.out)
    sweeps = list(dict.fromkeys(run.path.parent for run in material.runs if run.verb != "report"))
    if len(sweeps) > 1:
        names = ", ".join(map(str, sweeps))
        raise UserError(f"the runs are of {len(sweeps)} sweeps ({names}): add out=FOLDER")
    return sweeps[0] / "dashboard"
