"""Notices about the data: items that were cut, skipped, missing or repeated.

Code that reads, encodes, pairs or scores items counts them in a `Notice`. A job collects them in
one `Notices`, which logs each when it is added; the table, the page, the model card and
summary.json show the same sentences. A notice is a warning if it concerns more than `LIMIT` of the
items, or more than `LEAK` of them if items were seen in training.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sumcirc.runtime.terminal import say
from sumcirc.statistics import MIN_DOCUMENTS

log = logging.getLogger(__name__)

LIMIT = 0.1  # fraction of the items above which a notice is a warning
LEAK = 0.01  # the same for items that training or a selection has seen
WARNING = "WARNING: "


@dataclass(frozen=True)
class Notice:
    """A sentence for the user that says to how many items of the data something happened.

    Attributes:
        where: the setting that names the items, such as `data.train`.
        reason: one word that stands for what happened in records, such as `cut`.
        count: number of items to which it happened.
        total: number of all items.
        words: the end of the sentence, which says what happened and how to avoid it.
        limit: the notice is a warning if it concerns more than this fraction of the items.
    """

    where: str
    reason: str
    count: int
    total: int
    words: str
    limit: float = LIMIT

    @property
    def warning(self) -> bool:
        """Whether enough items are affected to change what results mean."""
        return self.count > self.limit * self.total

    def __str__(self) -> str:
        return f"{self.where}: {self.count:,} of {self.total:,} {self.words}"

    def as_json(self) -> dict[str, Any]:
        """Return the notice as a dictionary for summary.json."""
        return {
            "where": self.where,
            "reason": self.reason,
            "count": self.count,
            "total": self.total,
            "text": str(self),
            "warning": self.warning,
        }


class Notices:
    """The notices of a job, in the order in which they were added."""

    def __init__(self) -> None:
        self._found: list[Notice] = []

    def __iter__(self) -> Iterator[Notice]:
        return iter(self._found)

    def tell(self, *notices: Notice) -> None:
        """Add notices and log each of them.

        Notices whose count is 0, and notices that were added before, are ignored.
        """
        from sumcirc.runtime.processes import (
            is_main_process,  # imports Lightning, which readers don't need
        )

        for notice in notices:
            if not notice.count or notice in self._found:
                continue
            self._found.append(notice)
            if is_main_process():
                log.log(logging.WARNING if notice.warning else logging.INFO, "%s", notice)

    def as_json(self) -> list[dict[str, Any]]:
        """Return all notices as dictionaries for summary.json."""
        return [notice.as_json() for notice in self._found]


def counts(notices: Iterable[Notice]) -> dict[str, int]:
    """Return the count of each notice, by the notice's reason."""
    return {notice.reason: notice.count for notice in notices}


def left_out(
    where: str, what: str, reasons: Mapping[str, int], total: int, limit: float = LIMIT
) -> list[Notice]:
    """Return one notice for each reason for which items were skipped.

    Args:
        where: the setting that names the items.
        what: the word for the items, such as `documents`.
        reasons: number of skipped items by reason.
        total: number of all items.
        limit: fraction of the items above which a notice is a warning.
    """
    return [
        Notice(where, reason, count, total, f"{what} are left out: {reason}", limit)
        for reason, count in reasons.items()
    ]


def missing(where: str, what: str, asked: int | None, found: int, why: str) -> Notice:
    """Return a notice that there are fewer items than a setting asks for.

    Args:
        where: the setting that asks for the items.
        what: the word for the items, such as `documents`.
        asked: number of items asked for; None for all that there are.
        found: number of items that there are.
        why: the reason, as the end of the sentence.
    """
    total = found if asked is None else asked
    return Notice(where, "missing", total - found, total, f"{what} asked for are missing: {why}")


def few(where: str, what: str, count: int) -> Notice:
    """Return a notice that there are too few items to compute an interval.

    If there are enough, the notice has the count 0, and `Notices.tell` ignores it.

    Args:
        where: the setting that names the items.
        what: the word for the items, such as `documents`.
        count: number of items.
    """
    words = f"{what} that an interval needs, so results have none"
    held = count if count < MIN_DOCUMENTS else 0
    return Notice(where, "few", held, MIN_DOCUMENTS, words, limit=0.0)


def lines(notices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return notices from summary.json as lines of text, warnings first."""
    ordered = sorted(notices, key=lambda one: not one["warning"])
    return [f"{WARNING if one['warning'] else ''}{one['text']}" for one in ordered]


def lines_of_runs(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the notices of several runs as lines of text, warnings first, each line once.

    A line that doesn't occur in all runs ends with the number of runs in which it does.

    Args:
        summaries: contents of each run's summary.json.
    """
    found = [lines(summary.get("notices", [])) for summary in summaries]
    often = Counter(line for of_run in found for line in dict.fromkeys(of_run))
    ordered = sorted(often, key=lambda line: not line.startswith(WARNING))
    return [
        line if often[line] == len(found) else f"{line} ({often[line]} of {len(found)} runs)"
        for line in ordered
    ]


def print_lines(notices: Iterable[Mapping[str, Any]]) -> None:
    """Print notices from summary.json, one per line, warnings first."""
    for line in lines(notices):
        say(line if line.startswith(WARNING) else f"note: {line}")
