"""Section: in which settings runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sumcirc.reporting.page.view import Block, Page, Table, Variant
from sumcirc.reporting.tables import TextTable
from sumcirc.tracking.run_records import RunRecords

# names and places, which differ always and change nothing
APART = ("run.", "runs_dir", "cache_dir", "sweep.", "resume")
UNSET = "unset"
INTRO = (
    "The settings that are not the same in all runs of a verb, one row for each; all others are"
    " equal."
)
MOST = 6  # runs with a column of their own; of more runs, each value is listed with its runs


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add a table for each verb whose runs differ in a setting."""
    verbs = dict.fromkeys(run.verb for run in runs)
    tables = [_table([run for run in runs if run.verb == verb], verb) for verb in verbs]
    blocks: list[Block] = [Table(table) for table in tables if table is not None]
    page.add("settings", "Differences in configuration", INTRO, [Variant("", blocks)])


def _table(runs: Sequence[RunRecords], verb: str) -> TextTable | None:
    configs = {run.name: dict(_flat(run.config)) for run in runs}
    names = [
        name
        for name in dict.fromkeys(name for config in configs.values() for name in config)
        if len({config.get(name) for config in configs.values()}) > 1 and not name.startswith(APART)
    ]
    if not names:
        return None
    values = {
        name: {run: config.get(name, UNSET) for run, config in configs.items()} for name in names
    }
    count = f"{len(names)} settings differ" if len(names) > 1 else "1 setting differs"
    title = f"sumcirc {verb}: {count}"
    if len(configs) <= MOST:
        rows = [[name, *values[name].values()] for name in names]
        return TextTable(title, ["setting", *configs], rows, frozenset(configs))
    rows = [
        [name, value, ", ".join(run for run in configs if values[name][run] == value)]
        for name in names
        for value in dict.fromkeys(values[name].values())
    ]
    return TextTable(title, ["setting", "value", "runs"], rows, frozenset({"value", "runs"}))


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, part in value.items()
            for pair in _flat(part, f"{name}.{key}" if name else str(key))
        ]
    return [(name, value if isinstance(value, str) else json.dumps(value, default=str))]
