"""One job of a sweep as a process of its own, and the status that it leaves in every case.

A job may end its process in any way: what it couldn't write any more (killed, out of memory, gone
in an import) is written here, by the process that waited for it.
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
OUTPUT = "output.txt"  # what a job prints, beside the log that Hydra writes


@dataclass(frozen=True)
class Job:
    """A run of a sweep, as a command.

    Args:
        words: verb and overrides that start it in `folder`.
        repeat: whether it goes on although it failed.
    """

    folder: Path
    words: Sequence[str]
    repeat: bool = False

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    def state(self) -> RunState:
        """Where the run stands."""
        return read_run(self.folder)

    def is_due(self) -> bool:
        """Whether there is anything to do: not done, not running, and failed only on request."""
        state = self.state().state
        return state in ("pending", CUT_OFF) or (state == "failed" and self.repeat)


class Child:
    """The process of a job. It starts the run, or goes on from its last checkpoint.

    It leads a process group of its own, so that Ctrl-C reaches the sweep alone, and gets a SIGTERM
    when the sweep's process dies (Linux). What it prints goes to the run's `output.txt`.
    """

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None) -> None:
        self.job = job
        self.run = RunDirectory(job.folder)
        words = list(job.words)
        # without a configuration it never came to begin
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
        """Whether the process has ended."""
        return self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the job."""
        if not self.is_gone():
            self.process.send_signal(number)

    def settle(self, stopping: bool = False) -> RunState:
        """Say in status.json how a process that is gone ended, unless it did so itself.

        Args:
            stopping: whether the sweep ended it, which is no failure.
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
        """End what the job has left behind, such as further processes of distributed training."""
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
    """What a new process calls to get a SIGTERM when the thread that started it is gone."""
    if sys.platform != "linux":
        return None
    system = ctypes.CDLL(None)
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    return lambda: system.prctl(set_parent_death_signal, signal.SIGTERM)
