"""The format of a run's records: a number that is raised when a configuration's results change.

config.yaml, status.json, summary.json and sweep.yaml store it as `format`; a file without it has
format 1. Runs of an earlier format can be read and evaluated. They can't be continued, and where
their numbers are shown next to those of later runs, `earlier` explains the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sumcirc.errors import UserError

FORMAT = 3
FIRST = 1  # format of records that don't state one


@dataclass(frozen=True)
class FormatChange:
    """A change in what a configuration computes, introduced with a format.

    Attributes:
        format: the first format with the change.
        before: the earlier behaviour, worded to follow "in which".
        concerns: returns whether the change affects the results of a run with these settings.
    """

    format: int
    before: str
    concerns: Callable[[Mapping[str, Any]], bool]


def _divided(config: Mapping[str, Any]) -> bool:
    trainer = config.get("trainer", {})
    whole = {"accumulate": 1, "devices": 1, "num_nodes": 1}
    return any(trainer.get(name, value) != value for name, value in whole.items())


def _another_model(config: Mapping[str, Any]) -> bool:
    """Return whether the model may have dropout, which the built-in one doesn't."""
    return config.get("model", {}).get("path") != "tiny"


def _other_texts(config: Mapping[str, Any]) -> bool:
    """Return whether texts may contain special tokens, or the model may have several end tokens."""
    return _another_model(config) or config.get("data", {}).get("source") != "wire"


def _settled_by_documents(config: Mapping[str, Any]) -> bool:
    """Return whether a circuit was found on pairs whose corruption is `auto`, not on the wire."""
    if config.get("data", {}).get("source") == "wire" or config.get("pairs") is not None:
        return False
    watchers = config.get("callbacks") or {}
    selector = config.get("selector") or {}
    found = [config.get("circuit")]
    if "circuit_tracker" in watchers.get("watch", ()):
        found.append(watchers.get("circuit"))
    if str(selector.get("name")).startswith("circuit"):
        found.append(selector)
    return any(one.get("corruption", "auto") == "auto" for one in found if one)


# the selectors that read documents of data.validation before format 3
_READ_VALIDATION = (
    "circuit",
    "circuit_delta",
    "attention_kl",
    "entropy",
    "drift",
    "cka_redundancy",
    "own",
)


def _chosen_by_validation(config: Mapping[str, Any]) -> bool:
    """Return whether layers were chosen by a selector that read documents of data.validation."""
    return str((config.get("selector") or {}).get("name")) in _READ_VALIDATION


CHANGES = (
    FormatChange(
        2,
        "the loss of an optimizer step was a mean over its batches and processes, not over tokens",
        _divided,
    ),
    FormatChange(2, "the model's own dropout was off in training", _another_model),
    FormatChange(
        2,
        "special tokens' spelling in documents was not text, and one end token alone ended a"
        " summary",
        _other_texts,
    ),
    FormatChange(3, "corruption=auto was `replace` for any text", _settled_by_documents),
    FormatChange(
        3,
        "its selector read documents of data.validation, not of data.train",
        _chosen_by_validation,
    ),
)

# settings added by a format, or while it was current, by section, with the value that earlier runs
# implicitly had
ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "model": {"dropout": None},
        "data": {"permute_summaries": None},
        "evaluation": {
            "rouge_tokenizer": "auto",
            "bertscore": None,
            "bertscore_layer": None,
            "nli": None,
            "nli_sentences": 1,
            "summaries": True,
        },
        "selector": {"aggregation": "mean"},
        "callbacks.circuit": {"aggregation": "mean", "sign_filter": None},
        "circuit": {"aggregation": "mean", "sign_filter": None},
    },
    3: {"data": {"event": None}},
}
# sections that were added to the settings of training runs, likewise
ADDED_TO_TRAINING: dict[int, dict[str, dict[str, Any]]] = {
    3: {
        "kl_penalty": {
            "texts": [],
            "column": "document",
            "documents": None,
            "weight": 1.0,
            "batch_size": 4,
            "max_length": 256,
        }
    },
}


def completed(config: Mapping[str, Any], trains: bool) -> dict[str, Any]:
    """Return a run's settings with values added for settings introduced after the run was made.

    An added setting gets the value that describes what the run did (`ADDED`), so that runs of two
    formats don't differ in settings that nobody chose.

    Args:
        config: the nested settings in the run's config.yaml; they are not modified.
        trains: whether the run is a training run, to which whole sections are added.
    """
    found = dict(config)
    if trains:
        for added in ADDED_TO_TRAINING.values():
            found = {**added, **found}
    for sections in ADDED.values():
        for name, added in sections.items():
            *outer, last = name.split(".")
            place = found
            for part in outer:
                if isinstance(place.get(part), Mapping):
                    place[part] = dict(place[part])
                    place = place[part]
                else:
                    place = {}
            if isinstance(place.get(last), Mapping):
                place[last] = {**added, **place[last]}
    return found


def value_before(setting: str) -> Any:
    """Return the value that training runs implicitly had before a setting was added.

    The result is None for settings that are not known to have been added.

    Args:
        setting: dotted name of the setting.
    """
    section, _, name = setting.rpartition(".")
    for sections in (*ADDED.values(), *ADDED_TO_TRAINING.values()):
        if name in sections.get(section, {}):
            return sections[section][name]
    return None


def format_of(record: Mapping[str, Any]) -> int:
    """Return the format number stored in a record, or 1 if it stores none.

    Args:
        record: contents of a run's file, such as config.yaml or status.json.
    """
    return record.get("format", FIRST)


def earlier(format: int, config: Mapping[str, Any]) -> str | None:
    """Return a warning if this version would give other results for a run's settings, else None.

    Args:
        format: format of the run's records.
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
    """Raise an error if a run or sweep has an earlier format and so can't be continued.

    Args:
        format: format of the records of the run or sweep.
        what: the run or sweep, as the user named it.
        remedy: what to do instead, as the end of the message.

    Raises:
        UserError: the format is not the current one.
    """
    if format != FORMAT:
        changed = "; ".join(one.before for one in CHANGES if format < one.format)
        raise UserError(
            f"{what}: was started by an earlier version (records of format {format}, now {FORMAT}),"
            f" in which {changed}; it can't be continued, {remedy}"
        )
