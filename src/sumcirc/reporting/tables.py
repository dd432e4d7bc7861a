"""Shows tables in the terminal and in Markdown, and formats numbers for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sumcirc.reporting.fitted_tables import fitted
from sumcirc.reporting.kinds import Table
from sumcirc.runtime.quoting import markdown
from sumcirc.runtime.terminal import console
from sumcirc.statistics import MIN_DOCUMENTS, Interval, bracketed

DIGITS, DECIMALS = 3, 4  # of the largest number in a column; the others get as many decimals
SMALLEST = 1e-3  # a column whose largest number is smaller uses powers of ten


def print_tables(*tables: Table, styles: Mapping[str, str] | None = None) -> None:
    """Print tables, laid out for the width of the terminal, see `reporting.fitted_tables`.

    Args:
        tables: the tables.
        styles: styles of the library rich for cells with a certain text.
    """
    shown = console()
    for table in tables:
        # above the table, not in it, where a narrow table would break a long title
        shown.print(f"\n{table.title}", soft_wrap=True)
        for part in fitted(table, shown.width, styles):
            # text that is longer than a line is left for the terminal to wrap
            shown.print(part, no_wrap=True, overflow="ignore", crop=False)


def markdown_table(table: Table) -> str:
    """Return a table as Markdown, without its title. Special characters in cells are escaped.

    Args:
        table: the table to convert.
    """
    marks = [
        "---" if position == 0 or heading in table.prose else "---:"
        for position, heading in enumerate(table.headings)
    ]
    headings, *rows = ([markdown(cell) for cell in row] for row in [table.headings, *table.rows])
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, marks, *rows))


def interval_of(record: Mapping[str, Any]) -> Interval:
    """Return the interval that a record contains as `mean`, `low`, `high` and `n`.

    Args:
        record: entry of a record, such as a score in summary.json.
    """
    return Interval(record["mean"], record["low"], record["high"], record["n"])


def format_score(interval: Interval) -> str:
    """Format a fraction times 100 with its interval, like `24.8 [24.0, 25.6]`.

    With too few items for an interval, the result is like `24.8 (3 items)`.

    Args:
        interval: the score with its interval.
    """
    mean, low, high = (100.0 * part for part in (interval.mean, interval.low, interval.high))
    if interval.n < MIN_DOCUMENTS:
        return f"{mean:.1f} ({interval.n} item{'s' * (interval.n != 1)})"
    return bracketed(mean, low, high, ".1f")


def format_interval(record: Mapping[str, Any], form: str) -> str:
    """Format a mean with its interval from a record, see `statistics.bracketed`.

    Args:
        record: entry of a record with `mean`, `low` and `high`.
        form: Python format specification for the numbers.
    """
    return bracketed(record["mean"], record["low"], record["high"], form)


def format_seconds(seconds: float) -> str:
    """Format a duration like `8.3 s`, `2 min 05 s` or `1 h 02 min`, or as `-` if it is unknown.

    Args:
        seconds: the duration; NaN if it is unknown.
    """
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def column_form(values: Iterable[float]) -> str:
    """Return a Python format specification that suits all numbers of one column.

    Args:
        values: the numbers.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return ".0f"
    if largest < SMALLEST:
        return ".1e"
    decimals = DIGITS - 1 - math.floor(math.log10(largest))
    return f".{min(max(decimals, 0), DECIMALS)}f"


def number_column(values: Iterable[float], form: str | None = None) -> list[str]:
    """Format all numbers of a column in the same way, with `-` for numbers that are not finite.

    Args:
        values: the numbers.
        form: Python format specification; None for the result of `column_form`.
    """
    values = list(values)
    form = form or column_form(values)
    return [_number(value, form) if math.isfinite(value) else "-" for value in values]


def _number(value: float, form: str) -> str:
    # a number rounded to zero gets no sign, and an exponent no leading zero
    text = format(value, form).replace("e-0", "e-")
    return text.lstrip("-").replace("0.0e+00", "0") if float(text) == 0 else text


def interval_column(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the means of all rows in the same way, followed by their intervals in brackets.

    A mean whose interval is NaN is shown alone. A star marks rows whose `significant` is true.

    Args:
        rows: entries with `mean`, `low`, `high` and optionally `significant`.
    """
    form = column_form(row["mean"] for row in rows)
    found = []
    for row in rows:
        mean, low, high = number_column([row[key] for key in ("mean", "low", "high")], form)
        text = mean if math.isnan(row["low"]) else f"{mean} [{low}, {high}]"
        found.append(text + "*" * bool(row.get("significant")))
    return found
