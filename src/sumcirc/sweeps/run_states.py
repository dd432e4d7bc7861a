"""The state of every run of a sweep, read from its directory without torch or Hydra."""

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
from sumcirc.tracking.score_names import BASE, TRAINED

CUT_OFF = "cut off"  # status.json says `running`, but no process is
NOT_STARTED = "not started"
DAMAGED = "damaged"  # a record can't be read
SCORES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class RunState:
    """The state of one run.

    Args:
        name: name of the run.
        folder: path of the run directory.
        state: `pending`, `running`, `cut off`, `done`, `failed` or `damaged`.
        step, steps: optimizer steps logged so far, and in total; None if unknown.
        scores: ROUGE F1 x 100 of the trained (or evaluated) model, once the run is done.
        seconds: wall time of the run in total, including resumed parts; None if unknown.
        resumed: how often the run was resumed.
        reason: why the run is in this state, or None.
        earlier: warning that an earlier version of this package made the run, or None.
        axes: the run's value of each swept setting.
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
        """Whether the run was ever started."""
        return self.reason != NOT_STARTED


def read_run(folder: Path, axes: dict[str, Any] | None = None) -> RunState:
    """Return the state of a run, which need not have been started.

    The state is `damaged` if a record of the run can't be read. The reason then names the file and
    the key.

    Args:
        folder: directory of the run.
        axes: the run's value of each swept setting.
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
    """Return the states of all runs of a sweep, or of a single run.

    Runs that are listed in the sweep's record come first.

    Args:
        folder: folder of a sweep, or a run directory.

    Raises:
        UserError: the folder contains no run.
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
    """Return the number of runs in each state as text, such as `3 done, 1 failed, 2 pending`."""
    number = Counter(run.state for run in states)
    order = ("done", "failed", "running", CUT_OFF, "pending", DAMAGED)
    return ", ".join(f"{number[state]} {state}" for state in order if number[state])


def _scores(records: RunRecords) -> dict[str, float]:
    own = records.systems.get(TRAINED) or records.systems.get(BASE) or {}
    found = {name: own.get(f"{name}_f1") for name in SCORES}
    return {name: 100 * value["mean"] for name, value in found.items() if value}


def _since(records: RunRecords) -> float:
    """Return the seconds since the run was started."""
    moment = records.status.get("started")
    if moment is None:
        return 0.0
    try:
        began = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise RecordError(records.directory.status_file, str(error), "started") from None
    return max(0.0, time.time() - began.timestamp())
