"""A run directory with every record that the page shows, of small made-up values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.storage.writing import write_json, write_table
from sumcirc.tracking.measure_records import ProbeRecord, record_file
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.score_names import TRAINED
from tests.support.sweeps import SCORED, config, write_run

LAYERS, HEADS, DOCUMENTS = 3, 2, 8
STEPS = (0, 10, 100)
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'></script>"
    "<b>bold</b> &amp; \u202egnitsil\u202c bell\x07 line\u2028end {{ 7*7 }} 'q' \"q\""
)


def full_run(folder: Path, text: str = "plain text", **options: Any) -> RunDirectory:
    """A training run with probes, circuits, summaries and texts; `text` is in all that is text."""
    settings = config(seed=1, model__name=text, data__name=text)
    run = write_run(folder, settings, 0.4, documents=DOCUMENTS, **options)
    for i, step in enumerate(STEPS):
        probe(step, i, text).save(record_file(run.probes, step))
    probe(-1, 0, text).save(record_file(run.probes, -1))
    for i, step in enumerate(STEPS):
        write_circuit(record_file(run.circuits, step).with_suffix(".json"), i + 3)
        record_file(run.circuits, step).touch()
    write_json(run.circuits / "evolution.json", evolution())
    write_examples(run, text)
    return run


def probe(step: int, level: int, text: str = "token") -> ProbeRecord:
    """Values that grow with `level`; head (1, 1) differs from the base most."""
    rng = np.random.default_rng(step + 1)
    noise = 0.01 * rng.random((LAYERS, HEADS, DOCUMENTS))
    values = {
        "attention/entropy": 2.0 + noise - 0.3 * level,
        "attention/kl_tuned_base": 0.2 * level + noise,
        "residual/cka": 1.0 - 0.1 * level * np.ones((LAYERS + 1, DOCUMENTS)),
    }
    values["attention/kl_tuned_base"][1, 1] += 0.5 * level
    neuron = {"neuron": 7, "change": 0.5 * level, "low": 0.4 * level, "high": 0.6 * level}
    token = {"token": text, "id": 3, "value": 1.0}
    found = {"neurons": [[neuron]] * LAYERS, "lens": [[token]] * (LAYERS + 1)}
    arrays = {name: np.float32(array) for name, array in values.items()}
    return ProbeRecord(step, [f"d{i}" for i in range(DOCUMENTS)], arrays, found)


def write_circuit(path: Path, kept: int) -> None:
    """A circuit whose `kept` first edges are in it, with falling scores of both signs."""
    edges = [
        *("input->a0.h0<q>", "a0.h0->m0", "m0->a1.h1<v>", "a1.h1->m2", "m2->logits"),
        "input->logits",
    ]
    content = {
        "cfg": {"n_layers": LAYERS, "n_heads": HEADS, "parallel_attn_mlp": False, "d_model": 8},
        "nodes": {},
        "edges": {
            name: {"score": (-1) ** i / (i + 1), "in_graph": i < kept}
            for i, name in enumerate(edges)
        },
    }
    write_json(path, content)


def evolution() -> dict[str, Any]:
    """As the circuit tracker writes it."""
    compared = {
        **{name: [1.0, 0.8, 0.5] for name in ("jaccard", "low", "high")},
        "chance": [0.1] * 3,
        "bound": [0.2] * 3,
        "differs": [False, False, True],
    }
    track = {
        **dict.fromkeys(("to_first", "to_previous", "to_last"), compared),
        "size": [3, 4, 5],
        "within": [0.9] * 3,
        "changed": [0, 1, 2],
        "change_rate": [0.0, 33.3, 66.7],
        "total_change_rate": 100.0,
    }
    cells = (LAYERS + 1, LAYERS + 1)
    between = [
        {
            **{"step": step, "next_step": after},
            **{
                "added_by_layer": np.eye(*cells).tolist(),
                "removed_by_layer": np.ones(cells).tolist(),
            },
            "noise_by_layer": np.full(cells, 1.5).tolist(),
        }
        for step, after in ((-1, 10), (10, 100))
    ]
    return {"steps": [-1, 10, 100], "edges": track, "nodes": track, "transitions": between}


def write_examples(run: RunDirectory, text: str) -> None:
    """Two documents with texts, and one summary of each."""
    rows = [
        {
            "id": f"{text} {i}",
            "system": TRAINED,
            "prediction": f"The ferry sank {text}",
            **dict.fromkeys(SCORED, 0.4),
            "length": 4,
            "fact_who": 1.0,
            "fact_where": 0.0,
        }
        for i in range(2)
    ]
    write_table(run.documents_file, rows)
    samples = [
        {
            "id": row["id"],
            "document": f"On Monday the ferry sank. {text}",
            "reference": f"A ferry sank. {text}",
        }
        for row in rows
    ]
    write_json(run.samples_file, samples)
