"""Tests where `dry_run=true` may stand on a command line, and which commands refuse it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sumcirc.cli import command
from sumcirc.tracking.session import plain

Main = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "dry_run=1"), "dry_run=1: must be true or false"),
        (("train", "dry_run="), "dry_run=: must be true or false"),
        (("train", "-m", "dry_run=true,false"), "dry_run=true,false: must be true or false"),
        (("evaluate", "dry_run=true"), "dry_run=true: is for `sumcirc train`"),
        (
            ("train", "-m", "hydra/sweeper=optuna", "seed=choice(1,2)", "dry_run=true"),
            "dry_run=true: a sweeper chooses the jobs while they run",
        ),
        # refused as without it
        (("train", "dry_run=true", "trainer.max_stps=3"), "trainer.max_stps=3: no such setting"),
        (
            ("train", "dry_run=true", "trainer.extra.nothing=1"),
            "trainer.extra.nothing=1: Lightning",
        ),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], message: str, refused: Main) -> None:
    assert refused(*arguments).startswith(f"sumcirc: {message}")


def test_no_configuration_contains_it() -> None:
    plainly, dry = (
        command.read("train", ["sweep.name=s", *words]) for words in ([], ["dry_run=true"])
    )
    assert dry.dry_run
    assert not plainly.dry_run
    assert not command.read("train", ["sweep.name=s", "dry_run=false"]).dry_run
    assert dry.overrides == plainly.overrides
    first, second = (plain(command.compose(given)[0]) for given in (plainly, dry))
    assert first == second
