from __future__ import annotations

import pytest

from sumcirc.cli import command
from sumcirc.cli.draws import with_draws
from sumcirc.errors import UserError
from sumcirc.schema import configuration

WORDS = ["adaptation=lora", "selector=random", "selector.count=2", "selector.draws=3", "seed=1,2"]


def test_draws_are_seeds_of_the_selector() -> None:
    assert with_draws("train", WORDS, True) == [
        *WORDS[:3],
        "selector.seed=1,2,3",
        "seed=1,2",
    ]
    assert with_draws("train", ["seed=1"], False) == ["seed=1"]


def test_each_draw_is_a_run_for_each_seed() -> None:
    configuration.register()
    configs = command.compose(command.read("train", ["-m", *WORDS, "sweep.name=s"]))
    assert len({config.run.name for config in configs}) == 6
    assert {(config.selector.seed, config.seed) for config in configs} == {
        (draw, seed) for draw in (1, 2, 3) for seed in (1, 2)
    }


@pytest.mark.parametrize(
    ("verb", "words", "multirun", "message"),
    [
        ("train", WORDS, False, "start it with sumcirc train -m"),
        ("select", WORDS, True, "start it with sumcirc train -m"),
        ("train", ["selector=random", "selector.draws=1"], True, "whole number from 2 to 1000"),
        ("train", ["selector=random", "selector.draws=x"], True, "whole number from 2 to 1000"),
        ("train", ["selector=random,page", "selector.draws=3"], True, "for selector=random alone"),
        ("train", [*WORDS, "selector.seed=4"], True, "leave one of them out"),
    ],
)
def test_mistakes_are_named(verb: str, words: list[str], multirun: bool, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_draws(verb, words, multirun)
