"""Finished training runs as a comparison reads them, and why others are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.files import read_metrics
from sumcirc.reading import read_yaml
from sumcirc.results import TRAINED, read_summary
from sumcirc.tracking.run_directory import RunDirectory

ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
# columns of documents.parquet that are compared, with their headings; not all data has facts
MEASURES = {
    **{f"{name}_f1": heading for name, heading in ROUGE.items()},
    "facts": "facts",
    "length": "words",
    "coverage": "coverage",
    "density": "density",
    "novel_ngrams_1": "novel 1-grams",
    "novel_ngrams_2": "novel 2-grams",
    "novel_ngrams_3": "novel 3-grams",
}
SHARES = {*(f"{name}_f1" for name in ROUGE), "facts"}  # fractions that are shown times 100
UNBOUNDED = {"length", "density"}  # the others lie between 0 and 1; none is negative


@dataclass(frozen=True)
class Run:
    """A training run that ended with scores.

    Attributes:
        config: its resolved configuration.
        summary: the content of its summary.json.
        ids: of the documents it was scored on, in order.
        values: measures of `MEASURES`, [documents] each; NaN where undefined.
        losses: (step, validation loss in nats per summary token).
        resumed: how often it was resumed; its training time is that since the last time.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    ids: list[str]
    values: dict[str, NDArray[np.float64]]
    losses: list[tuple[int, float]]
    resumed: int

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.path.name

    @property
    def layers(self) -> list[int] | None:
        """Those that have an adapter; None where the summary does not say."""
        return self.summary.get("adapter", {}).get("layers")

    @property
    def seeds(self) -> tuple[int, int | None]:
        """What makes it one of several of its arm: the seed, and that of a random selector."""
        selector = self.config.get("selector") or {}
        return self.config["seed"], selector.get("seed")


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why."""

    path: Path
    reason: str


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Read runs and the runs of sweeps.

    Returns:
        Runs in order of path, each once, and what can't be compared with the reason.

    Raises:
        UserError: a path holds no run, no run has scores, or items differ.
    """
    folders = list(dict.fromkeys(folder for path in paths for folder in run_folders(path)))
    runs: list[Run] = []
    left_out = [
        LeftOut(folder, "never started; give the sweep's command again")
        for path in paths
        for folder in _planned(path)
        if folder not in folders
    ]
    for folder in folders:
        found = _read(RunDirectory(folder))
        if isinstance(found, Run):
            runs.append(found)
        elif found is not None:
            left_out.append(LeftOut(folder, found))
    if not runs:
        reasons = f" ({left_out[0].path.name}: {left_out[0].reason})" if left_out else ""
        raise UserError(f"{paths[0]}: no training run has scores to compare{reasons}")
    _check_items(runs)
    return runs, left_out


def run_folders(path: Path) -> list[Path]:
    """The run directory at `path`, or those in the sweep directory there.

    Raises:
        UserError: it is neither.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such directory; give a run's directory or a sweep's")
    if RunDirectory(path).status_file.exists():
        return [path.resolve()]
    inside = sorted(file.parent.resolve() for file in path.glob("*/status.json"))
    if not inside:
        raise UserError(
            f"{path}: holds no run; give a directory that `sumcirc train` printed, or the sweep's"
        )
    return inside


def _planned(path: Path) -> list[Path]:
    """The runs of a sweep that has a record of them (`sweep.yaml`), started or not."""
    file = path / "sweep.yaml"
    if not file.exists():
        return []
    body = read_yaml(file)
    names = body.get("runs", {}) if isinstance(body, dict) else {}
    return [path.resolve() / str(name) for name in names]


def _read(directory: RunDirectory) -> Run | str | None:
    """The run, the reason for which it can't be compared, or None for what isn't training."""
    status = directory.status()
    if status.get("verb", "train") != "train":
        return None
    if status["state"] != "done":
        return _unfinished(directory, status)
    body = directory.read_config()
    summary = read_summary(directory)
    if TRAINED not in summary["systems"]:
        return f"was not scored; sumcirc evaluate checkpoint={directory.path} scores it alone"
    ids, values = _documents(directory)
    losses = [
        (step, value)
        for step, metric, value in read_metrics(directory.metrics.path)
        if metric == "validation/loss" and np.isfinite(value)
    ]
    return Run(
        directory.path,
        body["config"],
        body["environment"],
        summary,
        ids,
        values,
        losses,
        int(status.get("resumed", 0)),
    )


def _unfinished(directory: RunDirectory, status: Mapping[str, Any]) -> str:
    state, reason = status["state"], " ".join(str(status.get("reason") or "").split())
    if state == "failed":
        return f"failed: {reason}"
    words = "running, or cut off" if state == "running" else reason or "pending"
    remedy = f"`sumcirc train resume={directory.path}`"
    return words if remedy in words else f"{words}; {remedy} continues it"


def _documents(directory: RunDirectory) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    import pyarrow
    import pyarrow.parquet

    file = directory.documents_file
    try:
        names = pyarrow.parquet.read_schema(file).names
        table = pyarrow.parquet.read_table(
            file,
            columns=["id", *(name for name in MEASURES if name in names)],
            filters=[("system", "=", TRAINED)],
        )
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{file}: can't be read ({' '.join(str(error).split())}); run it again, or name the"
            " other runs"
        ) from None
    values = {
        name: np.array(table[name].to_pylist(), dtype=np.float64)
        for name in table.column_names
        if name != "id"
    }
    return [str(name) for name in table["id"].to_pylist()], values


def _check_items(runs: Sequence[Run]) -> None:
    first = runs[0]
    if len(first.ids) < 2:
        raise UserError(
            f"{first.path}: was scored on {len(first.ids)} document, of which nothing can be said;"
            " score more with data.sizes.test=N"
        )
    for run in runs:
        if (run.summary["items"], run.ids) != (first.summary["items"], first.ids):
            raise UserError(
                f"{run.path} and {first.path} were scored on different items (data or"
                " data.sizes.test or data.seed differs), so they can't be paired; compare those of"
                " equal items, or train again with the same"
            )


def baselines(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Scores of the untrained base and the baselines, where all runs agree on them."""
    found: dict[str, dict[str, Any]] = {}
    for name, scores in runs[0].summary["systems"].items():
        same = json.dumps(scores, sort_keys=True)
        if name != TRAINED and all(
            json.dumps(run.summary["systems"].get(name), sort_keys=True) == same for run in runs
        ):
            found[name] = scores
    return found
