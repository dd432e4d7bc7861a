"""Output to the terminal, in which text from files is shown but never interpreted.

Names of runs, reasons, ids and documents come from files that anybody may have written. Control
characters in them could clear the screen, hide text or imitate other output, and Unicode's
bidirectional controls could reorder it, so they are shown as Python writes them (`\\x1b`).

`say` prints a line, `paragraph` wraps a long one, `console` draws tables. `guard` applies the same
rule to everything else that reaches standard output and standard error: libraries, log records,
warnings, tracebacks.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from sumcirc.runtime.quoting import line, visible

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 150  # width of a file or a pipe in columns, unless COLUMNS is set

# control sequences that progress bars of libraries (tqdm) write: return to line start, line up
_BAR = re.compile(r"(\r)([^\r]*)(\r?)|(?:\n|\x1b\[A)+")


def say(text: str, *, error: bool = False) -> None:
    """Print one line and flush it.

    Args:
        text: the line.
        error: print to standard error.
    """
    print(line(text), file=sys.stderr if error else sys.stdout, flush=True)


class Guarded:
    """A wrapper of an output stream that writes control characters as visible text (`\\x1b`).

    Args:
        raw: the stream to wrap.
        bars: whether to let through the control characters with which libraries draw progress bars.

    Attributes:
        raw: the wrapped stream. `console` writes to it, since it adds colours after escaping.
    """

    def __init__(self, raw: TextIO, bars: bool) -> None:
        self.raw = raw
        self._bars = bars

    def write(self, text: str) -> int:
        """Write text with its control characters made visible; return the number of characters.

        A text that draws a progress bar keeps its control characters if bars are allowed.
        """
        bar = _BAR.fullmatch(text) if self._bars else None
        if bar is None:
            self.raw.write(visible(text))
        elif bar[1]:
            self.raw.write(f"{bar[1]}{visible(bar[2])}{bar[3]}")
        else:
            self.raw.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts, each as `write` does."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class _Record(logging.LogRecord):
    def getMessage(self) -> str:
        # further lines of a message can't look like a record of their own
        return visible(super().getMessage()).replace("\n", "\n    ")


def guard() -> None:
    """Make control characters visible in all output and log records of this process.

    Standard output and standard error are wrapped by `Guarded`. Repeated calls have no effect.
    """
    for name, bars in (("stdout", False), ("stderr", True)):
        stream = getattr(sys, name)
        if not isinstance(stream, Guarded):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # for encodings that lack a letter
            setattr(sys, name, Guarded(stream, bars))
    logging.setLogRecordFactory(_Record)


def raw_output() -> TextIO:
    """Return standard output without the wrapper `Guarded`.

    It is for code that draws on the terminal and shows no text from files.
    """
    return sys.stdout.raw if isinstance(sys.stdout, Guarded) else sys.stdout


def console() -> Console:
    """Return a rich console for standard output that makes control characters visible.

    It doesn't interpret markup. Its width is COLUMNS if this environment variable is a positive
    number, else that of the terminal, or `WIDE` if the output is not a terminal.
    """
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else None
    made = _console_class()(file=raw_output(), width=width)
    if width is None and not made.is_terminal:
        return _console_class()(file=raw_output(), width=WIDE)
    return made


def paragraph(text: str, style: str = "") -> None:
    """Print text wrapped at spaces; a word longer than a line, such as a path, is not broken.

    Args:
        text: the text.
        style: style of the library rich.
    """
    console().print(text, style=style, overflow="ignore", crop=False)


@cache
def _console_class() -> type[Console]:
    # rich is not imported for `--help`
    from rich.console import Console
    from rich.segment import Segment

    class VisibleConsole(Console):
        def __init__(self, **options: Any) -> None:
            super().__init__(markup=False, emoji=False, highlight=False, **options)

        def render_str(self, text: str, **options: Any) -> Any:  # before widths are measured
            return super().render_str(visible(text), **options)

        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                if segment.control:
                    yield segment
                else:
                    yield Segment(visible(segment.text), segment.style)

    return VisibleConsole
