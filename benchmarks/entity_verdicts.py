"""How often the rules for entities are wrong, by the verdicts of a reader on sampled summaries.

    python benchmarks/entity_verdicts.py docs/results/records/real-model/entity-verdicts.json

Prints the table of docs/faithfulness.md as Markdown. The record has the ids of the summaries that
were read, and one row for each mention that the rules found or that the reader says they missed:

    sample, system, id    which reading; base or tuned; the document
    start, end, kind      range of the mention's characters in the summary
    rule                  true if the rules say that the document states it; null if they missed it
    hand                  the same by the reader; null if it is no name, number, date or speaker
    used                  true if what the summary says with it is what the document says; null for
                          speakers and where `hand` is null

With rows r, and Wilson's interval for each share (E. B. Wilson 1927, without correction),

    found rightly       = |rule known, hand known| / |rule known|
    found of all        = |rule known, hand known| / |hand known|
    unsupported rightly = |rule false, hand false| / |rule false|
    unsupported of all  = |rule false, hand false| / |hand false|
    used rightly        = |rule true, hand true, used| / |rule true, hand true|

Wilson's interval takes mentions as independent; those of one summary are not, so it is too narrow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from scipy.stats import binomtest

from sumcirc.storage.reading import read_json


class Row(TypedDict):
    """The verdicts on one mention."""

    sample: str
    system: str
    id: str
    start: int
    end: int
    kind: str
    rule: bool | None
    hand: bool | None
    used: bool | None


class Read(TypedDict):
    """The documents whose summaries by one system were read."""

    sample: str
    system: str
    ids: list[str]


class Record(TypedDict):
    """The file of verdicts."""

    about: dict[str, str]
    read: list[Read]
    rows: list[Row]


Holds = Callable[[Row], bool]
# heading: the rows that count, and the rows of which they are a share
SHARES: dict[str, tuple[Holds, Holds]] = {
    "found rightly": (
        lambda row: row["hand"] is not None,
        lambda row: row["rule"] is not None,
    ),
    "found of all": (
        lambda row: row["rule"] is not None,
        lambda row: row["hand"] is not None,
    ),
    "unsupported rightly": (
        lambda row: row["hand"] is False,
        lambda row: row["rule"] is False,
    ),
    "unsupported of all": (
        lambda row: row["rule"] is False,
        lambda row: row["hand"] is False,
    ),
    "used rightly": (
        lambda row: row["used"] is True,
        lambda row: row["rule"] is True and row["hand"] is True and row["used"] is not None,
    ),
}


def share(rows: Iterable[Row], name: str) -> tuple[int, int]:
    """Return the numerator and denominator of one of `SHARES`.

    Args:
        rows: the rows.
        name: heading of the share.
    """
    counts, among = SHARES[name]
    chosen = [row for row in rows if among(row)]
    return sum(map(counts, chosen)), len(chosen)


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval of count / total.

    Args:
        count: number of successes.
        total: number of trials, at least 1.
    """
    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def cell(count: int, total: int) -> str:
    """Return a share in percent with its interval and the counts, or `-` of nothing.

    Args:
        count: numerator.
        total: denominator.
    """
    if not total:
        return "-"
    low, high = wilson(count, total)
    return f"{100 * count / total:.0f} [{100 * low:.0f}, {100 * high:.0f}] ({count} of {total})"


def table(record: Record) -> list[str]:
    """Return the lines of the Markdown table: one row a reading and system, speakers apart.

    Args:
        record: the content of the file.
    """
    lines = [
        f"| summaries | {' | '.join(SHARES)} |",
        f"|---|{'---:|' * len(SHARES)}",
    ]
    samples = list(dict.fromkeys(one["sample"] for one in record["read"]))
    for sample in samples:
        read = [one for one in record["read"] if one["sample"] == sample]
        rows = [row for row in record["rows"] if row["sample"] == sample]
        entities = [row for row in rows if row["kind"] != "speaker"]
        groups: list[tuple[str, Sequence[Row]]] = [
            (
                f"{len(one['ids'])} {one['system']}, {sample}",
                [row for row in entities if row["system"] == one["system"]],
            )
            for one in read
        ]
        both = sum(len(one["ids"]) for one in read)
        groups.append((f"all {both}, {sample}", entities))
        groups.append((f"their speakers, {sample}", [r for r in rows if r["kind"] == "speaker"]))
        for title, chosen in groups:
            cells = [cell(*share(chosen, name)) for name in SHARES]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the table of a file of verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    print("\n".join(table(read_json(parser.parse_args().file, Record))))


if __name__ == "__main__":
    main()
