"""Section: in which settings runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sumcirc.report.page.source import Source
from sumcirc.report.page.view import Page, Table, Variant
from sumcirc.report.tables import TextTable

# names and places, which differ always and change nothing
APART = ("run.", "runs_dir", "cache_dir", "sweep.", "resume")
INTRO = "The settings that are not the same in all runs; all others are equal."


def add(page: Page, runs: Sequence[Source]) -> None:
    """A row for each setting that differs, a column for each run of a few, else runs as rows."""
    if len(runs) < 2:
        return
    configs = [dict(_flat(run.config)) for run in runs]
    names = [
        name
        for name in dict.fromkeys(name for config in configs for name in config)
        if len({config.get(name) for config in configs}) > 1 and not name.startswith(APART)
    ]
    if not names:
        return
    rows = [
        [run.name, *(config.get(name, "unset") for name in names)]
        for run, config in zip(runs, configs, strict=True)
    ]
    table = TextTable(f"{len(names)} settings differ", ["run", *names], rows, frozenset(names))
    page.add("settings", "Differences in configuration", INTRO, [Variant("", [Table(table)])])


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, part in value.items()
            for pair in _flat(part, f"{name}.{key}" if name else str(key))
        ]
    return [(name, value if isinstance(value, str) else json.dumps(value, default=str))]
