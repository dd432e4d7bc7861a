"""The card that `sumcirc circuit` makes, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sumcirc.circuits.card.lines import BARS
from tests.support.command_server import CommandServer


@pytest.fixture
def words(gpt2_folder: Path, news_files: dict[str, Path]) -> list[str]:
    """Settings for twenty documents, half of which judge the circuit."""
    files = [f"data.{split}={path}" for split, path in news_files.items() if split != "test"]
    return [
        f"model.path={gpt2_folder}",
        "data=files",
        *files,
        f"data.test={news_files['train']}",
        "circuit.documents=20",
        "circuit.sizes=[0.05,0.5,1.0]",
        "circuit.random_circuits=1",
        "circuit.resamples=20",
        "trainer.threads=1",
        "logger=none",
        "sweep.name=s",
    ]


def test_a_card_of_enough_pairs(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    """All lines of a small model on twenty documents, and the page that shows them."""
    given = ["card.lines=full", "card.edges=3", "card.exact_edges=10"]
    done = commands.run("circuit", *words, *given, "circuit.corruption=replace", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    card = json.loads((run / "circuits" / "card.json").read_text())
    lines = {line["name"]: line for line in card["lines"]}
    for name in ("faithful", "complete", "minimal", "rival", "converged", "exact"):
        assert lines[name]["status"] in ("pass", "fail"), lines[name]
        assert not lines[name]["setting"]
    assert lines["minimal"]["number"]["n"] <= 3
    assert lines["stable"]["setting"] == "circuit.resamples=100"
    assert len(lines["exact"]["details"]["edges"]) == 10
    assert lines["specific"]["status"] != "not tested" or "control" in lines["specific"]["said"]
    assert card["passed"] + card["failed"] + card["not_tested"] == len(BARS)
    page = commands.run("report", "runs/s", "out=page", "logger=none", cwd=tmp_path)
    assert page.code == 0, page.output
    (html,) = (tmp_path / "page").glob("*.html")
    text = html.read_text(encoding="utf-8")
    assert "Card of the circuit" in text
    assert "independence test of 2410.13032" in text
    assert "An edge outside the circuit carries what its source writes" in text


def test_no_card(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    done = commands.run("circuit", *words, "card.lines=none", cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    assert not (run / "circuits" / "card.json").exists()
    assert "card" not in json.loads((run / "summary.json").read_text())
    assert "card of the circuit" not in done.output


def test_a_control_has_no_corruption_to_compare_with(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    given = ["circuit.corruption=shuffled", "card.lines=ablation"]
    done = commands.run("circuit", *words, *given, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (file,) = tmp_path.rglob("card.json")
    lines = {line["name"]: line for line in json.loads(file.read_text())["lines"]}
    assert lines["ablation"]["said"] == "shuffled has no other corruption to compare with"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "card.lines=[quick,all]",
            "card.lines=[quick,all]: unknown ['all']; choose from",
        ),
        ("card.lines=[none,exact]", "`none` is no card at all; leave out the other lines"),
        ("card.edges=0", "card.edges=0: must be 1 or more"),
        ("card.fdr=1.0", "card.fdr=1.0: must be below 1"),
        ("card.other=control", "card.other=control: is for the line `specific`; add it with"),
        ("card.other=x card.lines=full", "card.other=x: is no file of pairs; give one, or one of"),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer, words: list[str], tmp_path: Path, word: str, message: str
) -> None:
    assert message in commands.run("circuit", *words, *word.split(), cwd=tmp_path).refusal
