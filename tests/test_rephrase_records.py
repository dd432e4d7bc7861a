"""benchmarks/rephrase_records.py and rephrase_tables.py on comparisons whose numbers are known."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.storage.writing import write_table

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
WORDS = ("red", "old", "big", "new", "odd", "wet", "dry", "hot", "sad", "shy", "sly", "raw")
IDS = [f"rephrase-{word}-{wording}" for word in WORDS for wording in ("post", "other")]
MODELS = ("m-s1", "m-s2")
GAP = 4.0  # logits, for every prompt


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(f"rephrase_{name}") for name in ("records", "tables")}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A comparison in which a word's two prompts have effects that differ by one logit."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"after": {model: {} for model in MODELS}}))
    for number, model in enumerate(MODELS):
        patching, direct, attention = [], [], []
        for place, item in enumerate(IDS):
            parity = place % 2
            for direction, sign in (("sufficiency", 1), ("necessity", -1)):
                for layer in range(3):
                    about = {"direction": direction, "kind": "output", "layer": layer, "index": 0}
                    ends = sorted((-2.0, -2.0 + GAP), reverse=sign < 0)
                    about |= {"item": item, "part": f"output.{layer}.0", "receiver": ends[0]}
                    about |= {"donor": ends[1], "effect": sign * (layer + parity - 0.5)}
                    patching.append({**about, "attributed": 0.0})
            for side, value in (("before", -2.0), ("after", 2.0 + number)):
                about = {"model": side, "item": item}
                direct.append({**about, "part": "head", "layer": 1, "head": 0, "value": value - 1})
                direct.append({**about, "part": "bias", "layer": None, "head": None, "value": 1.0})
                about |= {"source": "adjective", "destination": "last", "layer": 1, "head": 0}
                attention.append({**about, "value": 0.1 if side == "before" else 0.7})
        for name, rows in (("patching", patching), ("direct", direct), ("attention", attention)):
            write_table(folder / f"compare/{model}/{name}.parquet", rows)
    return folder


def test_records_and_tables(scripts: dict[str, Any], run: Path, tmp_path: Path) -> None:
    out = tmp_path / "records"
    scripts["records"].main(["--read", str(run), "--patched", str(run), "--out", str(out)])
    tables = scripts["tables"]

    rows = tables.read(out, "prompts")
    assert [row["prompt"] for row in rows] == IDS
    assert {(row["base"], *(row[model] for model in MODELS)) for row in rows} == {
        ("-2.00000", "2.00000", "3.00000")
    }
    head, body = tables.metric_table(out)
    assert head[3:5] == ["seed 1", "seed 2"]
    assert [row[1] for row in body] == ["12", "12", "24"]
    assert body[0][2:] == [
        *("-2.00 [-2.00, -2.00]", "2.00 [2.00, 2.00]", "3.00 [3.00, 3.00]"),
        *("4.00 [4.00, 4.00]", "5.00 [5.00, 5.00]"),
    ]

    # the mean effect of layer l is l logits; a word's prompts cancel, so intervals are points
    found = {
        (row["model"], row["direction"], row["part"]): row for row in tables.read(out, "components")
    }
    assert len(found) == 2 * 2 * 3
    for (_, direction, part), row in found.items():
        share = int(part.split(".")[1]) / GAP
        assert [float(row[end]) for end in ("mean", "low", "high")] == pytest.approx([share] * 3)
        sign = 1 if direction == "sufficiency" else -1
        assert float(row["effect"]) == pytest.approx(sign * share * GAP)
    _, parts = tables.component_table(out, "output", 2)
    assert parts == [
        ["output.2.0", *["0.50 [0.50, 0.50]"] * 4],
        ["output.1.0", *["0.25 [0.25, 0.25]"] * 4],
    ]
    for row in tables.read(out, "agreement"):
        assert (row["components"], float(row["mean"]), float(row["low"])) == ("3", 1.0, 1.0)

    _, (row,) = tables.change_table(out, "attention", ("source", "layer", "head"))
    assert row == ["adjective", "1", "0", "0.10", *["0.60 [0.60, 0.60]"] * 2]
    _, (row,) = tables.change_table(out, "direct", ("part", "layer", "head"))
    assert row[:4] == ["head", "1", "0", "-3.00"]
    assert row[4:] == ["4.00 [4.00, 4.00]", "5.00 [5.00, 5.00]"]
    lines = tables.markdown(tables.metric_table(out))
    assert lines[2].startswith("| the post's, trained | 12 | -2.00 [-2.00, -2.00] |")


def test_losses_of_training(scripts: dict[str, Any], tmp_path: Path) -> None:
    for model, loss in zip(MODELS, (0.5, 0.75), strict=True):
        lines = [
            "step,metric,value",
            "0,validation/loss,1.25",
            "2,train/loss,9",
            "4,validation/loss,",
        ]
        (tmp_path / model).mkdir()
        (tmp_path / model / "metrics.csv").write_text("\n".join(lines) + f"{loss}\n")
    out = tmp_path / "records"
    trained = [str(tmp_path / model) for model in MODELS]
    scripts["records"].main(["--trained", *trained, "--out", str(out)])
    head, body = scripts["tables"].training_table(out)
    assert head[1:] == ["step 0", "step 4"]
    assert body == [["seed 1", "1.250", "0.500"], ["seed 2", "1.250", "0.750"]]


def test_sets(scripts: dict[str, Any], tmp_path: Path) -> None:
    share = {"mean": [0.2, 0.6], "low": [0.1, 0.5], "high": [0.3, 0.7]}
    needed = {"0.5": {"size": 4, "low": 1, "high": None}}
    needed["0.8"] = {"size": None, "low": None, "high": None}
    family = {"sizes": [1, 4], "largest": share, "random_anywhere": share, "needed": needed}
    one = {"heads": {**family, "random_by_layer": share}, "mlps": family, "both": family}
    both = {"sufficiency": one, "necessity": one}
    (tmp_path / "head-sets.json").write_text(json.dumps({"m-s1": both}))
    tables = scripts["tables"]
    head, body = tables.set_table(tmp_path, "necessity")
    assert len(head) == 4
    assert body[1] == ["4", *["0.60 [0.50, 0.70]"] * 3]
    assert len(tables.set_table(tmp_path, "necessity", "mlps")[0]) == 3
    head, body = tables.needed_table(tmp_path)
    assert body[0] == [
        "seed 1",
        "tuned into base",
        "heads",
        "4 [1, more]",
        "not reached [more, more]",
    ]
    assert len(body) == 6


def test_prompts_of_a_word_are_resampled_together(scripts: dict[str, Any]) -> None:
    values = np.arange(24.0)
    grouped = scripts["records"].by_word(IDS, values)
    assert grouped == pytest.approx(np.arange(0.5, 24, 2))
