"""Trains one run, in runs/s/r of a folder, and reads the curves that it logged."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from tests.support.command_server import CommandServer, Finished


def train(commands: CommandServer, folder: Path, words: list[str], **options: Any) -> Finished:
    """Run `sumcirc train WORDS` in a folder; `options` are those of `CommandServer.run`."""
    folder.mkdir(exist_ok=True)
    names = ["sweep.name=s", "run.name=r"]
    return commands.run("train", *words, *names, cwd=folder, figures=False, **options)


def values(run: Path, metric: str) -> dict[int, float]:
    """Return the values of a metric in a run's metrics.csv, by step."""
    rows = csv.reader((run / "metrics.csv").read_text().splitlines()[1:])
    return {int(step): float(value) for step, name, value in rows if name == metric}
