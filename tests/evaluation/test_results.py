"""What a run found, in its files and in tables over a sweep."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from sumcirc.cli import command
from sumcirc.evaluation.results import Scoreboard
from sumcirc.evaluation.scoring import MEASURES, evaluate_summaries
from sumcirc.jobs._conclude import conclude
from sumcirc.reporting.views.system_scores import rouge_words, run_rows, sweep_rows
from sumcirc.schema import configuration
from sumcirc.statistics import Interval
from sumcirc.storage.writing import write_json
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.score_names import BASE, TRAINED


def scores(value: float) -> dict[str, Any]:
    return {measure: asdict(Interval(value, value, value, 9)) for measure in MEASURES}


def finished(folder: Path, items: str = "x", model: str = "tiny", **systems: float) -> None:
    """A run directory with its summary: scores by system."""
    RunDirectory.create(folder, "train", {})
    found = {name.replace("_", "-"): scores(value) for name, value in systems.items()}
    summary = {
        "model": model,
        "items": items,
        "trainable_parameters": 7,
        "steps": 10,
        "seconds": {"train": 3.0},
        "systems": found,
    }
    write_json(folder / "summary.json", summary)


def table(found: list[Any]) -> list[tuple[str, float]]:
    return [(row.system, row.scores["rouge1_f1"].mean) for row in found]


def test_a_sweep_shows_shared_systems_once(tmp_path: Path) -> None:
    finished(tmp_path / "lora-2,3,5", lead_3=0.3, base=0.1, trained=0.5)
    finished(tmp_path / "lora-9", lead_3=0.3, base=0.1, trained=0.4)
    (tmp_path / "lora-unfinished").mkdir()
    (found,) = sweep_rows(tmp_path)
    assert table(found) == [("lead-3", 0.3), ("base", 0.1), ("lora-2,3,5", 0.5), ("lora-9", 0.4)]
    assert [row.trainable_parameters for row in found] == [None, None, 7, 7]
    assert [row.seconds for row in found] == [None, None, 3.0, 3.0]


def test_every_model_of_a_sweep_has_its_base(tmp_path: Path) -> None:
    finished(tmp_path / "a", model="gpt2", lead_3=0.3, base=0.1, trained=0.5)
    finished(tmp_path / "b", model="tiny", lead_3=0.3, base=0.2, trained=0.4)
    (found,) = sweep_rows(tmp_path)
    assert table(found) == [
        *(("lead-3", 0.3), ("base gpt2", 0.1), ("base tiny", 0.2), ("a", 0.5), ("b", 0.4)),
    ]


def test_a_base_that_scored_otherwise_is_not_hidden(tmp_path: Path) -> None:
    finished(tmp_path / "beams=1", base=0.1, trained=0.5)
    finished(tmp_path / "beams=4", base=0.2, trained=0.6)
    (found,) = sweep_rows(tmp_path)
    assert ("base", 0.1) in table(found)
    assert ("base of beams=4", 0.2) in table(found)


def test_scores_on_different_items_never_share_a_table(tmp_path: Path) -> None:
    finished(tmp_path / "a", items="x", trained=0.5)
    finished(tmp_path / "b", items="y", trained=0.4)
    assert [table(found) for found in sweep_rows(tmp_path)] == [[("a", 0.5)], [("b", 0.4)]]


def test_a_sweep_without_scores(tmp_path: Path) -> None:
    finished(tmp_path / "a")
    assert sweep_rows(tmp_path) == []
    assert sweep_rows(tmp_path / "nowhere") == []


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    configuration.register()
    words = ["data.sizes.test=5", "evaluation.bootstrap=100", "data.seed=3", "logger=none"]
    return command.compose(command.read("train", words))[0]


def filled(config: Any) -> Scoreboard:
    """A board with baselines, a base that says nothing and a system that says the reference."""
    board = Scoreboard(config, encoder=None, cache=Path("cache"))  # type: ignore[arg-type]
    board.add_baselines()
    documents = board.corpus.documents
    for name, said in ((BASE, [""] * 5), (TRAINED, [item.references[0] for item in documents])):
        evaluation = evaluate_summaries(documents, said, config.evaluation, name)
        board.systems[name] = board._with_facts(evaluation)
    return board


def test_facts_are_those_of_the_event_to_summarize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references of either event state the facts that the other's count as wrong."""
    monkeypatch.chdir(tmp_path)
    configuration.register()
    said: dict[str | None, list[str]] = {}
    boards = {}
    for event in ("null", "second"):
        words = ["data.sizes.test=5", "logger=none", f"data.event={event}"]
        made = command.compose(command.read("train", words))[0]
        boards[event] = Scoreboard(made, encoder=None, cache=Path("c"))  # type: ignore[arg-type]
        said[event] = [item.references[0] for item in boards[event].corpus.documents]
    for event, board in boards.items():
        for spoken, predictions in said.items():
            documents, options = board.corpus.documents, board.config.evaluation
            found = board._with_facts(evaluate_summaries(documents, predictions, options, "x"))
            right = float(event == spoken)
            assert [row["facts"] for row in found.records] == [right] * 5
            assert [row["facts_wrong"] for row in found.records] == [1 - right] * 5


