"""Searches on the command line: `-m hydra/sweeper=optuna`, checked before the first run."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sumcirc.cli.words import parse, product
from sumcirc.errors import UserError

if TYPE_CHECKING:
    from sumcirc.cli.command import Command


def searches(command: Command) -> bool:
    """Return whether a command searches settings with Optuna."""
    chosen = {item.key_or_group: item.value() for item in parse(command.overrides)}
    return command.sweeps and chosen.get("hydra/sweeper") == "optuna"


def check_search(command: Command, config: Any) -> None:
    """Check what a search needs, before its first run.

    Args:
        command: the command.
        config: configuration of one of its jobs.

    Raises:
        UserError: there is no objective or no setting to search, or Optuna isn't installed.
    """
    if not searches(command):
        return
    items = {item.key_or_group: item for item in parse(command.overrides)}
    word = items["hydra/sweeper"].input_line
    if command.verb != "train":
        raise UserError(f"{word}: is for `sumcirc train`, whose runs have an objective")
    if importlib.util.find_spec("optuna") is None:
        raise UserError(f"{word}: needs Optuna; install it with pip install 'sumcirc[optuna]'")
    from sumcirc.sweeps.search import SAMPLERS, is_searched

    if config.sweep.objective is None:
        raise UserError(f"{word}: needs what to optimize; add sweep.objective=validation/loss")
    if not any(is_searched(item) for item in items.values()):
        raise UserError(
            f"{word}: no setting has a range to search; give one, such as"
            " 'optimizer.learning_rate=tag(log,interval(1e-4,1e-2))'"
        )
    sampler = items.get("hydra.sweeper.sampler")
    if sampler is not None and sampler.value() not in SAMPLERS:
        raise UserError(f"{sampler.input_line}: unknown; choose from {', '.join(SAMPLERS)}")
    trials = items.get("hydra.sweeper.n_trials")
    number: Any = trials.value() if trials is not None else 1
    if trials is not None and not (type(number) is int and number > 0):
        raise UserError(f"{trials.input_line}: must be a whole number of 1 or more")


def examples_of(overrides: Sequence[str]) -> list[list[str]]:
    """Return overrides of jobs that a search may run, to check them before it starts.

    For each arm there is a job with the first value of every searched setting, and for each
    further value (the ends of an interval, all choices) a job that differs only in it.
    """
    from sumcirc.sweeps.search import examples, is_searched

    items = parse(overrides)
    searched = {item.get_key_element(): examples(item) for item in items if is_searched(item)}
    arms = product([str(item.input_line) for item in items if not is_searched(item)])
    first = {key: values[0] for key, values in searched.items()}
    points = [first]
    points += [{**first, key: value} for key, values in searched.items() for value in values[1:]]
    return [
        [*arm, *(f"{key}={value}" for key, value in point.items())]
        for arm in arms
        for point in points
    ]
