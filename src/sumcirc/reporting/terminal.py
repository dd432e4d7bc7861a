"""A comparison printed for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sumcirc.reporting.comparison import Comparison
from sumcirc.reporting.runs import LeftOut
from sumcirc.reporting.tables import TextTable, in_words, remarks, tables
from sumcirc.runtime.terminal import WIDE, console, say


def print_comparison(comparison: Comparison) -> None:
    """Print tables, what sets arms apart, what was left out, and the findings in words."""
    shown = console()
    for table in tables(comparison):
        shown.print(_rich(table, stacked=shown.width < WIDE))
    for title, lines in (
        ("not on a par", remarks(comparison)),
        ("left out", [f"{item.path.name}: {item.reason}" for item in comparison.left_out]),
        ("to note", comparison.notes),
        ("in words", in_words(comparison)),
    ):
        if lines:
            shown.print(f"{title}:", style="bold")
            for line in lines:
                shown.print(f"  {line}")


def print_left_out(left_out: Sequence[LeftOut]) -> None:
    """Print a line for each run that is left out."""
    for item in left_out:
        say(f"left out: {item.path.name}: {item.reason}")


def _rich(table: TextTable, stacked: bool) -> Table:
    found = Table(title=table.title, show_lines=stacked)
    for position, heading in enumerate(table.headings):
        left = position == 0 or heading in table.words
        found.add_column(heading, justify="left" if left else "right", overflow="fold")
    for first, *others in table.rows:
        cells = [cell.replace(" [", "\n[") if stacked else cell for cell in others]
        found.add_row(first, *cells)
    return found
