"""benchmarks/placement_join.py: a record replaces a run only if it is the same training."""

from __future__ import annotations

import importlib
import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.placement.landscape_files import read_landscape
from sumcirc.reporting.runs import ReportRun
from tests.support.sweeps import config, write_run, write_sweep

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PAIRS = tuple(combinations(range(4), 2))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("placement_join")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A sweep that lacks three runs of seed 2, and records of those and of three of seed 1."""
    whole = tmp_path / "whole"
    write_sweep(whole, {pair: 0.3 + 0.02 * i for i, pair in enumerate(PAIRS)}, (1, 2), documents=12)
    for seed in (1, 2):
        write_run(whole / f"all-s{seed}", config("all", seed), 0.5, documents=12, layers=range(4))
    sweep, records = tmp_path / "sweep", tmp_path / "records"
    shutil.copytree(whole, sweep)
    records.mkdir()
    for name in ("tiny-0,1", "tiny-2,3", "all"):
        for seed in (1, 2):
            shutil.copytree(whole / f"{name}-s{seed}", records / f"{name}-s{seed}")
        shutil.rmtree(sweep / f"{name}-s2")
    shutil.copytree(whole / "tiny-1,2-s2", records / "tiny-1,2-s2")
    return sweep, records


def test_records_complete_a_seed(
    script: Any, folders: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    sweep, records = folders
    out, choices = tmp_path / "out", tmp_path / "choices.json"
    choices.write_text(
        json.dumps({"selectors": {"page": {"layers": [0, 2], "scores": [4, 1, 3, 2]}}})
    )
    script.main([str(sweep), str(records), "--choices", str(choices), "--out", str(out)])
    said = capsys.readouterr().out
    assert "6 sets, seeds 1, 2\n3 runs are from records; 4 runs are in both and equal" in said
    found, (choice,) = read_landscape(out)
    assert found.seeds == (1, 2)
    assert (choice.name, choice.sets) == ("page", ((0, 2),))
    for place, pair in enumerate(PAIRS):
        folder = records if pair in ((0, 1), (2, 3)) else sweep
        run = ReportRun(folder / f"tiny-{pair[0]},{pair[1]}-s2")
        np.testing.assert_array_equal(found.scores["facts"][place, 1], run.values["facts"])
    joined = json.loads((out / "joined.json").read_text(encoding="utf-8"))
    assert joined["from_records"] == ["0,1 seed 2", "2,3 seed 2", "0,1,2,3 seed 2"]


def test_a_record_of_another_training_is_refused(
    script: Any, folders: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    sweep, records = folders
    pair = config((1, 2), 2)
    shutil.rmtree(records / "tiny-1,2-s2")
    write_run(records / "tiny-1,2-s2", pair, 0.9, documents=12, layers=(1, 2))
    words = [str(sweep), str(records), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        script.main(words)
    assert "tiny-1,2-s2: other" in capsys.readouterr().err
    shutil.rmtree(records / "tiny-1,2-s2")
    with pytest.raises(SystemExit):
        script.main(words)
    assert "only 3 places have a run and a record" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_is_stored_with_its_choices(
    script: Any, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Without records; a selector that refused to choose is left out."""
    out, choices = tmp_path / "out", tmp_path / "choices.json"
    page = {"layers": [0, 2], "scores": [4, 1, 3, 2]}
    choices.write_text(json.dumps({"selectors": {"page": page, "drift": {"refused": "noise"}}}))
    words = ["--choices", str(choices), "--name", "x", "--model", "again", "--out", str(out)]
    script.main([str(folders[0]), *words])
    found, (choice,) = read_landscape(out)
    assert found.seeds == (1,)
    assert (found.name, found.settings["model.path"]) == ("x", "again")
    assert choice.name == "page"
    assert not (out / "joined.json").exists()


def test_modules_that_a_selector_does_not_tell_apart_are_choices_each(
    script: Any, tmp_path: Path, capsys: Any
) -> None:
    sweep, out, choices = tmp_path / "sweep", tmp_path / "out", tmp_path / "choices.json"
    for layer in range(2):
        for module in ("qkv", "mlp_in"):
            settings = config([layer], 1, adaptation__modules=[module])
            write_run(sweep / f"{layer}-{module}", settings, 0.3 + 0.1 * layer, documents=12)
    names = ["0.mlp_in", "1.mlp_in", "1.qkv", "0.qkv"]
    last = {
        "modules": ["1.qkv", "1.mlp_in"],
        "scores": {name: float(name.partition(".")[0]) for name in names},
    }
    page = {"modules": ["0.qkv"], "scores": dict(zip(names, (1.0, 2.0, 3.0, 4.0), strict=True))}
    choices.write_text(json.dumps({"selectors": {"last": last, "page": page}}))
    script.main([str(sweep), "--choices", str(choices), "--out", str(out)])
    assert "4 modules, seeds 1\n" in capsys.readouterr().out
    found, (one, other) = read_landscape(out)
    assert found.modules == ("qkv", "mlp_in")
    assert (one.sets, one.scores) == (((2,), (3,)), (0.0, 0.0, 1.0, 1.0))
    assert (other.sets, other.scores) == (((0,),), (4.0, 1.0, 3.0, 2.0))
    with pytest.raises(SystemExit):
        script.main([str(sweep), str(sweep), "--out", str(out)])
    assert "records stand for sets of layers" in capsys.readouterr().err
