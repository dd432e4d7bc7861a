"""Trials of damaged files: each must give a result or a one-line refusal."""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sumcirc.errors import UserError
from tests.mutations.mutating import Draw, draw, mutated

PATIENCE = 60  # seconds after which something hangs; on a busy machine nothing takes a tenth of it
FEW = 6  # mutations of a kind of file in `make test`
MANY = 300  # in `make test-slow`


class Hang(BaseException):
    """A trial did not finish in time."""


@contextmanager
def watched(seconds: int = PATIENCE) -> Iterator[None]:
    """Raise `Hang` if the block takes longer than `seconds`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"nothing after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault_of(trial: Callable[[], object]) -> str | None:
    """Return what is wrong with the outcome of a trial; None for a result or a proper refusal.

    A refusal is a UserError of one line, as the command line prints it.
    """
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial()
    except UserError as error:
        text = str(error)
        if "\n" in text or not text.strip():
            return f"refused in other than one line: {text!r}"
        return None
    except (Exception, Hang, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:200]}"
    return None


def faults(
    file: Path, kinds: list[Draw], trial: Callable[[], object], count: int, seed: int = 0
) -> list[str]:
    """Return a description of each mutation of a file that led to a fault."""
    found = []
    for mutation in draw(kinds, count, seed):
        with mutated(file, mutation):
            fault = fault_of(trial)
        if fault is not None:
            found.append(f"{mutation.name}: {fault}")
    return found
