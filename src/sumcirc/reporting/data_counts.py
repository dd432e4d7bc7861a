"""Says how much of a run's data was kept, cut to the context, and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPLITS = ("train", "validation", "test")
# reasons of notices for which an item is not used
DROPPED = {
    "empty_document": "empty document",
    "empty_summary": "empty summary",
    "summary_too_long": "summary too long",
}


def data_counts(summary: Mapping[str, Any]) -> str:
    """Return a sentence with the counts of each split, or an empty text if the run has none.

    Args:
        summary: contents of the run's summary.json.
    """
    parts = [_split(split, counts) for split in SPLITS if (counts := _counts(summary, split))]
    return f"Data: {'; '.join(parts)}." if parts else ""


def data_counts_of(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return the different sentences of several runs, each once.

    If there are several, each ends with the runs that it is about.

    Args:
        named: (name of the run, result of `data_counts`) pairs.
    """
    runs: dict[str, list[str]] = {}
    for name, sentence in named:
        if sentence:
            runs.setdefault(sentence, []).append(name)
    if len(runs) < 2:
        return list(runs)
    return [f"{sentence} ({', '.join(names)})" for sentence, names in runs.items()]


def _counts(summary: Mapping[str, Any], split: str) -> dict[str, int]:
    """Return the number of items kept (`items`) and the counts of notices, by reason."""
    start = f"data/{split}/"
    found = {
        name.removeprefix(start): value for name, value in summary.items() if name.startswith(start)
    }
    systems, notices = summary.get("systems") or {}, summary.get("notices")
    # a run of an earlier version has no notices, or one about itself alone, without a place: it is
    # unknown what was cut
    known = notices is not None and all("where" in notice for notice in notices)
    if split == "test" and systems and known:
        scores = next(iter(systems.values()))
        found["items"] = max(one["n"] for one in scores.values())
        for notice in notices or ():
            if notice["where"] == "data.test":
                found[notice["reason"]] = notice["count"]
    return found


def _split(split: str, counts: Mapping[str, int]) -> str:
    dropped = {words: counts[key] for key, words in DROPPED.items() if counts.get(key)}
    if not dropped and not counts.get("cut"):
        return f"{split} {counts['items']:,} kept, none cut or dropped"
    reasons = ", ".join(f"{words} {count:,}" for words, count in dropped.items())
    lost = f"{sum(dropped.values()):,} dropped{f' ({reasons})' if reasons else ''}"
    cut = f"{counts.get('cut', 0):,} of them cut to the context"
    return f"{split} {counts['items']:,} kept, {cut}, {lost}"
