"""benchmarks/inside_changes.py finds planted changes that exceed the control and seeds."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from sumcirc.storage.writing import write_table
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord, record_file

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/inside_changes.py"
LAYERS, HEADS, DOCUMENTS, NEURONS = 4, 3, 20, 6
IDS = [f"d{i}" for i in range(DOCUMENTS)]
SIZES = {"layer": LAYERS, "head": HEADS, "document": DOCUMENTS, "neuron": NEURONS}


def write_run(
    folder: Path, kl: list[float], seed: int, steps: tuple[int, ...] = (-1, 0, 20)
) -> Path:
    """Write the records of a run whose attention KL by layer is `kl`, up to noise of 0.01."""
    random = np.random.default_rng(seed)
    for step in steps:
        values = {}
        for name, measure in MEASURES.items():
            shape = [SIZES.get(axis, LAYERS + 1) for axis in measure.axes]
            level = min(0.5, measure.high)
            values[name] = np.full(shape, level, np.float32)
        if step > 0:
            noise = 0.01 * random.standard_normal((LAYERS, HEADS, DOCUMENTS))
            values["attention/kl_tuned_base"] = np.abs(np.array(kl)[:, None, None] + noise)
            values["attention/entropy"] = 0.5 - 0.1 * np.array([1, 1, -1])[None, :, None] + noise
            values["mlp/activation_change"] = random.standard_normal((LAYERS, NEURONS))
            values["mlp/activation_change_error"] = np.zeros((LAYERS, NEURONS), np.float32)
        found = {name: array.astype(np.float32) for name, array in values.items()}
        folder.joinpath("probes").mkdir(parents=True, exist_ok=True)
        ProbeRecord(step, IDS, found).save(record_file(folder / "probes", step))
    return folder


def write_comparison(folder: Path, effect: np.ndarray) -> Path:
    """Write patching effects [layers, heads, items] of head outputs; MLPs have none.

    What a head brings in one direction is lost in the other.
    """
    rows = []
    for (direction, sign), ((layer, head, item), value) in product(
        (("sufficiency", 1), ("necessity", -1)), np.ndenumerate(effect)
    ):
        row = {"direction": direction, "layer": layer, "item": f"t{item}"}
        rows.append({**row, "kind": "output", "index": head, "effect": sign * float(value)})
        if head == 0:
            rows.append({**row, "kind": "mlp", "index": None, "effect": 0.0})
    (folder / "compare/tuned").mkdir(parents=True)
    write_table(folder / "compare/tuned/patching.parquet", rows)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_planted_changes_count_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # layer 0: nothing; 1: both seeds alike; 2: as much in the control; 3: the seeds disagree
    first = write_run(tmp_path / "a", [0.1, 0.5, 0.6, 0.2], 1)
    second = write_run(tmp_path / "b", [0.1, 0.5, 0.6, 0.8], 2)
    control = write_run(tmp_path / "c", [0.1, 0.1, 0.6, 0.1], 3)
    effect = np.random.default_rng(4).standard_normal((LAYERS, HEADS, 8)) * 0.01
    effect += np.arange(LAYERS)[:, None, None]
    compared = write_comparison(tmp_path / "compared", effect)
    out = tmp_path / "out"
    run(
        monkeypatch,
        *(first, second, "--control", control, "--effects", compared, "--results", out),
    )

    with (out / "changes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "attention_kl"]
    assert [row["step"] for row in rows] == ["20"] * LAYERS  # step 0 is the base
    assert [row["counts"] for row in rows] == ["False", "True", "False", "False"]
    assert [row["clear"] for row in rows] == ["False", "True", "False", "True"]
    assert float(rows[1]["beyond_control"]) == pytest.approx(0.4, abs=0.02)
    assert float(rows[3]["seed_distance"]) == pytest.approx(0.6, abs=0.02)
    assert float(rows[1]["low"]) < 0.5 < float(rows[1]["high"]) + 0.01

    claims = json.loads((out / "claims.json").read_text())
    leaders = [one["layer"] for one in claims["leading_layers"]["attention_kl"]["first"]]
    assert leaders == [2, 1, 3] or leaders == [2, 3, 1]
    assert claims["heads"][0]["fell"]["mean"] == pytest.approx(2 / 3)
    assert claims["heads"][0]["clearly_rose"] == pytest.approx(1 / 3)
    change = np.array([0.1, 0.5, 0.6, 0.2])
    agreement = claims["change_and_effect"]
    found = agreement["layers_sufficiency"]["attention_kl"]
    expected = spearmanr(change, np.arange(LAYERS)).statistic  # type: ignore[attr-defined]
    assert found["mean"] == pytest.approx(expected)
    assert found["low"] <= found["mean"] <= found["high"]
    assert agreement["layers_sufficiency"]["depth"]["mean"] == pytest.approx(1)
    assert agreement["layers_necessity"] == agreement["layers_sufficiency"]
    assert agreement["heads_necessity"] == agreement["heads_sufficiency"]


def test_changes_are_compared_with_the_effects_of_layers_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = [0.1, 0.5, 0.6, 0.2]
    first = write_run(tmp_path / "a", change, 1)
    effect = {"add": np.array([3.0, 1.0, 0.0, 2.0]), "remove": np.array([0.0, 2.0, 3.0, 1.0])}
    noise = 0.01 * np.random.default_rng(4).standard_normal((2, LAYERS, 8))
    rows = [
        {"kind": kind, "grain": "layer", "unit": f"layer {layer}", "item": f"t{item}", "value": one}
        for kind, means, drawn in zip(effect, effect.values(), noise, strict=True)
        for layer in range(LAYERS)
        for item, one in enumerate((means[layer] + drawn[layer]).tolist())
    ]
    rows += [{**rows[0], "unit": name} for name in ("embedding", "final")]
    (tmp_path / "compared/compare/tuned").mkdir(parents=True)
    write_table(tmp_path / "compared/compare/tuned/path_effects.parquet", rows)
    run(monkeypatch, first, "--effects", tmp_path / "compared", "--results", tmp_path / "out")
    found = json.loads((tmp_path / "out/claims.json").read_text())["change_and_effect"]
    assert set(found) == {"weights_alone", "weights_removed"}
    for name, means in zip(("alone", "removed"), effect.values(), strict=True):
        expected = spearmanr(change, means).statistic  # type: ignore[attr-defined]
        assert found[f"weights_{name}"]["attention_kl"]["mean"] == pytest.approx(expected)
    with pytest.raises(Exception, match="holds no effects"):
        run(monkeypatch, first, "--effects", first, "--results", tmp_path / "out")


def test_with_one_seed_changes_exceed_the_control_and_none_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "a", [0.1, 0.5, 0.6, 0.2], 1)
    control = write_run(tmp_path / "c", [0.1, 0.1, 0.6, 0.2], 3)
    run(monkeypatch, first, "--control", control, "--results", tmp_path / "out")
    with (tmp_path / "out/changes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "attention_kl"]
    assert [row["clear"] for row in rows] == ["False", "True", "False", "False"]
    assert {row["counts"] for row in rows} == {"False"}
    assert {row["seed_distance"] for row in rows} <= {"", "nan"}
    claims = json.loads((tmp_path / "out/claims.json").read_text())
    assert "seeds_correlation" not in claims["neurons"][0]


def test_without_a_control_changes_stand_alone_and_none_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "a", [0.1, 0.5, 0.6, 0.2], 1)
    run(monkeypatch, first, "--results", tmp_path / "out")
    with (tmp_path / "out/changes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "attention_kl"]
    assert float(rows[2]["change"]) == pytest.approx(0.6, abs=0.02)
    assert float(rows[2]["low"]) < float(rows[2]["change"]) < float(rows[2]["high"])
    assert {row["counts"] for row in rows} | {row["clear"] for row in rows} == {"False"}
    assert {row["control"] for row in rows} | {row["beyond_control"] for row in rows} <= {"", "nan"}
    claims = json.loads((tmp_path / "out/claims.json").read_text())
    assert claims["heads"][0]["fell"]["mean"] == pytest.approx(2 / 3)
    assert not {"heads_of_control", "neurons"} & set(claims)


def test_a_control_that_was_cut_short_is_compared_at_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "a", [0.1, 0.5, 0.6, 0.2], 1, (-1, 0, 20, 40))
    control = write_run(tmp_path / "c", [0.1, 0.1, 0.6, 0.2], 3)
    run(monkeypatch, first, "--control", control, "--results", tmp_path / "out")
    with (tmp_path / "out/changes.csv").open() as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"20"}
    claims = json.loads((tmp_path / "out/claims.json").read_text())
    assert (claims["step"], claims["steps"]) == (20, [40, 20])
    assert claims["without_control"]["step"] == 40
    assert claims["neurons"][0]["change"] > 0


def test_runs_without_a_common_step_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "a", [0.1] * LAYERS, 1)
    control = write_run(tmp_path / "c", [0.1] * LAYERS, 3, (-1, 0, 30))
    with pytest.raises(Exception, match="no step was recorded by all runs"):
        run(monkeypatch, first, "--control", control, "--results", tmp_path / "out")


def test_runs_on_other_documents_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "a", [0.1] * LAYERS, 1)
    other = write_run(tmp_path / "b", [0.1] * LAYERS, 2)
    for file in (other / "probes").iterdir():
        record = ProbeRecord.read(file)
        record.documents = record.documents[::-1]
        record.save(file)
    with pytest.raises(Exception, match="different documents"):
        run(monkeypatch, first, first, "--control", other, "--results", tmp_path / "out")
