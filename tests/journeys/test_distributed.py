"""Two processes with half a batch each train what one process with the whole batch trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sumcirc.tracking.measure_records import ProbeRecord, record_file
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from tests.support.command_server import CommandServer
from tests.support.processes import Processes

DDP = ["trainer.strategy=ddp", "trainer.devices=2", "trainer.batch_size=4"]


@pytest.fixture
def overrides(llama_folder: Path, tmp_path: Path) -> list[str]:
    """A model without dropout, summaries of 4 to 40 words, and 5 items in a pass's last step."""
    rows = [
        {
            "document": f"Trains to Lisbon stood still on day {i}. " * (1 + i % 4),
            "summary": f"Storm on day {i}. " * (10 if i % 3 else 1),
        }
        for i in range(13)
    ]
    file = tmp_path / "uneven.jsonl"
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


def test_losses_and_weights_are_those_of_one_process(
    commands: CommandServer, overrides: list[str], tmp_path: Path
) -> None:
    """With accumulated gradients, and a last step of 5 items for 2 x 4 batches."""
    settings = [*overrides, "callbacks=none", "evaluation.at_end=false", "trainer.max_steps=4"]
    ways = {"one": (8, 1, 1), "two": (1, 4, 2)}
    found: dict[str, Any] = {}
    for name, (size, accumulate, processes) in ways.items():
        words = [f"trainer.batch_size={size}", f"trainer.accumulate={accumulate}"]
        if processes > 1:
            words += ["trainer.strategy=ddp", f"trainer.devices={processes}"]
        done = commands.run(
            *("train", *settings, *words, f"sweep.name={name}"),
            cwd=tmp_path,
            environment={"GLOO_SOCKET_IFNAME": "lo"},
            processes=processes,
            figures=False,
        )
        assert done.code == 0, done.output
        found[name] = finished(tmp_path / "runs" / name)
    single, expected = found.pop("one")
    assert len(rows(single)) == 4 * 3 + 3 * 2
    run, weights = found["two"]
    assert_equal(weights, expected, 1e-5)
    assert rows(run) == pytest.approx(rows(single), rel=1e-5)


def test_resumed_processes_continue_with_their_own_dropout(
    commands: CommandServer, overrides: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    """From the checkpoint of step 2 of 4; the model's dropout is 0.1."""
    settings = [*overrides, *DDP, f"model.path={gpt2_folder}", "callbacks=none"]
    settings += ["evaluation.at_end=false", "trainer.max_steps=4", "trainer.keep_checkpoints=-1"]
    settings.append("sweep.name=two")
    environment = {"GLOO_SOCKET_IFNAME": "lo"}
    done = commands.run(
        "train", *settings, cwd=tmp_path, environment=environment, processes=2, figures=False
    )
    assert done.code == 0, done.output
    (run,) = tmp_path.glob("runs/*/*")
    expected, lines = (run / "model" / "model.safetensors").read_bytes(), rows(run)
    generators = AtomicCheckpointIO().load_checkpoint(run / "checkpoints" / "step-000002.ckpt")
    ours, theirs = (state["torch"] for state in generators["generators"])
    assert not torch.equal(ours, theirs)

    (run / "checkpoints" / "step-000004.ckpt").unlink()
    shutil.rmtree(run / "model")
    status = json.loads((run / "status.json").read_text()) | {"state": "failed"}
    (run / "status.json").write_text(json.dumps(status))
    done = commands.run(
        "train", f"resume={run}", cwd=tmp_path, environment=environment, processes=2, figures=False
    )
    assert done.code == 0, done.output
    assert (run / "model" / "model.safetensors").read_bytes() == expected
    assert rows(run) == lines


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(
    processes: Processes, overrides: list[str], tmp_path: Path
) -> None:
    for name, words in (("one", ["trainer.batch_size=8"]), ("two", DDP)):
        words = ["train", *overrides, *words, f"sweep.name={name}"]
        code, output = processes.run(*words, cwd=tmp_path)
        assert code == 0, output
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
def test_divergence_ends_every_process(
    processes: Processes, overrides: list[str], tmp_path: Path
) -> None:
    steep = ["optimizer.learning_rate=1e30", "trainer.max_steps=9", "evaluation.at_end=false"]
    words = ["train", *overrides, *DDP, *steep, "sweep.name=two"]
    code, output = processes.run(*words, cwd=tmp_path)
    assert code == 2, output
    (run,) = (tmp_path / "runs" / "two").iterdir()
    assert (
        "lower optimizer.learning_rate" in json.loads((run / "status.json").read_text())["reason"]
    )
