"""A circuit's card as a table: each line's number, its bar and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import format_interval

PROSE = frozenset({"bar", "found", "source of test and bar"})
HEADINGS = ("line", "verdict", "number", "bar", "found")
SUBJECTS = {"estimand": "estimated", "ablation": "ablation", "assumptions": "assumed"}


def card_table(record: Mapping[str, Any], title: str, sources: bool = False) -> Table:
    """Return a card's lines as a table.

    Args:
        record: the content of card.json.
        title: title of the table.
        sources: whether to add a column with the source of each test and bar.
    """
    rows = []
    for line in record["lines"]:
        bar = f"{line['measures']}: {line['bar']}"
        row = [line["name"], line["status"], number(line["number"]), bar, found(line)]
        rows.append([*row, line["source"]] if sources else row)
    headings = [*HEADINGS, "source of test and bar"] if sources else HEADINGS
    return Table(title, headings, rows, PROSE)


def number(interval: Mapping[str, Any] | None) -> str:
    """Return a line's number with its interval, or `-`."""
    if interval is None or interval["mean"] is None:
        return "-"
    return format_interval(interval, "z.2f")  # z: no -0.00


def found(line: Mapping[str, Any]) -> str:
    """Return what a line found, or why and how much it would take to test it."""
    if not line["setting"]:
        return line["said"]
    why = f"{line['said']}; " if line["said"] else ""
    cost = f", {line['passes']:,} passes over one pair" if line["passes"] else ""
    return f"{why}tested with {line['setting']}{cost}"


def counted(record: Mapping[str, Any]) -> str:
    """Return in words how many lines passed, failed and weren't tested."""
    return (
        f"{record['passed']} passed, {record['failed']} failed, {record['not_tested']} not tested"
    )


def assumptions(record: Mapping[str, Any]) -> Sequence[str]:
    """Return what is estimated and assumed, one sentence each."""
    said = record["identification"]
    return [f"{words}: {one}" for key, words in SUBJECTS.items() for one in said[key]]
