"""Enumerated settings, including the names that earlier versions had for their values.

A renamed value keeps its old name as an alias of the new member until version 0.2:

    class CircuitMetric(Choice):
        nll = "nll"
        surprise = nll

The old name is therefore accepted wherever a value comes from: the command line, a YAML file, the
library, or the configuration of an earlier run. If a user typed it, a message gives the new name
(`old_words`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, EnumMeta
from typing import Any, TypeVar

from sumcirc.errors import UserError

UNTIL = "0.2"  # the first version without the old names

_seen: ContextVar[dict[str, str] | None] = ContextVar("old words that were looked up", default=None)

Kind = TypeVar("Kind", bound="Choice")


class _ByWord(EnumMeta):
    """Look members up by name, with `-` for `_`, and record which old names were used."""

    def __getitem__(cls: Any, name: str) -> Any:
        found: Any = super().__getitem__(name.replace("-", "_"))
        if name.replace("-", "_") != found.name:
            _note(name, found.name)
        return found


class Choice(Enum, metaclass=_ByWord):
    """Base of all enumerated settings."""

    @classmethod
    def of(cls: type[Kind], value: Kind | str, setting: str, *without: Kind) -> Kind:
        """Return the member of this enumeration that a value stands for.

        Args:
            value: a member, or its name, value or old name.
            setting: name of the setting, for messages.
            without: members that are not allowed, such as `auto`.

        Raises:
            UserError: the value stands for no member, or for one that is not allowed.
        """
        word = value.name if isinstance(value, cls) else str(value)
        found: Kind | None = next((one for one in cls if one.value == word), None)
        if found is None and word.replace("-", "_") in cls.__members__:
            found = cls[word]
        if found is None or found in without:
            known = ", ".join(one.name for one in cls if one not in without)
            raise UserError(f"{setting}={word}: choose from {known}")
        return found

    def __str__(self) -> str:
        return self.name  # as it is typed, also in file names: out='pairs-${corruption}.jsonl'


def renamed(word: str, new: Mapping[str, str]) -> str:
    """Return the new name for an old name; a name that isn't old is returned unchanged.

    Args:
        word: the name.
        new: the new name of each old name.
    """
    if word in new:
        _note(word, new[word])
    return new.get(word, word)


def _note(old: str, new: str) -> None:
    seen = _seen.get()
    if seen is not None:
        seen[old] = new


@contextmanager
def old_words() -> Iterator[dict[str, str]]:
    """Collect the old names that are used in a `with` block.

    Yields a dictionary, which is filled with the new name of each old name that is looked up.
    """
    found: dict[str, str] = {}
    token = _seen.set(found)
    try:
        yield found
    finally:
        _seen.reset(token)
