"""The final table of an evaluation: all systems on the same items, ROUGE F1 times 100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from sumcirc.evaluation.rouge import METRICS
from sumcirc.runtime.terminal import WIDE, console, say
from sumcirc.statistics import MIN_DOCUMENTS, Interval, bracketed

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
    """One system of the table.

    Attributes:
        system: its name.
        scores: F1 by metric, as fractions.
        trainable_parameters: None where nothing was trained.
        seconds: training time; None where nothing was timed.
        length: mean length of the summaries, in words.
        facts: share of key facts in the summaries; None where the data does not know them.
        words: description of what ROUGE counts as a word.
    """

    system: str
    scores: Mapping[str, Interval]
    trainable_parameters: int | None = None
    seconds: float | None = None
    length: float | None = None
    facts: Interval | None = None
    words: str = ""

    @classmethod
    def from_summary(
        cls,
        system: str,
        summary: Mapping[str, Interval],
        trainable_parameters: int | None = None,
        seconds: float | None = None,
        words: str = "",
    ) -> Row:
        """Build a row from `Evaluation.summary()`.

        Args:
            system: name of the system.
            summary: intervals by measure.
            trainable_parameters: None where nothing was trained.
            seconds: training time; None where nothing was timed.
            words: description of what ROUGE counts as a word.
        """
        scores = {metric: summary[f"{metric}_f1"] for metric in METRICS}
        length, facts = summary["length"].mean, summary.get("facts")
        return cls(system, scores, trainable_parameters, seconds, length, facts, words)


def print_table(rows: Sequence[Row], title: str | None = None) -> None:
    """Print the rows, fitted to the terminal's width; a file or pipe gets one line per row.

    Args:
        rows: one per system.
        title: printed above the table.
    """
    shown = console()
    shown.print(comparison_table(rows, title, stacked=shown.width < WIDE))
    for words in dict.fromkeys(row.words for row in rows if row.words):
        say(f"ROUGE counts {words}")


def comparison_table(rows: Sequence[Row], title: str | None = None, stacked: bool = False) -> Table:
    """Return the rows as a table for `terminal.console`.

    Args:
        rows: one per system.
        title: shown above the table.
        stacked: put each interval below its value, for narrow terminals.
    """
    table = Table(title=title, show_lines=stacked)
    for position, heading in enumerate(_headings(rows)):
        left = position == 0
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in rows:
        cells = _cells(row, _has_facts(rows))
        table.add_row(*(cell.replace(" [", "\n[") if stacked else cell for cell in cells))
    return table


def _has_facts(rows: Sequence[Row]) -> bool:
    return any(row.facts is not None for row in rows)


def _headings(rows: Sequence[Row]) -> tuple[str, ...]:
    return (*HEADINGS[:5], "facts", *HEADINGS[5:]) if _has_facts(rows) else HEADINGS


def format_score(interval: Interval) -> str:
    """Return a fraction times 100 with its interval, like `24.8 [24.0, 25.6]`.

    For too few items to have an interval, only the mean is shown, with `(3 items)`.
    """
    mean, low, high = (100.0 * part for part in (interval.mean, interval.low, interval.high))
    if interval.n < MIN_DOCUMENTS:
        return f"{mean:.1f} ({interval.n} item{'s' * (interval.n != 1)})"
    return bracketed(mean, low, high, ".1f")


def format_seconds(seconds: float) -> str:
    """Return a duration formatted like `8.3 s`, `2 min 05 s` or `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _cells(row: Row, with_facts: bool) -> tuple[str, ...]:
    parameters, seconds, length = row.trainable_parameters, row.seconds, row.length
    facts = ("-" if row.facts is None else format_score(row.facts),) if with_facts else ()
    return (
        row.system,
        *(format_score(row.scores[metric]) for metric in METRICS),
        *facts,
        "-" if length is None else f"{length:.1f}",
        "-" if parameters is None else f"{parameters:,}",
        "-" if seconds is None else format_seconds(seconds),
    )
