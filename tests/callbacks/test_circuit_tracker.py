"""The circuit tracker alone, on made-up scores: its metrics, files, and record of the evolution."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sumcirc.callbacks import circuit_tracker
from sumcirc.callbacks.circuit_tracker import EDGE_COLUMNS, TOP_EDGES, CircuitTracker
from sumcirc.circuits.attribution.methods import EdgeScores
from sumcirc.circuits.discovery import CircuitResult, circuit_of, to_store
from sumcirc.circuits.eap_ig_format import read_circuit
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.models.architectures import Shape
from sumcirc.schema import Aggregation, CircuitOptions
from sumcirc.tracking.measure_records import record_file
from sumcirc.tracking.run_directory import RunDirectory

GRAPH = Graph(Shape(3, 4, 4, 4, 16, 32, 50, False))
OPTIONS = CircuitOptions(size=0.3, resamples=20)
IDS = [f"document-{i}" for i in range(6)]
BASE, LAST = -1, 8


def scores(step: int) -> EdgeScores:
    """Scores that move away from the base's with each step."""
    start, end = (
        np.random.default_rng(seed).normal(size=(len(IDS), *GRAPH.exists.shape)) for seed in (1, 2)
    )
    mixed = start + (step + 1) / 10 * end
    return EdgeScores(GRAPH, IDS, torch.from_numpy(mixed * GRAPH.exists).float())


def mean(value: float) -> Any:
    return SimpleNamespace(mean=value)


def combined(found: EdgeScores) -> NDArray[np.float64]:
    """What ranks the edges."""
    documents = found.documents.double().numpy()
    if OPTIONS.aggregation is Aggregation.mean_absolute:
        documents = np.abs(documents)
    return documents.sum(0) / len(documents)


def shown(found: EdgeScores) -> NDArray[np.float64]:
    """The same with the sign of the mean score."""
    return np.copysign(combined(found), found.documents.double().numpy().mean(0))


def judged(found: EdgeScores, faithfulness: float = 0.9) -> Any:
    """What evaluation on a model would give."""
    circuit = circuit_of(combined(found), GRAPH, OPTIONS)
    areas = SimpleNamespace(value=mean(0.25), random=[mean(0.5), mean(0.75)])
    return CircuitResult(
        found,
        circuit,
        SimpleNamespace(faithfulness=mean(faithfulness), kl=mean(0.02)),  # type: ignore[arg-type]
        SimpleNamespace(jaccard=mean(0.7)),  # type: ignore[arg-type]
        SimpleNamespace(cmd=areas),  # type: ignore[arg-type]
        SimpleNamespace(cpr=SimpleNamespace(value=mean(1.5))),  # type: ignore[arg-type]
        aggregation=OPTIONS.aggregation,
    )


class Run:
    """A tracker whose model is made up, with what it records and logs.

    Args:
        folder: its run directory.
        last: the last step of the schedule.
    """

    def __init__(self, folder: Path, last: int = LAST) -> None:
        model: Any = None
        run = RunDirectory(folder)
        self.tracker = CircuitTracker(run, model, [], OPTIONS, folder / "cache")
        probing: Any = SimpleNamespace(last_step=last, model_of=lambda module: module)
        self.tracker.probing = probing
        self.folder = folder / "circuits"
        self.figures = run.figures
        self.metrics: dict[int, dict[str, float]] = {}
        self.tables: dict[int, Any] = {}

        def log_table(trainer: Any, name: str, columns: Any, rows: Any) -> None:
            self.tables[trainer.global_step] = name, columns, rows

        def log_metrics(trainer: Any, module: Any, metrics: dict[str, float]) -> None:
            self.metrics[trainer.global_step] = metrics

        self.tracker.log_table = log_table
        self.tracker.log_metrics = log_metrics

    def observe(self, *steps: int, first_process: bool = True) -> None:
        for step in steps:
            trainer: Any = SimpleNamespace(
                is_global_zero=first_process,
                global_step=step,
                progress_bar_callback=None,
                callbacks=[],
                loggers=[],
            )
            module: Any = step
            self.tracker.observe(trainer, module)

    def kept(self, step: int) -> NDArray[np.bool_]:
        return read_circuit(record_file(self.folder, step).with_suffix(".json")).kept


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step stands for the model; everything that would run one gives made-up scores."""
    task = SimpleNamespace(evaluator=SimpleNamespace(doubt=None), pairs=IDS)
    base = to_store(scores(BASE), OPTIONS, BASE)
    monkeypatch.setattr(circuit_tracker, "base_scores", lambda *_: base)
    monkeypatch.setattr(circuit_tracker, "make_task", lambda *_, **__: task)
    monkeypatch.setattr(circuit_tracker, "score_edges", lambda step, *_: scores(step))
    monkeypatch.setattr(circuit_tracker, "judge", lambda task, found, *_: judged(found))


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Jaccard index of the edges of two circuits."""
    first, second = ({*zip(*np.nonzero(kept), strict=True)} for kept in (one, other))
    return len(first & second) / len(first | second)


