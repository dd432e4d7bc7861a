"""Reads runs for a report, and decides which of them can be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.reporting.inside import InsideValues, inside_values, retention_values
from sumcirc.reporting.views.system_scores import rouge_words
from sumcirc.storage.reading import RecordError, is_there, read_yaml
from sumcirc.tracking.measure_records import (
    VALIDATION_LOSS,
    ProbeRecord,
    record_file,
    record_files,
)
from sumcirc.tracking.run_directory import RunDirectory, runs_inside
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.score_names import SCORES, TRAINED


class ReportRun(RunRecords):
    """The records of a run, with the scores of its trained model on each document."""

    @cached_property
    def _trained(self) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        ids, values = self.scores(TRAINED, list(SCORES))
        expected = self.systems[TRAINED]["rouge1_f1"]["n"]
        if len(ids) != expected:
            file = self.directory.documents_file
            reason = f"has {len(ids)} rows of {TRAINED}, its summary says {expected}"
            raise RecordError(file, reason)
        return ids, values

    @property
    def ids(self) -> list[str]:
        """Ids of the documents on which the trained model was scored, in order."""
        return self._trained[0]

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """The trained model's scores [documents], by name; NaN where a score is undefined."""
        return self._trained[1]

    @cached_property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss in nats per summary token) of all validations whose loss is finite."""
        found = self.metrics.get(VALIDATION_LOSS, [])
        return [(step, value) for step, value in found if np.isfinite(value)]

    @cached_property
    def inside(self) -> dict[str, InsideValues]:
        """Values of the measures in `reporting.inside` that the run recorded, by name.

        They are missing if a record is damaged, which the page says.
        """
        files = record_files(self.directory.probes)
        base = record_file(self.directory.probes, -1)
        try:
            last = ProbeRecord.read(files[-1]) if files else None
            first = ProbeRecord.read(base) if is_there(base) else None
            found = inside_values(last, first, self.metrics)
            return found | retention_values(self.retention, self.summary.get("retention", {}))
        except RecordError:
            return {}

    @property
    def resumed(self) -> int:
        """Number of times the run was resumed. Its training time is that since the last resume."""
        return self.status.get("resumed", 0)

    @property
    def layers(self) -> list[int] | None:
        """Indices of the layers that have an adapter; None if summary.json doesn't list them."""
        return self.summary.get("adapter", {}).get("layers")

    @property
    def seeds(self) -> tuple[int, int | None]:
        """The run's seed and its selector's seed (or None), which tell the runs of an arm apart."""
        selector = self.config.get("selector") or {}
        return self.config["seed"], selector.get("seed")


