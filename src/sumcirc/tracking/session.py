"""Runs a job from its configuration, and records in status.json how the run ended."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sumcirc import __version__
from sumcirc.errors import NoRoom, Stopped, UserError
from sumcirc.runtime.messages import one_line
from sumcirc.runtime.pipes import CODE, lost_reader
from sumcirc.schema.configuration import literal
from sumcirc.storage.writing import remove_leftovers, write_text
from sumcirc.tracking.record_format import check_continues, format_of
from sumcirc.tracking.run_directory import RunDirectory

Config = TypeVar("Config")

LOCK_TRIES = 10


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration dataclass as nested dictionaries for YAML and W&B.

    Enumerated values are replaced by their names.
    """
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.name if isinstance(value, Enum) else value


def stored_config(run: RunDirectory, schema: type[Config]) -> Config:
    """Return the configuration of an existing run.

    Args:
        run: directory of the run.
        schema: configuration class of the verb that made the run.

    Raises:
        UserError: another version wrote the configuration, or it does not fit the schema.
    """
    body = run.read_config()
    check_continues(format_of(body), str(run.path), "so start the run again")
    version = body["environment"].get("sumcirc")
    if version != __version__:
        raise UserError(
            f"{run.path}: was written by sumcirc {version}, this is {__version__};"
            f" use that version (pip install sumcirc=={version})"
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), literal(body["config"]))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{run.config_file}: {one_line(error)}") from None


def carry_out(
    config: Config,
    folder: Path,
    verb: str,
    check: Callable[[Config], None],
    work: Callable[[Config, RunDirectory], None],
) -> None:
    """Create a run directory and run a whole job in it; for verbs whose runs can't be resumed.

    Args:
        config: configuration of the job.
        folder: the run directory to create.
        verb: the command that makes the run, such as `circuit`.
        check: called with the configuration before `work`; raises UserError if it can't be run.
        work: called with the configuration and the run directory; does the job.

    Raises:
        UserError: as in `RunDirectory.create` and `running`, or the job refuses its input.
    """
    directory = RunDirectory.create(folder, verb, plain(config))
    with running(directory):
        check(config)
        work(config, directory)


@contextmanager
def running(run: RunDirectory) -> Iterator[None]:
    """Record in status.json that a run is running, and when the block ends, how it ended.

    The final state is `done`; `failed`, with a reason, after an error; or `pending` if the run was
    stopped from outside (Ctrl-C, SIGTERM). After `kill -9` the state remains `running`.

    Raises:
        UserError: another process is running this run.
        Stopped: the run was stopped from outside.
    """
    with _alone(run), sigterm_raises() as came:
        remove_leftovers(run.path)
        before = run.status()
        began = time.monotonic()
        run.set_status(
            "running",
            wandb_id=before.get("wandb_id") or secrets.token_hex(4),
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            seconds=before.get("seconds", 0.0),
            **({"traceback": None} if "traceback" in before else {}),
        )

        def leave(state: str, **fields: Any) -> None:
            seconds = before.get("seconds", 0.0) + time.monotonic() - began
            run.set_status(state, seconds=round(seconds, 1), **fields)

        try:
            yield
        except BaseException as error:
            # an error after the signal is caused by it: W&B's process may have received it too
            stopped = _stopped(came[0] if came else error)
            if stopped is not None:
                how, code = stopped
                reason = f"stopped by {how}; {run.continuation()}"
                leave("pending", reason=reason)
                raise Stopped(reason, code) from None
            if isinstance(error, NoRoom):
                error.args = (f"{error}, then {run.continuation()}",)
            if isinstance(error, UserError):
                leave("failed", reason=str(error))
                raise
            file = run.path / "traceback.txt"
            write_text(file, traceback.format_exc())
            reason = f"{type(error).__name__}: {error}"
            leave("failed", reason=reason, traceback=file.name)
            raise
        leave("done", reason=None)


@contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    """Hold a lock on the directory, which the system releases when the process ends in any way."""
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        if not _locked(descriptor):
            status = run.status()
            raise UserError(
                f"{run.path}: is being run by another process ({status.get('process')} on"
                f" {status.get('host')}); wait for it, or stop it first"
            )
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock, retrying since `sumcirc status` holds it for an instant to test it."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


@contextmanager
def sigterm_raises() -> Iterator[list[Stopped]]:
    """Turn SIGTERM into an exception, so that open files are closed; keep handlers set by others.

    Yields a list that contains the exception once it was raised.
    """
    came: list[Stopped] = []
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not (free and threading.current_thread() is threading.main_thread()):
        yield came
        return

    def stop(number: int, frame: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # handle it only once
        came.append(Stopped("stopped by SIGTERM", 128 + signal.SIGTERM))
        raise came[0]

    signal.signal(signal.SIGTERM, stop)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stopped(error: BaseException) -> tuple[str, int] | None:
    """Return what stopped a job and its exit code, or None if it failed by itself."""
    # not imported for this check, which would take seconds between the signal and the status
    lightning = sys.modules.get("pytorch_lightning.utilities.exceptions")
    if isinstance(error, Stopped) or (lightning and isinstance(error, lightning.SIGTERMException)):
        return "SIGTERM", 128 + signal.SIGTERM
    if lost_reader(error):
        return "the end of what its output went to", CODE
    # within `fit` Lightning turns Ctrl-C into a plain exit
    by_key = isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    if by_key or isinstance(error, KeyboardInterrupt):
        return "Ctrl-C", 128 + signal.SIGINT
    return None


class Clock:
    """Measures the wall time of the phases of a run.

    Args:
        seconds: times measured earlier, by phase, to which new times are added; None for none.

    Attributes:
        seconds: wall time in seconds by phase.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time that a `with` block takes to the phase `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def move(self, of: str, to: str, seconds: float) -> None:
        """Subtract a time from one phase and add it to another.

        Args:
            of: the phase as part of which the time was measured.
            to: the phase to which the time belongs.
            seconds: the time in seconds.
        """
        self.seconds[of] -= seconds
        self.seconds[to] = self.seconds.get(to, 0.0) + seconds
