"""The page's sections on what was run, how to run it again, and which settings differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sumcirc.reporting import kinds
from sumcirc.reporting.costs import cost_columns, cost_of
from sumcirc.reporting.page.blocks import (
    Block,
    Bullets,
    Gap,
    Page,
    RunBlocks,
    TableBlock,
    TypedCommand,
    Words,
)
from sumcirc.reporting.tables import format_score, format_seconds, interval_of
from sumcirc.runtime import quoting
from sumcirc.runtime.notices import lines
from sumcirc.tracking.run_directory import command_of
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.score_names import ROUGE_LSUM, TRAINED
from sumcirc.tracking.sweep_axes import flat_settings

# names and paths, which always differ and have no effect
APART = ("run", "runs_dir", "cache_dir", "sweep", "resume")
UNSET = "unset"
COLUMNS = 6  # most runs that get a column each; with more, each value is listed with its runs
FOLDED = 8  # number of runs above which their table is opened by a click
OWN = ("hydra.run.dir=", "run.varied=")  # words that a sweep adds to the command of each run


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add a section with facts about each run, preceded by a table of runs if there are several.

    Unfinished runs are added to the page's gaps.

    Args:
        page: page to which the sections are added.
        runs: runs to show.
    """
    intro = "What was run, on what, and the command that runs it again."
    variants = [RunBlocks(run.name, _facts(run)) for run in runs]
    if len(runs) > 1:
        intro = f"{len(runs)} runs. Choose one to see its command, versions and data."
        rows = TableBlock(_rows(runs), folded=len(runs) > FOLDED)
        page.add("runs", "All runs", "One row for each run.", [RunBlocks("", [rows])])
    page.add("origin", "What was run", intro, variants)
    for run in runs:
        if not run.done:
            reason = " ".join(str(run.status.get("reason") or "").split())
            remedy = (
                f"sumcirc train resume={shlex.quote(str(run.path))}" if run.trains else again(run)
            )
            page.gaps.append(
                Gap(f"{run.name}: {run.status['state']}{': ' if reason else ''}{reason}", remedy)
            )


def add_command(page: Page, command: str) -> None:
    """Add a section that shows the command that makes the page.

    Args:
        page: page to which the section is added.
        command: the command as typed in a shell.
    """
    page.add(
        "page",
        "This page",
        "The command that makes it again.",
        [RunBlocks("", [TypedCommand(command)])],
    )


def again(run: RunRecords, *more: str) -> str:
    """Return the shell command that repeats a run.

    Args:
        run: the run to repeat.
        more: words to append to the command, such as overrides of settings.
    """
    words = command_of(run.verb, run.environment)
    kept = [*(word for word in words if not word.startswith(OWN)), *more]
    return " ".join(map(quoting.word, kept))


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
    headings, (cost,) = cost_columns([cost_of([summary])])
    rows += [[f"training: {name}", cell] for name, cell in zip(headings, cost, strict=True)]
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
        *([Bullets("To note", notes)] if notes else []),
        Words(f"To run it again{where}:"),
        TypedCommand(again(run)),
        _pairs("versions, machine and directory", circumstances, folded=True),
    ]


def _pairs(title: str, rows: list[list[str]], folded: bool = False) -> TableBlock:
    return TableBlock(kinds.Table(title, ["what", "value"], rows, frozenset({"value"})), folded)


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


def _rows(runs: Sequence[RunRecords]) -> kinds.Table:
    rows = []
    cost_headings, costs = cost_columns([cost_of([run.summary]) for run in runs])
    for run, cost in zip(runs, costs, strict=True):
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
                *cost,
                _quality(run),
            ]
        )
    headings = ["run", "verb", "state", "seed", "trainable", "steps", "training time"]
    headings += [*cost_headings, "ROUGE-Lsum"]
    return kinds.Table(f"{len(runs)} runs", headings, rows)


def _quality(run: RunRecords) -> str:
    scores = run.summary.get("systems", {}).get(TRAINED)
    return format_score(interval_of(scores[ROUGE_LSUM])) if scores else "-"


def add_settings(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add a section with tables of the settings in which runs differ.

    Each subcommand (`train`, `circuit` and so on) has a table, unless all of its runs have equal
    settings.

    Args:
        page: page to which the section is added.
        runs: runs to compare.
    """
    verbs = dict.fromkeys(run.verb for run in runs)
    tables = [_differing([run for run in runs if run.verb == verb], verb) for verb in verbs]
    blocks: list[Block] = [TableBlock(table) for table in tables if table is not None]
    intro = "Settings that differ between runs of one verb; all others are equal."
    page.add("settings", "Differences in configuration", intro, [RunBlocks("", blocks)])


def _differing(runs: Sequence[RunRecords], verb: str) -> kinds.Table | None:
    configs = {run.name: _texts(run.config) for run in runs}
    names = [
        name
        for name in dict.fromkeys(name for config in configs.values() for name in config)
        if len({config.get(name) for config in configs.values()}) > 1
    ]
    if not names:
        return None
    values = {name: {run: one.get(name, UNSET) for run, one in configs.items()} for name in names}
    count = f"{len(names)} settings differ" if len(names) > 1 else "1 setting differs"
    title = f"sumcirc {verb}: {count}"
    if len(configs) <= COLUMNS:
        rows = [[name, *values[name].values()] for name in names]
        return kinds.Table(title, ["setting", *configs], rows, frozenset(configs))
    rows = [
        [name, value, ", ".join(run for run in configs if values[name][run] == value)]
        for name in names
        for value in dict.fromkeys(values[name].values())
    ]
    return kinds.Table(title, ["setting", "value", "runs"], rows, frozenset({"value", "runs"}))


def _texts(config: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in flat_settings(config, APART).items()
    }
