"""Conversion of command-line words to overrides in Hydra's grammar.

Users need no second level of quotes: run names may contain commas, paths may contain spaces, and a
list may be written with spaces after its commas.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sumcirc.errors import UserError
from sumcirc.schema.configuration import quoted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# settings that always hold one path, with any characters; `~` is expanded
PATHS = {
    *("resume", "checkpoint", "against", "before", "pairs", "prompts", "selector.after", "out"),
    *("runs_dir", "cache_dir"),
}
# settings that hold values of any name, which Hydra would only add with a `+`
OPEN = (
    *("trainer.extra", "callbacks.extra", "logger.extra"),
    *("optimizer.arguments", "scheduler.arguments"),
)
PLAIN = re.compile(r"[\w./~+-]*")  # needs no quotes in Hydra's grammar


def joined(words: Sequence[str]) -> list[str]:
    """Return words in which lists that the shell split at spaces are joined again.

    For example, `a=[1,` and `3]` become `a=[1, 3]`.
    """
    waiting, found = list(words), []
    while waiting:
        word = waiting.pop(0)
        if "=" in word and not word.startswith("-") and not _is_path(word):
            for size in range(1, len(waiting) + 1):
                whole = " ".join([word, *waiting[:size]])
                if "=" in waiting[size - 1] or _open(word) <= 0:
                    break
                if _open(whole) == 0:
                    word = whole
                    del waiting[:size]
                    break
        found.append(word)
    return found


def _is_path(word: str) -> bool:
    """Return whether a word sets a path; `against=` of `sumcirc report` names arms."""
    key, _, value = word.partition("=")
    listed = value.startswith("[") or "," in value
    return key in PATHS and not (key == "against" and listed and not os.path.exists(value))


def by_key(words: Sequence[str]) -> dict[str, str]:
    """Return those words that have the form KEY=VALUE, by KEY without `+` or `~` before it."""
    return {word.partition("=")[0].lstrip("+~"): word for word in words if "=" in word}


def parse(overrides: Sequence[str]) -> list[Override]:
    """Return overrides parsed with Hydra's grammar, in the same order.

    Raises:
        UserError: a word can't be parsed; the message names it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, found = OverridesParser.create(), []
    for word in overrides:
        try:
            found.append(parser.parse_override(word))
        except HydraException as error:
            raise UserError(f"{word}: can't be read; write settings as KEY=VALUE") from error
    return found


def product(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of a job for each combination of swept values."""
    choices: dict[str, list[str]] = {}
    for item in parse(overrides):
        key = item.get_key_element()
        if item.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in item.sweep_string_iterator()]
        elif not item.is_sweep_override():
            choices[key] = [str(item.input_line)]
    return [list(job) for job in itertools.product(*choices.values())]


def paths_as_override(words: Sequence[str]) -> list[str]:
    """Return words in which all paths are replaced by one setting, `paths=[PATH,...]`.

    A word is a path if it has no `=`, or if a file or folder of this name exists.
    """
    paths = [word for word in words if "=" not in word or os.path.exists(word)]
    others = [word for word in words if word not in paths]
    listed = ",".join(in_quotes(path) for path in paths)
    return [*others, f"paths=[{listed}]"] if paths else others


def quoted_value(override: str) -> str:
    """Return an override with its value quoted if the value can only be meant as one text.

    This is so if the setting is a path, if a file or folder of this name exists, or if Hydra's
    grammar can't parse the value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    if not equals or not value or value[0] in "'\"":
        return override
    if _is_path(override) and value != "null":
        return f"{key}={in_quotes(os.path.expanduser(value))}"
    if not PLAIN.fullmatch(value) and os.path.exists(value):
        return f"{key}={quoted(value)}"
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={in_quotes(value)}"
    return override


def added(override: str) -> str:
    """Return an override with `++` before a setting that may hold values of any name.

    For example, `optimizer.arguments={nesterov: true}` becomes `++optimizer.arguments=...`.
    """
    key = override.partition("=")[0]
    is_open = any(key == name or key.startswith(f"{name}.") for name in OPEN)
    return f"++{override}" if is_open else override


def in_quotes(value: str) -> str:
    """Return a text in quotes of Hydra's grammar, in which `${...}` stays an interpolation."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.single).with_quotes()


def _open(text: str) -> int:
    """Return how many brackets are still open at the end of a text."""
    return sum(text.count(mark) for mark in "[{") - sum(text.count(mark) for mark in "]}")
