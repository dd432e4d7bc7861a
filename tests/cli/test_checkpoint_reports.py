"""Several checkpoints evaluated and examined in one command each, and reported row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from sumcirc.circuits.eap_ig_format import read_circuit
from sumcirc.cli import main as cli
from sumcirc.statistics import bootstrap_difference
from sumcirc.sweeps import child
from sumcirc.tracking.run_records import RunRecords
from tests.support.command_server import CommandServer
from tests.support.job_server import JobServer

MAIN = """
import sys
from sumcirc.cli.main import main
main(sys.argv[1:])
"""
SMALL = [
    *("circuit.documents=9", "circuit.sizes=[0.1,0.5,1.0]", "circuit.random_circuits=1"),
    *("circuit.resamples=20", "circuit.steps=2", "trainer.threads=1", "logger=none"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with TemporaryDirectory() as folder, JobServer(Path(folder)) as started:
        yield started


@pytest.mark.usefixtures("undrawn")
def test_checkpoints_row_by_row(
    commands: CommandServer,
    server: JobServer,
    small_run: list[str],
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(child, "PROGRAM", server.program(MAIN))
    data = f"data.test={news_files['validation']}"  # ten items, enough for intervals
    for kind in ("full", "lora"):
        words = [f"adaptation={kind}", "optimizer.learning_rate=0.02", "sweep.name=tour", data]
        done = commands.run("train", *small_run, *words, cwd=tmp_path, figures=False)
        assert done.code == 0, done.output

    cli.main(["evaluate", "checkpoint=runs/tour", "sweep.name=e", "logger=none"])
    cli.main(["circuit", "checkpoint=runs/tour", "sweep.name=c", *SMALL])
    capfd.readouterr()
    cli.main(["report", "e", "logger=none"])  # by its name, as status finds it
    said = capfd.readouterr().out
    assert "scores on files: with intervals over documents" in said
    assert "difference from tour/small-files-full-s1 on the same documents" in said

    rows = list(csv.DictReader(Path("runs/e/comparison/checkpoints.csv").read_text().splitlines()))
    assert {row["checkpoint"] for row in rows} == {
        "tour/small-files-full-s1",
        "tour/small-files-lora-all-r16-s1",
    }
    runs = [RunRecords(folder) for folder in sorted(Path("runs/e").glob("tour_*"))]
    values = [run.scores("trained", ["rouge1_f1"])[1]["rouge1_f1"] for run in runs]
    row = next(row for row in rows if row["measure"] == "rouge1_f1" and row["against"])
    expected = bootstrap_difference(values[1], values[0])
    found = [float(row[key]) for key in ("difference", "difference_low", "difference_high")]
    np.testing.assert_allclose(found, [expected.mean, expected.low, expected.high], atol=1e-12)
    assert "Comparison of checkpoints" in Path("runs/e/comparison/report.html").read_text()

    cli.main(["report", "runs/c", "logger=none"])
    said = capfd.readouterr().out
    assert "faithfulness, 10 %" in said
    assert "overlap (Jaccard index) with the circuit of tour/small-files-full-s1" in said
    rows = list(csv.DictReader(Path("runs/c/comparison/checkpoints.csv").read_text().splitlines()))
    _check_circuits(rows, sorted(Path("runs/c").glob("tour_*")))


def _check_circuits(rows: list[dict[str, str]], folders: list[Path]) -> None:
    """Compare the rows with what the runs' own files say, computed in another way."""
    curves = [
        json.loads((folder / "circuits/faithfulness.json").read_text())["absolute"]
        for folder in folders
    ]
    names = [name for name in curves[1]["documents"] if name in curves[0]["documents"]]
    for i, fraction in enumerate((0.1, 0.5, 1.0)):
        row = next(row for row in rows if row["size"] == str(fraction) and row["against"])
        ratios = []
        for curve in curves:
            place = [curve["documents"].index(name) for name in names]
            metric, empty, full = (
                np.array(part)[place]
                for part in (curve["points"][i]["metric"], curve["empty"], curve["full"])
            )
            ratios.append((metric.sum() - empty.sum()) / (full.sum() - empty.sum()))
        if curves[0]["points"][i]["edges"] and curves[1]["points"][i]["edges"]:
            assert float(row["difference"]) == pytest.approx(ratios[1] - ratios[0], abs=1e-9)
        assert float(row["mean"]) == curves[1]["points"][i]["faithfulness"]["mean"]
    if all(len(curve["documents"]) == len(names) for curve in curves):
        kept = [read_circuit(folder / "circuits/circuit.json").kept for folder in folders]
        overlap = (kept[0] & kept[1]).sum() / (kept[0] | kept[1]).sum()
        row = next(row for row in rows if row["measure"] == "overlap_with_first" and row["against"])
        assert float(row["mean"]) == pytest.approx(overlap)
