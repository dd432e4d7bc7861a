"""Checks overrides whose mistakes Hydra would report without naming the setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from sumcirc.cli.implied import CONF
from sumcirc.cli.words import OPEN, parse
from sumcirc.errors import UserError


def check_choices(verb: str, overrides: Sequence[str]) -> None:
    """Raise an error for overrides with an unknown choice or the wrong kind of value.

    Args:
        verb: the verb.
        overrides: the overrides of one job.

    Raises:
        UserError: an override has several values, deletes or names a choice that it can't, or gives
            something other than a mapping to an open setting.
    """
    primary: Any = OmegaConf.load(CONF / f"{verb}.yaml")
    defaults: Any = OmegaConf.to_container(primary.defaults)
    left_out = {key for item in defaults if isinstance(item, dict) for key in item if not item[key]}
    for item in parse(overrides):
        key, word = item.key_or_group, str(item.input_line)
        if item.is_sweep_override():
            raise UserError(
                f"{word}: has several values; add -m to run a job for each, or give a list as"
                f" {key}=[ONE,OTHER]"
            )
        choices = sorted(file.stem for file in (CONF / key).glob("*.yaml"))
        if item.is_delete():
            if choices and key not in left_out:
                raise UserError(f"{word}: can't be left out; choose from {', '.join(choices)}")
            continue
        value: Any = item.value()
        named = value if isinstance(value, list) else [value]
        if key in OPEN and not isinstance(value, dict):
            raise UserError(f"{word.lstrip('+')}: must be a mapping, as {key}={{NAME: VALUE}}")
        if key == "logger" and isinstance(value, list):
            _check_loggers(word, named, choices)
        optional = value is None and key in left_out
        if choices and not optional and not all(isinstance(name, str) for name in named):
            raise UserError(f"{word}: no such choice; choose from {', '.join(choices)}")


def _check_loggers(word: str, named: Sequence[Any], choices: Sequence[str]) -> None:
    unknown = [name for name in named if name not in choices]
    if unknown:
        raise UserError(f"{word}: unknown {unknown}; choose from {', '.join(choices)}")
    if not named or (len(named) > 1 and "none" in named):
        raise UserError(f"{word}: name one logger or more, or logger=none by itself")
