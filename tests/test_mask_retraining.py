"""benchmarks/mask_retraining.py: the sets that are trained, and what is said about the runs."""

from __future__ import annotations

import importlib
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from docs.record import RECORDS

MASKS = json.loads((RECORDS / "masks/lora.json").read_text())["masks"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    return importlib.import_module("mask_retraining")


def test_sets_are_the_first_modules_that_fit(script: Any, tmp_path: Path) -> None:
    names = script.write_sets(MASKS, tmp_path)
    assert len(names) == 12
    module = runpy.run_path(str(tmp_path / "mask_sets.py"))
    shares = {one["unit"]: one["weights"] for one in MASKS["units"]}
    labels = [f"layer {i} {part}" for i in range(6) for part in script.MODULES]
    sets = {}
    for name in names:
        scores = module[name](None).values
        assert scores.shape == (6, 4, 1)
        sets[name] = {label for label, one in zip(labels, scores.ravel(), strict=True) if one}
        settings = yaml.safe_load((tmp_path / f"selector/{name}.yaml").read_text())
        count = len(sets[name])
        assert settings == {"name": "own", "score": f"mask_sets.{name}", "count": count}
        size = int(name.rpartition("_")[2]) / 100
        assert size - 0.02 < sum(shares[one] for one in sets[name]) <= size + 1e-9
    ordered = [one["unit"] for one in MASKS["units"]]
    assert {ordered[0], ordered[1], ordered[2]} <= sets["masks_20"]
    assert not sets["masks_20"] & sets["inverted_20"] - {"layer 5 attn_out"}
    first = sorted(MASKS["units"], key=lambda one: one["path"])[:3]
    assert {one["unit"] for one in first} <= sets["path_20"]
    assert len({frozenset(sets[f"random{draw}_40"]) for draw in range(3)}) == 3


def test_a_run_is_known_by_its_selector(script: Any) -> None:
    assert script.arm_of(None) == ("all", 1.0)
    assert script.arm_of("mask_sets.masks_40") == ("masks", 0.4)
    assert script.arm_of("mask_sets.random2_20") == ("random", 0.2)


def test_differences_are_paired_by_document_and_seed(script: Any) -> None:
    draw = np.random.default_rng(0)
    document = draw.normal(2, 1, size=30)

    def run(ranking: str, seed: int, worse: float) -> dict[str, Any]:
        values = document + 0.5 * seed + worse + draw.normal(0, 0.01, size=30)
        about = {"ranking": ranking, "size": 0.4, "seed": seed, "parameters": 10}
        return {**about, "article_kl": 1.0, "nll": values.tolist(), "facts": [0.5] * 30}

    worth = {"masks": 0.0, "path": 0.2, "inverted": 1.0}
    runs = [run(name, seed, worse) for name, worse in worth.items() for seed in (1, 2)]
    table = script.outcome_table({"runs": [*runs[:3], *runs[4:]]})  # path has no second seed
    rows = {row[0]: row for row in table.rows}
    assert [row[0] for row in table.rows] == [
        "learned masks",
        "path attribution",
        "learned masks, inverted",
    ]
    assert float(rows["learned masks"][4]) == pytest.approx(document.mean() + 0.75, abs=0.02)
    assert rows["learned masks"][5] == "-"
    for name, worse in (("path attribution", 0.2), ("learned masks, inverted", 1.0)):
        mean, ends = rows[name][5].split(" ", 1)
        low, high = (float(one) for one in ends.strip("[]").split(", "))
        assert float(mean) == pytest.approx(-worse, abs=0.02)
        assert low < -worse + 0.02
        assert high > -worse - 0.02
        assert high - low < 0.2
