"""Notes beside the tables."""

from __future__ import annotations

from pathlib import Path

from sumcirc.reporting.arms import make_arms
from sumcirc.reporting.notes import chosen_layers, missing_seeds, twins, versions
from sumcirc.reporting.runs import read_runs
from tests.support.sweeps import config, write_run, write_sweep


def test_one_training_under_two_names(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config("all"), 0.4, draw=1)
    write_run(tmp_path / "s/b", config([0, 1, 2, 3, 4, 5]), 0.4, draw=1)
    write_run(tmp_path / "s/c", config([0]), 0.4, draw=2)
    (note,) = twins(make_arms(read_runs([tmp_path / "s"])[0])[0])
    assert note.startswith(
        "LoRA on all layers and layers 0,1,2,3,4,5 are one training under two names"
    )


def test_layers_that_were_chosen(tmp_path: Path) -> None:
    for seed, layers in ((1, [0, 4]), (2, [1, 2]), (3, [0, 4])):
        settings = config(seed=seed, selector="random")
        write_run(tmp_path / f"s/{seed}", settings, 0.4, layers=layers)
    write_run(tmp_path / "s/fixed", config([0]), 0.4, layers=[0])
    arms, _ = make_arms(read_runs([tmp_path / "s"])[0])
    assert chosen_layers(arms) == ["layers of LoRA on random layers: 0,4 (seed 1, 3); 1,2 (seed 2)"]


def test_missing_seeds(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4, (1,): 0.5})
    write_sweep(tmp_path / "s", {(2,): 0.4}, seeds=(2,))
    arms, _ = make_arms(read_runs([tmp_path / "s"])[0])
    assert missing_seeds(arms) == ["missing: layers 2 has no finished run of seed 1, 3"]


def test_other_versions(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1, 2))
    runs, _ = read_runs([tmp_path / "s"])
    assert versions(runs) == []
    runs[0]._config_file["environment"]["sumcirc"] = "0.0.9"
    (note,) = versions(runs)
    assert note.startswith("runs were made by different versions (sumcirc 0.0.9, ")
