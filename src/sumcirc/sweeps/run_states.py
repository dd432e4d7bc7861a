"""Where every run of a sweep stands, read from its directory: no torch, no Hydra."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sumcirc.errors import UserError
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import read_last_step
from sumcirc.sweeps.sweep_record import SweepRecord
from sumcirc.tracking.run_directory import RunDirectory, runs_inside
from sumcirc.tracking.run_records import RunRecords

CUT_OFF = "cut off"  # status.json says `running`, and no process does
NOT_STARTED = "not started"
DAMAGED = "damaged"  # a record can't be read
SCORES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class RunState:
    """One run.

    Args:
        state: pending, running, cut off, done, failed or damaged.
        step, steps: optimizer steps logged and in all; None where none are known.
        scores: ROUGE F1 x 100 of what was trained (or evaluated), once it is done.
        seconds: wall time that it ran, over all resumes.
        earlier: what to say of a run that an earlier version made.
    """

    name: str
    folder: str
    state: str
    step: int | None = None
    steps: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    resumed: int = 0
    reason: str | None = None
    earlier: str | None = None
    axes: dict[str, Any] = field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether a run directory is there."""
        return self.reason != NOT_STARTED


def read_run(folder: Path, axes: dict[str, Any] | None = None) -> RunState:
    """The state of the run in `folder`, whether or not it was started.

    Where a record that tells it can't be read it is `damaged`, with the file and key as the reason.
    """
    axes = axes or {}
    try:
        return _read_run(RunRecords(folder), axes)
    except RecordError as error:
        return RunState(folder.name, str(folder), DAMAGED, reason=error.below(folder), axes=axes)


def _read_run(records: RunRecords, axes: dict[str, Any]) -> RunState:
    run, folder = records.directory, records.path
    if not os.path.lexists(run.status_file):
        return RunState(folder.name, str(folder), "pending", reason=NOT_STARTED, axes=axes)
    status = records.status
    state, reason = status["state"], status.get("reason")
    seconds = float(status.get("seconds", 0.0))
    if state == "running":
        if run.is_running(status):
            seconds += _since(records)
        else:
            state, reason = CUT_OFF, f"its process ({status.get('process')}) is gone"
        if status.get("host") != socket.gethostname():
            reason = f"on {status.get('host')}" + (f": {reason}" if reason else "")
    return RunState(
        folder.name,
        str(folder),
        state,
        read_last_step(run.metrics.path),
        status.get("steps"),
        _scores(records) if state == "done" else {},
        seconds or None,
        status.get("resumed", 0),
        reason,
        records.earlier,
        axes,
    )


def read_sweep(folder: Path) -> list[RunState]:
    """The states of a sweep's runs, those that its record names first; of a run's folder, its own.

    Raises:
        UserError: no run is there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such directory; give the directory of a sweep or run")
    if os.path.lexists(RunDirectory(folder).status_file):
        return [read_run(folder)]
    record = SweepRecord.read(folder)
    values = record.values if record else {}
    others = (path.name for path in runs_inside(folder))
    names = dict.fromkeys([*values, *others])
    if not names:
        raise UserError(f"{folder}: holds no runs; give the directory of a sweep or run")
    return [read_run(folder / name, values.get(name)) for name in names]


def counts(states: Sequence[RunState]) -> str:
    """`3 done, 1 failed, 2 pending`."""
    number = Counter(run.state for run in states)
    order = ("done", "failed", "running", CUT_OFF, "pending", DAMAGED)
    return ", ".join(f"{number[state]} {state}" for state in order if number[state])


def _scores(records: RunRecords) -> dict[str, float]:
    from sumcirc.evaluation.results import BASE, TRAINED

    own = records.systems.get(TRAINED) or records.systems.get(BASE) or {}
    found = {name: own.get(f"{name}_f1") for name in SCORES}
    return {name: 100 * value["mean"] for name, value in found.items() if value}


def _since(records: RunRecords) -> float:
    """Seconds since the run was started."""
    moment = records.status.get("started")
    if moment is None:
        return 0.0
    try:
        began = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise RecordError(records.directory.status_file, str(error), "started") from None
    return max(0.0, time.time() - began.timestamp())
