"""Quiet exit when nobody reads the output any more, as after `sumcirc status | head`."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

CODE = 128 + signal.SIGPIPE  # as shells report a program that SIGPIPE ended


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Run a `with` block, and exit quietly with `CODE` if nobody reads the output any more.

    Output is that to standard output and standard error. An exit with another error code keeps it.
    """
    try:
        yield
    except BaseException as error:
        lost = lost_reader(error)
        # an exit because of another error keeps its code
        if not (_let_go() and isinstance(error, SystemExit) and not error.code) and not lost:
            raise
        raise SystemExit(CODE) from None
    if _let_go():
        raise SystemExit(CODE)


def lost_reader(error: BaseException) -> bool:
    """Return whether an exception was raised because nobody reads the output any more.

    This is the case for a BrokenPipeError if the other end of standard output or standard error is
    closed (sockets and other pipes raise the same error), and for a SystemExit that was raised
    while a BrokenPipeError was handled, as rich does.
    """
    if isinstance(error, SystemExit):
        return isinstance(error.__context__, BrokenPipeError)
    return isinstance(error, BrokenPipeError) and any(map(_is_broken, (sys.stdout, sys.stderr)))


def _is_broken(stream: TextIO | None) -> bool:
    """Return whether the other end of a stream is closed."""
    try:
        asked = select.poll()
        asked.register(stream.fileno(), 0)  # type: ignore[union-attr]
        return bool(asked.poll(0))
    except (AttributeError, OSError, ValueError):  # there is no stream, or no file behind it
        return False


def _let_go() -> bool:
    """Redirect broken streams to /dev/null, since Python flushes them at exit."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    broken = [stream for stream in (sys.stdout, sys.stderr) if _is_broken(stream)]
    for stream in broken:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return bool(broken)
