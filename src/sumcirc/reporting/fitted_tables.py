"""Lays tables out for the width of a terminal, without breaking a name or a number.

A table that is too wide is made narrower in this order:

1. headings and prose are wrapped at spaces,
2. each interval is put on a line below its value,
3. the columns are spread over several tables, each of which begins with the first column,
4. each row is turned into lines, one per column.

Only text that is longer than a whole line is left for the terminal to wrap.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sumcirc.reporting.kinds import Table
from sumcirc.runtime.quoting import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

PROSE = 30  # narrowest column of prose that is longer, in characters
EDGES = 3  # width of a column's padding and of the line beside it


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: Sequence[str]
    prose: bool  # whether cells may be wrapped at spaces
    left: bool

    @property
    def widest(self) -> int:
        """Width at which nothing is wrapped."""
        return max(_width(text) for text in (self.heading, *self.cells))

    @property
    def narrowest(self) -> int:
        """Smallest width at which no word of the heading and of prose and no cell is broken."""
        words = [word for text in self._wrapped for word in text.split()]
        cells = max(map(_width, self.cells), default=0)
        least = min(PROSE, cells) if self.prose else cells
        return max([least, *map(_width, words)])

    @property
    def _wrapped(self) -> list[str]:
        return [self.heading, *(self.cells if self.prose else ())]

    def stacked(self) -> _Column:
        """Return the column with each interval below its value."""
        if self.left:
            return self
        return replace(self, cells=[cell.replace(" [", "\n[") for cell in self.cells])


def fitted(
    table: Table, width: int, styles: Mapping[str, str] | None = None
) -> list[RenderableType]:
    """Return what shows a table in a console of the library rich, without its title.

    Args:
        table: the table.
        width: width of the console in columns.
        styles: styles of rich for cells with a certain text.
    """
    rows = [[visible(cell).expandtabs() for cell in row] for row in table.rows]
    columns = [
        _Column(
            visible(heading),
            [row[place] for row in rows],
            prose=place > 0 and heading in table.prose,
            left=place == 0 or heading in table.prose,
        )
        for place, heading in enumerate(table.headings)
    ]
    styles = styles or {}
    if _fits(columns, width):
        return [_drawn(columns, width, styles)]
    stacked = [column.stacked() for column in columns]
    if _fits(stacked, width):
        return [_drawn(stacked, width, styles, lines=True)]
    if parts := _parts(columns, width):
        return [_drawn(part, width, styles) for part in parts]
    if parts := _parts(stacked, width):
        return [_drawn(part, width, styles, lines=True) for part in parts]
    return [_as_lines(columns, row, width) for row in rows]


def _width(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))


def _total(widths: Sequence[int]) -> int:
    return sum(width + EDGES for width in widths) + 1


def _fits(columns: Sequence[_Column], width: int) -> bool:
    return _total([column.narrowest for column in columns]) <= width


def _parts(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """Return the columns in groups that fit, each after the first column.

    The result is empty if a column doesn't fit beside the first one, or if the first one, which is
    repeated, takes more than half of the width.
    """
    first, *others = columns
    if 2 * first.narrowest > width or not all(_fits([first, one], width) for one in others):
        return []
    parts = [[first]]
    for column in others:
        if not _fits([*parts[-1], column], width):
            parts.append([first])
        parts[-1].append(column)
    return parts


def _drawn(
    columns: Sequence[_Column], width: int, styles: Mapping[str, str], lines: bool = False
) -> RenderableType:
    from rich.table import Table as RichTable
    from rich.text import Text

    widths = [column.widest for column in columns]
    while _total(widths) > width:
        # the widest of the columns that can be wrapped further
        spare = [
            size if size > column.narrowest else 0
            for size, column in zip(widths, columns, strict=True)
        ]
        widths[spare.index(max(spare))] -= 1
    drawn = RichTable(show_lines=lines)
    for column, size in zip(columns, widths, strict=True):
        drawn.add_column(
            Text(column.heading),
            justify="left" if column.left else "right",
            overflow="fold",
            width=size,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    return drawn


def _as_lines(columns: Sequence[_Column], row: Sequence[str], width: int) -> RenderableType:
    from rich.text import Text

    first, *others = zip(columns, row, strict=True)
    lines = [f"{first[0].heading} {first[1]}".strip()]
    for column, cell in others:
        if not cell:
            continue
        lines += textwrap.wrap(
            f"{column.heading}: {cell}",
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
