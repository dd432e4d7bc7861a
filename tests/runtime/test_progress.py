"""Progress of long work: lines in a pipe, a bar on a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from sumcirc.runtime import progress
from sumcirc.runtime.progress import counted


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_lines_come_every_few_seconds_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with counted("summarize", 40) as advance:
        for _ in range(10):
            clock.now += 2.0
            advance(4)
    assert capsys.readouterr().out.splitlines() == [
        "summarize: 12/40, 0:00:14 left",
        "summarize: 24/40, 0:00:08 left",
        "summarize: 36/40, 0:00:02 left",
        "summarize: 40/40, 20.0 s",
    ]


def test_a_start_that_is_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with counted("encode", 2) as advance:
        clock.now += 9.0
        advance(0)
        advance(2)
    assert capsys.readouterr().out == "encode: 2/2, 9.0 s\n"


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with counted("encode", 0):
        pass
    assert re.fullmatch(r"encode: 0/0, 0\.0 s\n", capsys.readouterr().out)


def test_a_failure_is_not_reported_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with counted("encode", 2) as advance:
            advance(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with counted("encode", 8) as advance:
        advance(3)
        advance(5)
    assert "8/8" in terminal.getvalue()
