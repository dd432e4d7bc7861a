"""Sends a dashboard to W&B. A dashboard that was sent before is updated there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.reporting.dashboard.logged_runs import Material, Place
from sumcirc.storage.writing import write_json
from sumcirc.tracking.wandb import is_logged_in

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report
    from wandb_workspaces.workspaces import Workspace


def check_push() -> None:
    """Check that the user is logged in to W&B.

    Raises:
        UserError: no API key was found.
    """
    if not is_logged_in():
        raise UserError(
            "push=true: no W&B login found; run `wandb login`, or leave push out to write the files"
        )


def offline_runs(material: Material) -> list[str]:
    """Return the names of the runs whose logged data was not uploaded to W&B.

    Args:
        material: the runs and the data that they logged.

    Raises:
        UserError: no run was uploaded, so all panels would be empty.
    """
    waiting = [run.path.name for run in material.runs if run.place is Place.offline]
    if len(waiting) == len(material.runs):
        raise UserError(
            f"push=true: none of the {len(waiting)} runs of {', '.join(material.groups)} was"
            " uploaded; upload them with `make sync` (`wandb sync RUN_DIR/wandb/offline-run-*`)"
        )
    return waiting


def default_entity() -> str:
    """Ask W&B's server for the user's default entity, and return it.

    Raises:
        UserError: W&B doesn't answer.
    """
    import wandb

    with _explained():
        return str(wandb.Api().default_entity)


def push(view: Workspace, text: Report, record: Path) -> tuple[str, str]:
    """Send a workspace and a report to W&B, and return their URLs.

    Args:
        view: the workspace.
        text: the report.
        record: JSON file with the ids that W&B gave to the workspace and the report, so that both
            are updated when they are sent again.

    Raises:
        UserError: W&B refuses the workspace or the report, or doesn't answer.
    """
    key = f"{view.entity}/{view.project}"
    known: dict[str, Any] = {}
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
    sent = known.setdefault(key, {})
    hint = f"; if it was deleted there, remove {record}" if sent else ""
    view._internal_name = sent.get("workspace", "")
    view._internal_id = sent.get("workspace_id", "")
    text.id = sent.get("report_id", "")
    with _explained(hint):
        view.save()
        sent |= {"workspace": view._internal_name, "workspace_id": view._internal_id}
        # stored at once: if the report is refused, the view is updated next time, not sent again
        write_json(record, known)
        text.save()
        sent |= {"report_id": text.id}
        write_json(record, known)
        return view.url, text.url


@contextmanager
def _explained(hint: str = "") -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # refusals by the server have no common exception class
        reason = " ".join(str(error).split())
        raise UserError(f"push=true: W&B refused the dashboard ({reason}){hint}") from error
