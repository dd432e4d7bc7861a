"""`sumcirc circuit` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sumcirc.circuits.exchange import read_circuit
from sumcirc.circuits.storage import DocumentScores
from tests.support.command_server import CommandServer

SMALL = [
    "circuit.documents=5",
    "circuit.sizes=[0.05,0.5,1.0]",
    "circuit.random_circuits=1",
    "circuit.resamples=20",
    "trainer.threads=1",
]


@pytest.fixture
def words(gpt2_folder: Path, news_files: dict[str, Path]) -> list[str]:
    files = [f"data.{split}={path}" for split, path in news_files.items()]
    return [f"model.path={gpt2_folder}", "data=files", *files, *SMALL, "sweep.name=s"]


def test_files_and_table(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    done = commands.run("circuit", *words, cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    assert f"run directory: {run}" in done.output
    assert "faithfulness" in done.output
    assert "CPR" in done.output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["pairs"] <= 5
    assert summary["edges"] == 110
    circuit = read_circuit(run / "circuits" / "circuit.json")
    assert circuit.kept.sum() == summary["circuit_edges"]
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    assert stored.scores.shape[0] == summary["pairs"]
    curves = json.loads((run / "circuits" / "faithfulness.json").read_text())
    assert curves["absolute"]["points"][-1]["faithfulness"]["mean"] == pytest.approx(1, abs=1e-3)
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    names = {file.name for file in (run / "figures").glob("*.png")}
    assert {"node_scores.png", "faithfulness.png"} <= names


def test_twins_are_of_the_wire_alone(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    done = commands.run("circuit", *words, "circuit.corruption=twin", cwd=tmp_path)
    assert done.code == 2
    assert "circuit.corruption=twin: is for data=wire" in done.output
    assert "circuit.corruption=replace" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("circuit.size=0", "circuit.size=0"),
        ("circuit.sizes=[0.5,0.1]", "circuit.sizes=[0.5, 0.1]: must be rising"),
        ("circuit.steps=0", "circuit.steps=0: must be 1 or more"),
        ("circuit.method=acdc", "acdc"),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer, words: list[str], tmp_path: Path, word: str, message: str
) -> None:
    done = commands.run("circuit", *words, word, cwd=tmp_path)
    assert done.code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
