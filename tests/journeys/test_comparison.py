"""A sweep of two arms and two seeds, trained for a few steps, then compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.support.command_server import CommandServer


@pytest.mark.slow
def test_a_sweep_and_its_comparison(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    scored = [word for word in small_run if not word.startswith("evaluation.at_end")]
    trained = commands.run(
        "train",
        "-m",
        *scored,
        *("adaptation=lora", "adaptation.rank=4", "adaptation.layers=[0],all", "seed=1,2"),
        *("sweep.name=s", "callbacks=none"),
        cwd=tmp_path,
    )
    assert trained.code == 0, trained.output
    done = commands.run("report", "runs/s", "logger=none", "against=[all]", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "another budget" in done.output
    folder = tmp_path / "runs/s/comparison"
    with open(folder / "arms.csv") as file:
        arms = {row["arm"]: row for row in csv.DictReader(file)}
    assert set(arms) == {"layers 0", "all"}
    for label, row in arms.items():
        assert row["seeds"] == "1 2"
        assert row["steps"] == "12"
        runs = [
            run.parent
            for run in (tmp_path / "runs/s").glob("*/summary.json")
            if ("-all-" in run.parent.name) == (label == "all")
        ]
        scores = [
            record["rougeLsum_f1"]
            for run in runs
            for record in pyarrow.parquet.read_table(run / "documents.parquet").to_pylist()
            if record["system"] == "trained"
        ]
        assert len(scores) == 2 * 6
        assert float(row["rougeLsum_f1"]) == pytest.approx(sum(scores) / len(scores))
        assert float(row["steps_to_loss"]) in (4, 8, 12, 6, 10)
    assert int(float(arms["all"]["trainable_parameters"])) == 2 * int(
        float(arms["layers 0"]["trainable_parameters"])
    )
    (difference, *_) = json.loads((folder / "comparison.json").read_text())["differences"]
    assert difference["paired_by_seed"]
    assert difference["documents"] == 6
    for name in ("parameters", "differences", "validation_loss"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5000
