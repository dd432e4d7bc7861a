"""Two processes with half a batch each train what one process with the whole batch trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sumcirc.records import ProbeRecord, record_file
from sumcirc.tracking.run_directory import RunDirectory
from tests.support.command_server import ROOT

DDP = ["trainer.strategy=ddp", "trainer.devices=2", "trainer.batch_size=4"]


@pytest.fixture
def overrides(llama_folder: Path, tmp_path: Path) -> list[str]:
    """A model without dropout, and summaries of equal length, so that means of means are means."""
    rows = [
        {
            "document": f"Trains to Lisbon stood still on day {i}. " * (1 + i % 4),
            "summary": "Storm.",
        }
        for i in range(40)
    ]
    file = tmp_path / "equal.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        f"model.path={llama_folder}",
        "model.learning_rate=1e-3",
        "data=files",
        *(f"data.{split}={file}" for split in ("train", "validation", "test")),
        "data.sizes.test=4",
        "data.sizes.validation=10",
        "logger=none",
        "trainer=cpu",
        "trainer.threads=1",
        "trainer.log_every=1",
        "trainer.validate_every=2",
        "trainer.checkpoint_every=2",
        "trainer.max_steps=3",
        "optimizer.epsilon=1e-4",
        "evaluation.bootstrap=100",
        "generation.max_new_tokens=8",
    ]


def train(folder: Path, overrides: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sumcirc", "train", *overrides],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "HF_HUB_OFFLINE": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "SUMCIRC_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(run: Path) -> dict[tuple[str, str], float]:
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    found = {(step, name): float(value) for step, name, value in lines}
    assert len(found) == len(lines)  # nothing was written twice
    return {key: value for key, value in found.items() if not key[1].startswith("time/")}


def finished(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    (run,) = folder.iterdir()
    return run, load_file(run / "model" / "model.safetensors")


def assert_equal(left: Any, right: Any, tolerance: float) -> None:
    for name, value in right.items():
        assert torch.allclose(left[name], value, rtol=0, atol=tolerance), name


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(overrides: list[str], tmp_path: Path) -> None:
    one = train(tmp_path, [*overrides, "trainer.batch_size=8", "sweep.name=one"])
    assert one.returncode == 0, one.stderr
    two = train(tmp_path, [*overrides, *DDP, "sweep.name=two"])
    assert two.returncode == 0, two.stderr
    single, expected = finished(tmp_path / "runs" / "one")
    run, weights = finished(tmp_path / "runs" / "two")
    assert_equal(weights, expected, 1e-5)
    found = rows(run)
    assert found.keys() == rows(single).keys()
    for key, value in rows(single).items():
        if "heads_fell" not in key[1]:  # by the sign of differences that are rounding at step 0
            assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    for step in (0, 3):
        ours, theirs = (
            ProbeRecord.read(record_file(RunDirectory(each).probes, step)) for each in (run, single)
        )
        assert ours.documents == theirs.documents
        for name, values in theirs.values.items():
            np.testing.assert_allclose(ours.values[name], values, atol=1e-4, err_msg=name)
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "done"
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["step-000003.ckpt"]
    summaries = [json.loads((each / "summary.json").read_text()) for each in (single, run)]
    assert summaries[0]["systems"].keys() == summaries[1]["systems"].keys()
    assert summaries[0]["steps"] == summaries[1]["steps"] == 3


@pytest.mark.slow
def test_several_processes_in_a_multirun(overrides: list[str], tmp_path: Path) -> None:
    done = train(
        tmp_path,
        ["-m", *overrides, *DDP, "sweep.name=two", "seed=1,2", "evaluation.at_end=false"],
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "runs" / "two").glob("*/status.json"))
    assert len(runs) == 2
    assert [json.loads(file.read_text())["state"] for file in runs] == ["done", "done"]


@pytest.mark.slow
def test_divergence_ends_every_process(overrides: list[str], tmp_path: Path) -> None:
    steep = ["optimizer.learning_rate=1e30", "trainer.max_steps=9", "evaluation.at_end=false"]
    failed = train(tmp_path, [*overrides, *DDP, *steep, "sweep.name=two"])
    assert failed.returncode == 2
    (run,) = (tmp_path / "runs" / "two").iterdir()
    assert (
        "lower optimizer.learning_rate" in json.loads((run / "status.json").read_text())["reason"]
    )
