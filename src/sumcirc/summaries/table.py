"""The table that ends an evaluation: every system on the same items, ROUGE F1 times 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from sumcirc.statistics import Interval
from sumcirc.summaries.rouge import METRICS

HEADINGS = (
    "system",
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L",
    "ROUGE-Lsum",
    "words",
    "trainable",
    "time",
)


@dataclass(frozen=True)
class Row:
    """One system: F1 by metric as fractions, summary length in words, and what it cost.

    `trainable_parameters` and `seconds` are None where there was nothing to train or to time.
    """

    system: str
    scores: Mapping[str, Interval]
    trainable_parameters: int | None = None
    seconds: float | None = None
    length: float | None = None

    @classmethod
    def from_summary(
        cls,
        system: str,
        summary: Mapping[str, Interval],
        trainable_parameters: int | None = None,
        seconds: float | None = None,
    ) -> Row:
        """Build a row from `Evaluation.summary()`."""
        scores = {metric: summary[f"{metric}_f1"] for metric in METRICS}
        return cls(system, scores, trainable_parameters, seconds, summary["length"].mean)


def comparison_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title=title)
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        # Text, since rich would read "[r16]" in a name as markup and leave it out.
        table.add_row(*map(Text, _cells(row)))
    return table


def render_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, ending in a line break."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1))]
    lines += [_cells(row, escape_bars=True) for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def format_score(interval: Interval) -> str:
    """Return a fraction times 100 with its interval, like `24.8 [24.0, 25.6]`.

    One item has no interval: its value alone is shown, with `(1 item)`.
    """
    mean, low, high = (100.0 * part for part in (interval.mean, interval.low, interval.high))
    if interval.n == 1:
        return f"{mean:.1f} (1 item)"
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def format_seconds(seconds: float) -> str:
    """Return a duration like `8.3 s`, `2 min 05 s` or `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _cells(row: Row, escape_bars: bool = False) -> tuple[str, ...]:
    parameters, seconds, length = row.trainable_parameters, row.seconds, row.length
    return (
        row.system.replace("|", "\\|") if escape_bars else row.system,
        *(format_score(row.scores[metric]) for metric in METRICS),
        "-" if length is None else f"{length:.1f}",
        "-" if parameters is None else f"{parameters:,}",
        "-" if seconds is None else format_seconds(seconds),
    )
