"""Processes that tests start: the command as users start it, and none left when the test is over.

Nothing here has a time limit. pytest's own (`timeout` in pyproject.toml) ends a test that hangs.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# the installed command, not `python -m sumcirc`: that is what the documentation starts
SCRIPT = Path(sysconfig.get_path("scripts")) / "sumcirc"
MARK = "SUMCIRC_TEST"  # in the environment of every process that a test has started, and of theirs
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_count = itertools.count()


class Processes:
    """Starts processes of one test, and kills what is left of them, theirs included."""

    def __init__(self) -> None:
        self._mark = f"{os.getpid()}-{next(_count)}"
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        ignored: Sequence[signal.Signals] = (),
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        """Start a command whose output goes to a pipe.

        Signals have their default actions, whatever the test runner was started with (`nohup`, a
        shell's background job), except for those in `ignored`.
        """

        def dispose() -> None:
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **(environment or {}), MARK: self._mark},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=dispose,
        )
        self._started.append(process)
        return process

    def sumcirc(self, *words: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
        """Start `sumcirc WORDS` in `cwd`, with a cache of its own there and no network."""
        cwd.mkdir(exist_ok=True)
        environment = {**offline(cwd / "cache"), **options.pop("environment", {})}
        return self.start([SCRIPT, *words], cwd=cwd, environment=environment, **options)

    def run(self, *words: str, cwd: Path, **options: Any) -> tuple[int, str]:
        """Run `sumcirc WORDS` to its end; returns its exit code and all that it printed."""
        process = self.sumcirc(*words, cwd=cwd, **options)
        output, _ = process.communicate()
        return process.returncode, output

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            process.kill()
        while left := list(_marked(self._mark)):
            for number in left:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.01)
        for process in self._started:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def offline(cache: Path) -> dict[str, str]:
    """Environment of a command that uses neither the network nor the user's own cache."""
    return {
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "SUMCIRC_CACHE": str(cache),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def wait_until(condition: Callable[[], Any], *running: subprocess.Popen[str]) -> None:
    """Wait for a condition; fails where one of the processes ends before it holds."""
    while not condition():
        for process in running:
            if process.poll() is not None and not condition():
                raise AssertionError(f"ended too early: {process.communicate()[0]}")
        time.sleep(0.02)


def is_gone(number: int) -> bool:
    """Whether a process has ended, reaped by its parent or not."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


def _marked(mark: str) -> Iterator[int]:
    """Processes with a test's mark in their environment, where the system shows it."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if wanted in variables:
            yield int(folder.name)
