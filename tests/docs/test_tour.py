"""Every command of docs/tour.md in its order, with fewer steps and documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.manual import DOCS, commands

if TYPE_CHECKING:
    from tests.support.command_server import CommandServer

PAGE = DOCS / "tour.md"
LINES = [found.words[1:] for found in commands(PAGE) if found.block and found.words[0] == "sumcirc"]

DATA = ["data.sizes.train=16", "data.sizes.validation=8", "data.sizes.test=8"]
QUICK = ["logger=none", "trainer.threads=1", "generation.max_new_tokens=8", *DATA]
# appended to what the page says
FEWER = {
    "train": [
        *("trainer.max_steps=2", "trainer.validate_every=1", "trainer.batch_size=4"),
        *("callbacks.probes.documents=4", "callbacks.schedule.points=0"),
        *("evaluation.bootstrap=100", *QUICK),
    ],
    "evaluate": ["evaluation.bootstrap=100", *QUICK],
    "circuit": ["circuit.documents=4", "circuit.resamples=5", "circuit.sizes=[0.02,0.1]", *QUICK],
    "select": ["selector.documents=8", "selector.resamples=5", *QUICK],
    "compare": ["compare.items=4", "compare.top=2", "compare.random_sets=1", *QUICK],
    "report": ["logger=none"],
    "status": [],
}


def test_it_goes_from_training_to_the_page() -> None:
    verbs = ["train", "status", "evaluate", "circuit", "select", "compare", "report"]
    assert [words[0] for words in LINES] == verbs
    assert set(FEWER) == set(verbs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_runs(tmp_path: Path, commands: CommandServer) -> None:
    printed = {}
    for words in LINES:
        done = commands.run(*words, *FEWER[words[0]], cwd=tmp_path)
        assert done.code == 0, done.output
        printed[words[0]] = done.output
    assert "2 done" in printed["status"]
    # the files that the page names, and the tables that it shows
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(runs/[^`]+)`", text))
    assert len(named) >= 3
    assert {path for path in named if not (tmp_path / path).exists()} == set()
    for verb, heading in (
        ("evaluate", "ROUGE-Lsum"),
        ("circuit", "by |score|"),
        ("select", "chosen again"),
        ("compare", "heads whose attention changed most"),
        ("compare", "sufficiency: after's parts into before"),
    ):
        assert heading in printed[verb]
        assert heading in text
