"""Tables in terminals of any width: nothing is cut, and no name or number is broken."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import print_tables

INTERVAL = "+24.8 [-24.0, 125.6]"
NAME = "adaptation=lora,adaptation.layers=2-3-5,rank=16"
LONG = "runs/" + "a-very-long-name-" * 8
WORDS = "differs from the control after Holm's correction: lower, at twice the cost"


def table(name: str, columns: int = 6) -> Table:
    headings = ["arm", *(f"measure {i}" for i in range(columns)), "in words", "漢字"]
    rows = [[one, *[INTERVAL] * columns, WORDS, "漢字漢字"] for one in (name, "(lead-3)")]
    return Table(f"of {name}", headings, rows, frozenset({"in words"}))


def shown(printed: Table, width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    print_tables(printed)
    return capsys.readouterr().out.splitlines()[2:]


@pytest.mark.parametrize("width", [80, 81, 100, 119, 150, 400])
@pytest.mark.parametrize("name", ["first", NAME, LONG])
@pytest.mark.parametrize("columns", [1, 6])
def test_every_width(
    width: int,
    name: str,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(table(name, columns), width, monkeypatch, capsys)
    for line in lines:
        assert cell_len(line) <= width or name == LONG in line
    printed = "\n".join(lines)
    assert name in printed
    for word in (*WORDS.split(), "漢字漢字", "[-24.0, 125.6]", "+24.8"):
        assert printed.count(word) >= 2, word
    assert printed.count("[-24.0, 125.6]") == 2 * columns
    for i in range(columns):
        assert f"measure {i}" in " ".join(printed.replace("│", " ").replace("┃", " ").split())


def test_from_narrow_to_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def heads(name: str, width: int, columns: int = 6) -> tuple[int, bool]:
        lines = shown(table(name, columns), width, monkeypatch, capsys)
        return sum(line.startswith("┏") for line in lines), any(
            line.startswith("├") for line in lines
        )

    assert heads("first", 220) == (1, False)  # one line a row
    assert heads("first", 160) == (1, True)  # each interval below its value
    assert heads("first", 80) == (4, False)  # several tables
    assert heads(LONG, 80) == (0, False)  # lines


def test_a_row_as_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Table("t", ["run", "state", "time", "reason"], [[LONG, "done", "", WORDS]])
    assert shown(found, 60, monkeypatch, capsys) == [
        f"run {LONG}",
        "  state: done",
        "  reason: differs from the control after Holm's correction:",
        "    lower, at twice the cost",
    ]
