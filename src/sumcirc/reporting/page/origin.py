"""Section: what was run, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sumcirc.evaluation.results import TRAINED, interval
from sumcirc.evaluation.score_table import format_score, format_seconds
from sumcirc.reporting.page.view import Block, Command, Gap, Items, Page, Table, Variant, Words
from sumcirc.reporting.tables import TextTable
from sumcirc.runtime.notices import lines
from sumcirc.tracking.run_directory import command_of
from sumcirc.tracking.run_records import RunRecords

FOLDED = 8  # more runs than that are listed in a table that opens at a click
OWN = ("hydra.run.dir=", "run.varied=")  # what a sweep adds to the words of each of its runs


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """What each run is; of several, one row each and a choice of the rest."""
    intro = "What was run, on what, and the command that runs it again."
    variants = [Variant(run.name, _facts(run)) for run in runs]
    if len(runs) > 1:
        intro = f"{len(runs)} runs. Choose one to see its command, versions and data."
        rows = Table(_rows(runs), folded=len(runs) > FOLDED)
        page.add("runs", "All runs", "One row for each run.", [Variant("", [rows])])
    page.add("origin", "What was run", intro, variants)
    for run in runs:
        if run.status["state"] != "done":
            reason = " ".join(str(run.status.get("reason") or "").split())
            remedy = (
                f"sumcirc train resume={shlex.quote(str(run.path))}" if run.trains else again(run)
            )
            page.gaps.append(
                Gap(f"{run.name}: {run.status['state']}{': ' if reason else ''}{reason}", remedy)
            )


def add_command(page: Page, command: str) -> None:
    """How to make the page again."""
    page.add(
        "page", "This page", "The command that makes it again.", [Variant("", [Command(command)])]
    )


def again(run: RunRecords, *more: str) -> str:
    """The command that runs it again, with further settings."""
    words = command_of(run.verb, run.environment)
    return shlex.join([*(word for word in words if not word.startswith(OWN)), *more])


def _facts(run: RunRecords) -> list[Block]:
    environment, config, summary = run.environment, run.config, run.summary
    rows = [
        ["verb", run.verb],
        ["state", str(run.status["state"])],
        ["started", str(run.status.get("started", "unknown"))],
        ["model", str(config.get("model", {}).get("name", "unknown"))],
        ["data", _data(run)],
        ["seed", str(config.get("seed", "unknown"))],
    ]
    if "trainable_parameters" in summary:
        whole = summary.get("total_parameters")
        share = f" of {whole:,}" if whole else ""
        rows.append(["trainable parameters", f"{summary['trainable_parameters']:,}{share}"])
    if "layers" in summary.get("adapter", {}):
        rows.append(["layers with an adapter", ", ".join(map(str, summary["adapter"]["layers"]))])
    if "model_dropout" in summary:
        rows.append(["dropout of the model", ", ".join(map(str, summary["model_dropout"]))])
    seconds = summary.get("seconds", {})
    if seconds:
        times = [f"{phase} {format_seconds(time)}" for phase, time in seconds.items()]
        rows.append(["time by phase", ", ".join(times)])
    versions = [
        f"{name} {version}" for name, version in environment.get("packages", {}).items() if version
    ]
    circumstances = [
        ["directory", str(run.path)],
        ["sumcirc", str(environment.get("sumcirc", "unknown"))],
        ["commit", str(environment.get("commit") or "unknown: installed, not a checkout")],
        ["python", str(environment.get("python", "unknown"))],
        ["packages", ", ".join(versions)],
        ["machine", str(environment.get("platform", "unknown"))],
    ]
    named = any(word.startswith("sweep.name=") for word in shlex.split(again(run)))
    where = " (with another sweep.name, or this run's directory is in the way)" if named else ""
    notes = lines(summary.get("notices", []))
    return [
        _pairs("the run", rows),
        *([Items("To note", notes)] if notes else []),
        Words(f"To run it again{where}:"),
        Command(again(run)),
        _pairs("versions, machine and directory", circumstances, folded=True),
    ]


def _pairs(title: str, rows: list[list[str]], folded: bool = False) -> Table:
    return Table(TextTable(title, ["what", "value"], rows, frozenset({"value"})), folded)


def _data(run: RunRecords) -> str:
    data = run.config.get("data")
    if not data:
        return "unknown"
    counts = {
        split: run.summary.get(f"data/{split}/items", size)
        for split, size in data.get("sizes", {}).items()
    }
    sizes = ", ".join(
        f"{split} {'all' if count is None else count}"
        for split, count in counts.items()
        if data.get(split) is not None
    )
    return f"{data.get('name')} ({sizes}; drawn by seed {data.get('seed')})"


def _rows(runs: Sequence[RunRecords]) -> TextTable:
    rows = []
    for run in runs:
        summary, seconds = run.summary, run.summary.get("seconds", {})
        trainable = summary.get("trainable_parameters")
        rows.append(
            [
                run.name,
                run.verb,
                run.status["state"],
                str(run.config.get("seed", "-")),
                "-" if trainable is None else f"{trainable:,}",
                str(summary.get("steps", "-")),
                format_seconds(seconds["train"]) if "train" in seconds else "-",
                _quality(run),
            ]
        )
    headings = ["run", "verb", "state", "seed", "trainable", "steps", "training time", "ROUGE-Lsum"]
    return TextTable(f"{len(runs)} runs", headings, rows)


def _quality(run: RunRecords) -> str:
    scores = run.summary.get("systems", {}).get(TRAINED)
    return format_score(interval(scores["rougeLsum_f1"])) if scores else "-"
