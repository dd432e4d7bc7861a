"""Progress of long work outside training: a rich bar on a terminal, plain lines elsewhere.

A function that takes long has an argument of type `Counted`: `counted` for the jobs, and `silent`,
its default, for callers from Python.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from sumcirc.runtime.terminal import console, guard, say

Counted = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

INTERVAL = 5.0  # seconds between plain lines


@contextmanager
def silent(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show no progress; used in place of `counted`."""
    yield lambda done: None


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of work on `total` items in a `with` block.

    Yields a function, which is to be called with the number of items finished since its last call.

    Args:
        label: description of the work.
        total: number of items.
    """
    if sys.stdout.isatty():
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        label_column = TextColumn("{task.description}", markup=False)
        columns = (label_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console()) as bar:
            guard()  # the bar replaces standard output
            task = bar.add_task(label, total=total)
            yield lambda done: bar.advance(task, done)
        return
    began = last = time.monotonic()
    so_far = 0

    def advance(done: int) -> None:
        nonlocal so_far, last
        so_far += done
        now = time.monotonic()
        if now - last >= INTERVAL and 0 < so_far < total:
            last = now
            left = (now - began) / so_far * (total - so_far)
            shown = timedelta(seconds=round(left))
            say(f"{label}: {so_far}/{total}, {shown} left")

    yield advance
    say(f"{label}: {so_far}/{total}, {time.monotonic() - began:.1f} s")