def test_metrics_of_each_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.observe(0, 2)
    base = circuit_of(combined(scores(BASE)), GRAPH, OPTIONS)
    first, second = run.kept(0), run.kept(2)
    assert not np.array_equal(first, second)
    always = {
        "circuit/faithfulness": 0.9,
        "circuit/kl": 0.02,
        "circuit/cpr": 1.5,
        "circuit/cmd": 0.25,
        "circuit/cmd_random": 0.625,
        "circuit/jaccard_resamples": 0.7,
    }
    assert run.metrics[0] == {
        **always,
        "circuit/edges": first.sum(),
        "circuit/jaccard_base": pytest.approx(overlap(first, base)),
    }
    assert run.metrics[2] == {
        **always,
        "circuit/edges": second.sum(),
        "circuit/jaccard_base": pytest.approx(overlap(second, base)),
        "circuit/jaccard_previous": pytest.approx(overlap(second, first)),
    }


def test_what_is_not_defined_is_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = SimpleNamespace(evaluator=SimpleNamespace(doubt="corruption changes nothing"), pairs=IDS)
    monkeypatch.setattr(circuit_tracker, "make_task", lambda *_, **__: task)
    monkeypatch.setattr(
        circuit_tracker, "judge", lambda task, found, *_: judged(found, float("nan"))
    )
    run = Run(tmp_path)
    with caplog.at_level(logging.WARNING):
        run.observe(0)
    assert "circuit/faithfulness" not in run.metrics[0]
    assert "circuit/edges" in run.metrics[0]
    assert "step 0: corruption changes nothing, so the circuit has no faith" in caplog.text


def test_files_of_each_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.observe(0, 2)
    assert {path.name for path in run.folder.iterdir()} == {
        "base.safetensors",
        *(f"step-00000{step}.{kind}" for step in (0, 2) for kind in ("safetensors", "json")),
    }
    for step in (BASE, 0, 2):
        stored = DocumentScores.read(record_file(run.folder, step))
        assert (stored.step, stored.documents) == (step, IDS)
        assert (stored.method, stored.metric) == (OPTIONS.method.value, OPTIONS.metric.value)
        np.testing.assert_allclose(stored.scores, scores(step).documents, rtol=1e-6)
        if step != BASE:
            chosen = circuit_of(np.abs(stored.scores).mean(0), GRAPH, OPTIONS)
            assert np.array_equal(run.kept(step), chosen)


def test_the_largest_edges_are_a_table(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.observe(2)
    name, columns, rows = run.tables[2]
    assert (name, columns) == ("circuit/top_edges", EDGE_COLUMNS)
    assert len(rows) == min(TOP_EDGES, run.kept(2).sum())
    sizes = [abs(row[-1]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    expected = shown(scores(2))
    for step, source, destination, score in rows:
        place = GRAPH.sources.index(source), GRAPH.destinations.index(destination)
        assert step == 2
        assert run.kept(2)[place]
        assert score == pytest.approx(expected[place])


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_the_last_step_records_the_evolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregation: Aggregation
) -> None:
    monkeypatch.setattr(OPTIONS, "aggregation", aggregation)
    run = Run(tmp_path)
    run.observe(0, 2)
    assert not (run.folder / "evolution.json").exists()
    run.observe(LAST)
    found = json.loads((run.folder / "evolution.json").read_text())
    assert found["steps"] == [BASE, 0, 2, LAST]
    base = circuit_of(combined(scores(BASE)), GRAPH, OPTIONS)
    for step in (0, 2):
        written = read_circuit(record_file(run.folder, step).with_suffix(".json"))
        assert np.allclose(written.scores, shown(scores(step)) * GRAPH.exists)
        assert run.metrics[step]["circuit/jaccard_base"] == pytest.approx(
            overlap(written.kept, base)
        )
    circuits = [base, *map(run.kept, (0, 2, LAST))]
    edges = found["edges"]
    assert edges["size"] == [kept.sum() for kept in circuits]
    assert edges["to_first"]["jaccard"] == pytest.approx([overlap(one, base) for one in circuits])
    last = circuits[-1]
    assert edges["to_last"]["jaccard"] == pytest.approx([overlap(one, last) for one in circuits])
    assert edges["changed"][1:] == [int((one ^ two).sum()) for one, two in pairwise(circuits)]
    assert [(one["step"], one["next_step"]) for one in found["transitions"]] == [
        *((BASE, 0), (0, 2), (2, LAST))
    ]
    for (one, two), change in zip(pairwise(circuits), found["transitions"], strict=True):
        assert np.sum(change["added_by_layer"]) == (two & ~one).sum()
        assert np.sum(change["removed_by_layer"]) == (one & ~two).sum()
    assert {path.name for path in run.figures.glob("*.png")} == {
        *("circuit.png", "circuit_evolution.png")
    }


def test_a_resumed_run_goes_on_from_its_files(tmp_path: Path) -> None:
    """Files of later steps are what a run with a longer schedule left."""
    Run(tmp_path).observe(0, 2)
    longer = to_store(scores(LAST + 1), OPTIONS, LAST + 1)
    longer.save(record_file(tmp_path / "circuits", LAST + 1), "float32")
    resumed = Run(tmp_path)
    resumed.observe(LAST)
    previous = overlap(resumed.kept(LAST), resumed.kept(2))
    assert resumed.metrics[LAST]["circuit/jaccard_previous"] == pytest.approx(previous)
    found = json.loads((resumed.folder / "evolution.json").read_text())
    assert found["steps"] == [BASE, 0, 2, LAST]


def test_other_processes_leave_it_to_the_first(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.observe(0, LAST, first_process=False)
    assert not run.metrics
    assert not run.folder.exists()
