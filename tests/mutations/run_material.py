"""A sweep with every record that status, report and dashboard read, of made-up values."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.circuits.card.lines import FAIL, Card, Line
from sumcirc.schema import MODULES
from sumcirc.selection.ranking import rank
from sumcirc.selection.scores import Scores
from sumcirc.statistics import Interval
from sumcirc.storage.writing import plain_numbers, write_json, write_table
from sumcirc.sweeps.sweep_record import SweepRecord
from sumcirc.tracking.measure_records import record_file
from sumcirc.tracking.run_directory import RunDirectory
from tests.compare.made_findings import SHAPE, made_findings, summarize
from tests.support.pages import DOCUMENTS, full_run, probe, write_circuit
from tests.support.sweeps import SCORED, config, write_run

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": DOCUMENTS}
MODEL = "tuned"  # that the comparison of models is of
RUNS = ("a", "b", "circuit", "compare", "evaluate", "full", "select")


def write_material(folder: Path) -> Path:
    """The sweep's folder."""
    sweep = folder / "s"
    run = full_run(sweep / "full")
    _write_documents(run, ("base", "trained"))
    settings = [run.read_config()["config"]]
    for seed, name in ((2, "a"), (3, "b")):
        settings.append(config(seed=seed))
        other = write_run(sweep / name, settings[-1], 0.4, documents=DOCUMENTS)
        _write_documents(other, ("base", "trained"))
    _evaluated(_other_verb(sweep, "evaluate"))
    _circuit(_other_verb(sweep, "circuit"))
    _compared(_other_verb(sweep, "compare"))
    _selected(_other_verb(sweep, "select"))
    for one, name in zip(settings, ("full", "a", "b"), strict=True):
        one["run"] |= {"name": name, "varied": ["seed"], "axes": {"seed": one["seed"]}}
    SweepRecord.of("train", settings, ["sumcirc", "train", "-m"]).write(sweep)
    return sweep


def _other_verb(sweep: Path, verb: str) -> RunDirectory:
    run = RunDirectory.create(sweep / verb, verb, config())
    run.set_status("running")
    run.set_status("done")
    return run


def _write_documents(run: RunDirectory, systems: tuple[str, ...]) -> None:
    rows = [
        {
            "id": f"wire-{i}",
            "system": system,
            "prediction": f"The summary by {system}.",
            **{name: 0.3 + 0.01 * i + 0.1 * k for k, name in enumerate(SCORED)},
            "length": 15 + i % 3,
            "coverage": 0.5 if i else None,
            "fact_who": float(i % 2),
        }
        for system in systems
        for i in range(DOCUMENTS)
    ]
    write_table(run.documents_file, rows)


def _evaluated(run: RunDirectory) -> None:
    _write_documents(run, ("lead-3", "base"))
    measures = dict.fromkeys((*SCORED, "length"), INTERVAL)
    summary = {"model": "tiny", "items": "x", "seconds": {"evaluate": 3.0}}
    write_json(
        run.summary_file, {**summary, "systems": dict.fromkeys(("lead-3", "base"), measures)}
    )
    samples = [{"id": "wire-0", "document": "A ferry sank.", "reference": "It sank.", "base": "It"}]
    write_json(run.samples_file, samples)


def _circuit(run: RunDirectory) -> None:
    area = {"value": INTERVAL, "random": [INTERVAL, INTERVAL]}
    counts = {"pairs": DOCUMENTS, "nodes": 10, "edges": 40, "circuit_edges": 5}
    summary: dict[str, Any] = {
        **{"model": "tiny", "method": "eap-ig-inputs", "metric": "kl", "pairs_dropped": {"cut": 1}},
        **counts,
        **dict.fromkeys(("faithfulness", "completeness", "kl", "jaccard", "spearman"), INTERVAL),
        **{"jaccard_chance": 0.1, "cpr": area, "cmd": area},
    }
    write_json(run.summary_file, summary)
    write_circuit(run.circuits / "circuit.json", 4)
    points = [{"edges": edges, "faithfulness": INTERVAL, "kl": INTERVAL} for edges in (0, 4, 20)]
    curve = {"points": points, "random": [points, points], "metric": "kl"}
    write_json(run.circuits / "faithfulness.json", {"absolute": curve, "signed": curve})
    lines = [Line("complete", FAIL, Interval(0.5, 0.4, 0.6, 9), "much is left", details={"x": 1.0})]
    said = {key: ["a sentence"] for key in ("estimand", "ablation", "assumptions")}
    write_json(run.circuits / "card.json", Card(lines, said).as_json())


def _compared(run: RunDirectory) -> None:
    summary = {
        **{"before": "base", "metric": "nll", "unit": "nats", "positions": "all", "items": 8},
        "after": {MODEL: summarize(made_findings(MODEL), SHAPE)},
        "seconds": {"compare": 2.0},
    }
    write_json(run.summary_file, plain_numbers(summary))
    folder = run.path / "compare" / MODEL
    probe(-1, 0).save(record_file(folder, -1))
    probe(0, 1).save(record_file(folder, 0))


def _selected(run: RunDirectory) -> None:
    values = np.random.default_rng(0).random((3, len(MODULES), 5))
    from sumcirc.schema import Granularity

    ranking = rank(
        Scores(values, "it is made up", "nats", "documents"), "own", Granularity.module, MODULES, 3
    )
    ranking.save(run.ranking_file)
    adapter = {"layers": ranking.layers, "rank": 4, "parameters": 100}
    write_json(run.summary_file, {"model": "tiny", "rank": 4, "adapter": adapter})
    assert asdict(ranking)