class Planned(TypedDict):
    """The part of sweep.yaml that lists the planned runs."""

    runs: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class LeftOut:
    """A run that a report leaves out.

    Attributes:
        path: path of the run directory.
        reason: why the run is left out.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Gathered:
    """The runs that a report covers.

    Attributes:
        runs: the runs whose status, configuration and summary can be read.
        left_out: runs that are damaged, or that a sweep hasn't started.
    """

    runs: list[ReportRun]
    left_out: list[LeftOut]


def gather(paths: Sequence[Path]) -> Gathered:
    """Read all runs at the given paths, each once.

    Damaged runs, and runs that a sweep hasn't started, are listed in `Gathered.left_out`.

    Args:
        paths: directories of runs and of sweeps.

    Raises:
        UserError: a path contains no runs, or no run can be read.
    """
    folders = list(dict.fromkeys(folder for path in paths for folder in run_folders(path)))
    left_out = [found for path in paths for found in _not_started(path, folders)]
    runs, errors = [], []
    for folder in folders:
        try:
            run = ReportRun(folder)
            run.check()
        except RecordError as error:
            errors.append(error)
            left_out.append(damaged(folder, error))
        else:
            runs.append(run)
    if not runs:
        raise errors[0]
    return Gathered(runs, left_out)


def damaged(run: Path, error: RecordError) -> LeftOut:
    """Return an entry for a run that is left out because one of its records can't be read.

    Args:
        run: path of the run directory.
        error: error that was raised when the record was read.
    """
    return LeftOut(run, f"{error.below(run)}; run it again, or put the file back")


def read_runs(paths: Sequence[Path]) -> tuple[list[ReportRun], list[LeftOut]]:
    """Read all runs at the given paths, and return the runs to compare and the runs left out.

    Args:
        paths: directories of runs and of sweeps.
    """
    return scored_runs(gather(paths))


def scored_runs(gathered: Gathered) -> tuple[list[ReportRun], list[LeftOut]]:
    """Return the training runs that can be compared, and the runs left out with the reasons.

    Readable runs of other subcommands than `sumcirc train` are in neither list.

    Args:
        gathered: all runs.

    Raises:
        UserError: no run has scores, no majority of the runs was scored on the same items, or the
            runs were scored on only one document.
    """
    runs: list[ReportRun] = []
    left_out = list(gathered.left_out)
    for run in gathered.runs:
        try:
            reason = _why_not(run)
        except RecordError as error:
            left_out.append(damaged(run.path, error))
            continue
        if reason:
            left_out.append(LeftOut(run.path, reason))
        elif run.trains:
            runs.append(run)
    if not runs:
        first = gathered.runs[0].path
        reasons = f" ({left_out[0].path.name}: {left_out[0].reason})" if left_out else ""
        raise UserError(f"{first}: no training run has scores to compare{reasons}")
    return _of_equal_items(runs, left_out)


def run_folders(path: Path) -> list[Path]:
    """Return a run directory itself, or the run directories in the folder of a sweep.

    Args:
        path: a run directory, or the folder of a sweep.

    Raises:
        UserError: the path contains no runs.
    """
    if not os.path.isdir(path):
        raise UserError(f"{path}: no such directory; give a run's directory or a sweep's")
    if os.path.lexists(RunDirectory(path).status_file):
        return [path.resolve()]
    inside = [run.resolve() for run in runs_inside(path)]
    if not inside:
        raise UserError(
            f"{path}: holds no run; give a directory that `sumcirc train` printed, or the sweep's"
        )
    return inside


def _not_started(path: Path, started: Sequence[Path]) -> list[LeftOut]:
    """Return the runs listed in a sweep's record (`sweep.yaml`) that have no directory."""
    file = path / "sweep.yaml"
    if not is_there(file):
        return []
    try:
        body: Planned = read_yaml(file, Planned)
    except RecordError as error:
        return [LeftOut(file, f"{error.brief}, so it isn't known which runs were not started")]
    planned = [path.resolve() / name for name in body.get("runs", {})]
    reason = "never started; give the sweep's command again"
    return [LeftOut(folder, reason) for folder in planned if folder not in started]


def _why_not(run: ReportRun) -> str | None:
    """Return why a training run can't be compared.

    The result is None if it can, and for runs of other commands than `sumcirc train`.

    Raises:
        RecordError: a record is damaged.
    """
    if not run.trains:
        return None
    if not run.done:
        return _unfinished(run)
    if TRAINED not in run.systems:
        return f"was not scored; sumcirc evaluate checkpoint={run.path} scores it alone"
    _ = run.ids, run.losses
    return None


def _unfinished(records: RunRecords) -> str:
    state = records.status["state"]
    reason = " ".join((records.status.get("reason") or "").split())
    if state == "failed":
        return f"failed: {reason}"
    words = "running, or cut off" if state == "running" else reason or "pending"
    remedy = records.directory.continuation()
    return words if remedy in words else f"{words}; {remedy}"


def _of_equal_items(
    runs: Sequence[ReportRun], left_out: list[LeftOut]
) -> tuple[list[ReportRun], list[LeftOut]]:
    """Return the majority of runs that were scored on the same items, and all runs left out.

    Raises:
        UserError: no majority has the same items, or the items are one document only.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[ReportRun]] = {}
    for run in runs:
        key = run.summary["items"], rouge_words(run.summary), tuple(run.ids)
        groups.setdefault(key, []).append(run)
    first, *others = sorted(groups.values(), key=len, reverse=True)
    if others and 2 * len(first) <= len(runs):
        raise UserError(
            f"{others[0][0].path} and {first[0].path} were scored on different items or by other"
            " words (data, data.sizes.test, data.seed or evaluation.rouge_tokenizer differs), so"
            " they can't be paired; compare runs on equal items, or train again with the same"
        )
    if len(first[0].ids) < 2:
        raise UserError(
            f"{first[0].path}: was scored on {len(first[0].ids)} document, too few for a"
            " comparison; score more with data.sizes.test=N"
        )
    reason = f"was scored on other items or words than {first[0].name} and most runs"
    return first, [*left_out, *(LeftOut(run.path, reason) for one in others for run in one)]


def baselines(runs: Sequence[ReportRun]) -> dict[str, dict[str, Any]]:
    """Return the scores of each untrained system (base or baseline) on which all runs agree.

    Args:
        runs: the runs to compare.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, scores in runs[0].summary["systems"].items():
        same = json.dumps(scores, sort_keys=True)
        if name != TRAINED and all(
            json.dumps(run.summary["systems"].get(name), sort_keys=True) == same for run in runs
        ):
            found[name] = scores
    return found
