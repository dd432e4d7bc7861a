"""Launches a sweep: decides which runs to start, locks the sweep, and reports at the end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sumcirc.errors import Unwritable, UserError
from sumcirc.runtime.quoting import word
from sumcirc.runtime.terminal import say
from sumcirc.storage.reading import is_there
from sumcirc.sweeps.display import print_status
from sumcirc.sweeps.run_states import CUT_OFF, DAMAGED, RunState, counts, read_run, read_sweep
from sumcirc.sweeps.sweep_record import FILE, SweepRecord, check_runs
from sumcirc.tracking.run_directory import located, runs_inside

# configured by sweep.jobs and sweep.gpus; other launchers have their own settings
OWN_LAUNCHER = "processes"


class Sweep:
    """One launch of a sweep, which may have been launched before.

    Args:
        folder: folder of the sweep, which contains its run directories.
        launched: record of the runs that this launch asks for. It has no runs if a Hydra sweeper
            chooses values while the sweep runs.

    Attributes:
        goes_on: whether the sweep was launched before.
        record: record of all runs of the sweep, including those of earlier launches.

    Raises:
        UserError: a sweep of the same name has another configuration.
    """

    def __init__(self, folder: Path, launched: SweepRecord) -> None:
        self.folder = folder
        self.launched = launched
        before = SweepRecord.read(folder)
        if before is None and folder.is_dir() and runs_inside(folder):
            raise UserError(
                f"sweep.name={folder.name}: {folder} holds runs that no sweep started; choose"
                " another sweep.name"
            )
        self.goes_on = before is not None
        self.record = before.extended(launched, folder) if before else launched
        check_runs(launched, folder)

    def states(self) -> list[RunState]:
        """Return the current states of the runs that this launch asks for."""
        if not self.launched.runs:
            started = self.folder.is_dir() and runs_inside(self.folder)
            return read_sweep(self.folder) if started else []
        values = self.launched.values
        return [read_run(self.folder / name, values[name]) for name in self.launched.runs]

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Write the sweep's record, and keep other launches of the sweep out while the block runs.

        Raises:
            UserError: another process is running the sweep, or the folder can't be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unwritable(self.folder, error.strerror or str(error)) from None
        with self._alone():
            self.record.write(self.folder)
            yield

    def check_free(self) -> None:
        """Check that no other process is running the sweep, without creating its folder.

        Raises:
            UserError: one is.
        """
        if self.folder.is_dir():
            with self._alone():
                pass

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"sweep.name={self.folder.name}: another process is running this sweep; wait"
                    " for it, or stop it first"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def announce(self, repeats: bool) -> None:
        """Print how many runs there are in each state, and which have the same configuration.

        Args:
            repeats: whether runs that have failed will run again.
        """
        for first, second in self.record.twins():
            say(f"note: {first} and {second} have the same configuration")
        states = self.states()
        text = f"sweep {self.folder.name}: {len(states)} runs" if states else ""
        if self.goes_on and states:
            text += f", {counts(states)}"
            failed = [state for state in states if state.state == "failed"]
            if failed and not repeats:
                text += "; failed runs stay as they are, sweep.retry=failed lets them go on"
        if text:
            say(text)

    def conclude(self) -> list[RunState]:
        """Print the table of states and return the runs that are not done."""
        states = self.states()
        if states:
            print_status(states, str(self.folder))
        return [state for state in states if state.state != "done"]


def remedy(unfinished: Sequence[RunState], total: int, name: str) -> str:
    """Return a line that lists the unfinished runs of a sweep and says how to continue.

    Args:
        unfinished: states of these runs.
        total: number of all runs of the sweep.
        name: name of the sweep.
    """
    listed = ", ".join(f"{state.name} ({state.state})" for state in unfinished)
    failed = any(state.state == "failed" for state in unfinished)
    others = any(state.state in ("pending", CUT_OFF) for state in unfinished)
    retry = " sweep.retry=failed" if failed else ""
    if all(state.state == DAMAGED for state in unfinished):
        how = "leaves them as they are: put the file back, or remove the run's folder"
    elif failed or others:
        how = "goes on with them"
    else:
        how = "waits for nothing: other processes run them"
    return (
        f"{len(unfinished)} of {total} runs are not done: {listed}; the same command with"
        f" {word(f'sweep.name={name}')}{retry} {how}"
    )


def find(name: str, runs_dir: Path) -> Path:
    """Return the folder of the sweep or run that `sumcirc status NAME` names.

    Args:
        name: a path or the name of a sweep, or empty for the newest sweep.
        runs_dir: folder that contains the sweeps.

    Raises:
        UserError: the name is empty, and there is no sweep.
    """
    if name:
        return located(name, runs_dir)
    sweeps = [
        path
        for path in runs_dir.glob("*")
        if path.is_dir() and (is_there(path / FILE) or runs_inside(path))
    ]
    if not sweeps:
        raise UserError(f"{runs_dir}: holds no runs; give the directory of a sweep or run")
    return max(sweeps, key=lambda path: path.stat().st_mtime)
