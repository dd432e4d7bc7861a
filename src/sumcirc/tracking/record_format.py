"""The format of a run's records: a number that rises when a configuration gives other results.

config.yaml, status.json, summary.json and sweep.yaml carry it as `format`; those without one are of
format 1. Runs of an earlier format can be read and evaluated. They can't be continued, and where
their numbers stand beside those of later runs, `earlier` says what was different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sumcirc.errors import UserError

FORMAT = 2
FIRST = 1  # of records that carry none


@dataclass(frozen=True)
class Change:
    """A change in what a configuration computes, from one format on.

    Attributes:
        before: how it was until then, as it follows "in which".
        concerns: whether a run with these settings gave other numbers by it.
    """

    format: int
    before: str
    concerns: Callable[[Mapping[str, Any]], bool]


def _divided(config: Mapping[str, Any]) -> bool:
    trainer = config.get("trainer", {})
    whole = {"accumulate": 1, "devices": 1, "num_nodes": 1}
    return any(trainer.get(name, value) != value for name, value in whole.items())


def _another_model(config: Mapping[str, Any]) -> bool:
    """Return whether the model may have dropout: the built-in one has none."""
    return config.get("model", {}).get("path") != "tiny"


def _other_texts(config: Mapping[str, Any]) -> bool:
    """Return whether texts may hold special tokens, or the model several end tokens."""
    return _another_model(config) or config.get("data", {}).get("source") != "wire"


CHANGES = (
    Change(
        2,
        "the loss of an optimizer step was a mean over its batches and processes, not over tokens",
        _divided,
    ),
    Change(2, "the model's own dropout was off in training", _another_model),
    Change(
        2,
        "special tokens' spelling in documents was not text, and one end token alone ended a"
        " summary",
        _other_texts,
    ),
)

# settings that a format brought, by section, with the value that runs before it count as having
ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {"model": {"dropout": None}, "evaluation": {"rouge_tokenizer": "auto"}},
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings together with those that did not exist yet when it was made.

    Otherwise runs of two formats would differ by settings that nobody chose. Where such a setting
    changed results, `earlier` says so.
    """
    found = dict(config)
    for sections in ADDED.values():
        for name, added in sections.items():
            if isinstance(found.get(name), Mapping):
                found[name] = {**added, **found[name]}
    return found


def format_of(record: Mapping[str, Any]) -> int:
    """Return the format of a record; 1 if it carries none."""
    return record.get("format", FIRST)


def earlier(format: int, config: Mapping[str, Any]) -> str | None:
    """Return what to say beside a run's numbers; None where this version would give the same.

    Args:
        config: the run's settings.
    """
    found = [one.before for one in CHANGES if format < one.format and one.concerns(config)]
    if not found:
        return None
    return (
        f"made by an earlier version (records of format {format}, now {FORMAT}), in which"
        f" {'; '.join(found)}: its numbers can't be compared with those of later runs"
    )


def check_continues(format: int, what: str, remedy: str) -> None:
    """Refuse to continue a run or sweep of an earlier format.

    Args:
        what: the run or sweep, as the user named it.

    Raises:
        UserError: it is of an earlier format.
    """
    if format != FORMAT:
        changed = "; ".join(one.before for one in CHANGES if format < one.format)
        raise UserError(
            f"{what}: was begun by an earlier version (records of format {format}, now {FORMAT}),"
            f" in which {changed}; it can't be continued, {remedy}"
        )
