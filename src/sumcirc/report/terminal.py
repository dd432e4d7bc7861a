"""A comparison printed for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sumcirc.report.comparison import Comparison
from sumcirc.report.tables import TextTable, in_words, remarks, tables
from sumcirc.summaries.table import WIDE


def print_comparison(comparison: Comparison) -> None:
    """Print tables, what sets arms apart, what was left out, and the findings in words."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    for table in tables(comparison):
        console.print(_rich(table, stacked=console.width < WIDE))
    for title, lines in (
        ("not on a par", remarks(comparison)),
        ("left out", [f"{item.path.name}: {item.reason}" for item in comparison.left_out]),
        ("to note", comparison.notes),
        ("in words", in_words(comparison)),
    ):
        if lines:
            console.print(Text(f"{title}:", style="bold"))
            for line in lines:
                console.print(Text(f"  {line}"))


def _rich(table: TextTable, stacked: bool) -> Table:
    found = Table(title=Text(table.title), show_lines=stacked)
    for position, heading in enumerate(table.headings):
        left = position == 0 or heading in table.words
        found.add_column(heading, justify="left" if left else "right", overflow="fold")
    for first, *others in table.rows:
        cells = [cell.replace(" [", "\n[") if stacked else cell for cell in others]
        # Text, since rich would read "[1]" as markup and leave it out
        found.add_row(*map(Text, [first, *cells]))
    return found