def test_the_files_of_a_run(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.run.name = "mine"
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.metrics.append(0, {"validation/loss": 3.0})
    run.metrics.append(5, {"validation/loss": 2.0, "train/loss": 2.5})
    board = filled(config)
    facts = {"trainable_parameters": 1234, "seconds": {"train": 61.0}}
    conclude(run, config, board, facts, wandb_logger=None)

    summary = json.loads(run.summary_file.read_text())
    assert summary["trainable_parameters"] == 1234
    assert summary["items"] == board.corpus.fingerprint
    assert set(summary["systems"]) == {"lead-3", "random-3", "oracle", BASE, TRAINED}
    assert summary["systems"][TRAINED]["rouge1_f1"]["mean"] == 1.0
    assert summary["systems"][TRAINED]["facts"]["mean"] == 1.0, "the reference states every fact"
    assert summary["systems"][BASE]["facts"]["mean"] == 0.0
    assert summary["systems"][TRAINED]["facts_wrong"]["mean"] == 0.0

    documents = pyarrow.parquet.read_table(run.documents_file).to_pylist()
    assert len(documents) == 5 * 5
    mean = sum(row["rouge2_f1"] for row in documents if row["system"] == "oracle") / 5
    assert summary["systems"]["oracle"]["rouge2_f1"]["mean"] == pytest.approx(mean)
    assert {path.stem for path in run.figures.iterdir()} == {"scores", "loss"}

    shown = capsys.readouterr().out
    assert summary["rouge"]["tokenizer"] == "ascii"
    assert f"ROUGE counts {summary['rouge']['words']}" in shown
    for part in ("lead-3", "oracle", "mine", "1,234", "1 min 01 s", str(run.figures)):
        assert part in shown
    assert [row.system for row in run_rows(summary, "mine")][-1] == "mine"


def test_samples_hold_what_models_wrote(config: Any) -> None:
    board = filled(config)
    found = board.samples(2)
    assert len(found) == 2
    assert list(found[0]) == ["id", "document", "reference", BASE, TRAINED]
    assert found[1]["reference"] == found[1][TRAINED] == board.corpus.documents[1].references[0]
    assert board.samples(0) == []


def test_a_run_that_scored_nothing(config: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    conclude(run, config, None, {"steps": 3}, wandb_logger=None)
    summary = json.loads(run.summary_file.read_text())
    assert (summary["systems"], summary["items"], summary["steps"]) == ({}, None, 3)
    assert not run.documents_file.exists()


def test_a_summary_from_before_the_choice_of_words_was_scored_by_rouge_scores_own() -> None:
    """So that the numbers of a kept record can stand beside those of later runs."""
    said = {"rouge": {"tokenizer": "ascii", "words": "words of a-z and digits, stemmed"}}
    assert rouge_words({}) == rouge_words(said)
    other = {"rouge": {"tokenizer": "unicode", "words": "words of any script"}}
    assert rouge_words({}) != rouge_words(other)
