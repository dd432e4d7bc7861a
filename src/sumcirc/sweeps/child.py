"""Runs one job of a sweep as a separate process, and completes the run's status when it ends.

A process that is killed, runs out of memory or fails in an import can't write the run's status. The
sweep's process, which waited for it, then writes the status.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sumcirc.runtime.processes import program
from sumcirc.sweeps.run_states import CUT_OFF, DAMAGED, RunState, read_run
from sumcirc.tracking.run_directory import RESUMABLE, RunDirectory

PROGRAM = program()
OUTPUT = "output.txt"  # what a job prints, in addition to Hydra's log


@dataclass(frozen=True)
class Job:
    """A run of a sweep, and the command that starts it.

    Args:
        folder: directory of the run.
        words: verb and overrides of the command that starts the run in `folder`.
        repeat: whether the run is started again if it has failed.
    """

    folder: Path
    words: Sequence[str]
    repeat: bool = False

    @property
    def name(self) -> str:
        """The name of the run, which is that of its directory."""
        return self.folder.name

    def state(self) -> RunState:
        """Return the current state of the run, read from its directory."""
        return read_run(self.folder)

    def is_due(self) -> bool:
        """Return whether the job should be started.

        That is so if the run is pending or cut off, or if it has failed and `repeat` is true.
        """
        state = self.state().state
        return state in ("pending", CUT_OFF) or (state == "failed" and self.repeat)


class Child:
    """The process of a job, which starts the run or continues it from its last checkpoint.

    The process leads its own process group, so that Ctrl-C reaches only the sweep. On Linux it
    receives SIGTERM when the sweep's process dies. Its output goes to the run's `output.txt`.

    Args:
        job: the job to start.
        environment: environment variables to set in addition to those of this process.
    """

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None) -> None:
        self.job = job
        self.run = RunDirectory(job.folder)
        words = list(job.words)
        # without a configuration the run never began
        if words[0] in RESUMABLE and self.run.config_file.exists():
            words = [words[0], f"resume={job.folder}"]
        else:
            self.run.status_file.unlink(missing_ok=True)
        job.folder.mkdir(parents=True, exist_ok=True)
        self._status_before = self._status_stamp()
        self._began = time.monotonic()
        with open(job.folder / OUTPUT, "ab") as output:
            self.process = subprocess.Popen(
                [*PROGRAM, *words],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent(),
            )

    def is_gone(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process if it is still running."""
        if not self.is_gone():
            self.process.send_signal(number)

    def settle(self, stopping: bool = False) -> RunState:
        """Write the run's status after the process has ended, unless the process wrote it itself.

        Args:
            stopping: whether the sweep ended the process, so that it doesn't count as a failure.

        Returns:
            The state of the run.
        """
        self._end_group()
        code, state = self.process.returncode, self.job.state()
        said = self._status_stamp() != self._status_before
        if state.state in ("running", DAMAGED):
            return state
        if said and state.state in ("done", "failed", "pending"):
            return state
        fields: dict[str, Any] = {
            "seconds": round((state.seconds or 0.0) + time.monotonic() - self._began, 1)
        }
        if not said:
            fields |= {"verb": self.job.words[0], "resumed": state.resumed}
        if stopping:
            if said:
                self.run.set_status("pending", reason="ended with its sweep", **fields)
            return self.job.state()
        reason = _ending(code)
        if not said:
            reason += f" before the run began: {_last_line(self.job.folder / OUTPUT)}"
        self.run.set_status("failed", reason=reason, traceback=OUTPUT, **fields)
        return self.job.state()

    def _status_stamp(self) -> int | None:
        file = self.run.status_file
        return file.stat().st_mtime_ns if file.exists() else None

    def _end_group(self) -> None:
        """End processes that the job left running, such as those of distributed training."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGTERM)


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process left with exit code {code}"
    reason = f"killed by signal {-code} ({signal.Signals(-code).name})"
    if -code == signal.SIGKILL:
        reason += "; this happens when memory runs out"
    return reason


def _last_line(file: Path) -> str:
    with open(file, "rb") as output:
        output.seek(max(0, file.stat().st_size - 4096))
        lines = output.read().decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


def _end_with_parent() -> Callable[[], None] | None:
    """Return a function by which a process asks the kernel for SIGTERM when its parent dies.

    The result is None on systems other than Linux.
    """
    if sys.platform != "linux":
        return None
    system = ctypes.CDLL(None)
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    return lambda: system.prctl(set_parent_death_signal, signal.SIGTERM)
