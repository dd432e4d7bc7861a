"""A finished run is given further steps: `resume=RUN trainer.max_steps=N`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.support.command_server import CommandServer

LORA = ["adaptation=lora", "adaptation.rank=4", "adaptation.dropout=0.2", "optimizer.warmup=0"]


def train(commands: CommandServer, folder: Path, *words: str) -> Path:
    folder.mkdir(exist_ok=True)
    done = commands.run("train", *words, *LORA, "sweep.name=x", cwd=folder, figures=False)
    assert done.code == 0, done.output
    (run,) = folder.glob("runs/x/*")
    return run


def rates(run: Path) -> dict[int, float]:
    """The logged learning rate by step, which is that of the step after."""
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return {int(step): float(value) for step, name, value in lines if name == "train/learning_rate"}


@pytest.fixture(scope="module")
def finished(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of 12 steps with a linear schedule."""
    return train(commands, tmp_path_factory.mktemp("linear"), *small_run)


def test_a_constant_schedule_goes_on_as_if_uninterrupted(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    words = [*small_run, "optimizer.schedule=constant", "trainer.accumulate=2"]
    whole = train(commands, tmp_path / "whole", *words, "trainer.max_steps=20")
    run = train(commands, tmp_path / "parts", *words)
    before = load_file(run / "adapter/adapter_model.safetensors")
    done = commands.run("train", f"resume={run}", "trainer.max_steps=20", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "goes on from step 12 to 20, learning rate constant; as an uninterrupted" in done.output
    names = "adapter/adapter_model.safetensors"
    assert (run / names).read_bytes() == (whole / names).read_bytes()
    after = load_file(run / names)
    assert any((after[name] != before[name]).any() for name in after)
    losses = [
        [line for line in (one / "metrics.csv").read_text().splitlines() if ",train/loss," in line]
        for one in (run, whole)
    ]
    assert losses[0] == losses[1]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["config"]["trainer"]["max_steps"] == 20
    assert config["extensions"] == [{"from_step": 12, "to_step": 20, "schedule": "constant"}]
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["steps"]) == ("done", 20)
    # the same command once more has nothing left to do
    done = commands.run("train", f"resume={run}", "trainer.max_steps=20", cwd=tmp_path)
    assert "is done, so there is nothing to resume" in done.output


def test_a_linear_schedule_has_to_be_chosen_anew(
    commands: CommandServer, finished: Path, tmp_path: Path
) -> None:
    peak = rates(finished)[2] / (10 / 12)  # after two of twelve steps
    given = ["train", f"resume={finished}"]
    done = commands.run(*given, "trainer.max_steps=16", cwd=tmp_path)
    assert done.code == 2
    assert "linear schedule has reached a learning rate of 0 at step 12" in done.output
    assert "trainer.extension=restart" in done.output
    assert "extensions" not in (finished / "config.yaml").read_text()

    words = [*given, "trainer.max_steps=16", "trainer.extension=restart"]
    done = commands.run(*words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    assert "not the same as an uninterrupted run of 16 steps" in done.output
    found = rates(finished)
    assert found[14] == pytest.approx(peak * 2 / 4)
    assert found[16] == 0

    words = [*given, "trainer.max_steps=20", "trainer.extension=constant"]
    assert commands.run(*words, cwd=tmp_path, figures=False).code == 0
    assert rates(finished)[18] == rates(finished)[20] == pytest.approx(peak)
    words = [*given, "trainer.max_steps=30", "trainer.extension=stretch"]
    assert commands.run(*words, cwd=tmp_path, figures=False).code == 0
    found = rates(finished)
    assert found[24] == pytest.approx(peak * 6 / 30)
    assert sorted(found) == list(range(2, 31, 2))
    history = yaml.safe_load((finished / "config.yaml").read_text())["extensions"]
    assert [one["to_step"] for one in history] == [16, 20, 30]


def test_what_is_refused(commands: CommandServer, small_run: list[str], tmp_path: Path) -> None:
    run = train(commands, tmp_path, *small_run)
    before = (run / "config.yaml").read_bytes()
    resume = f"resume={run}"
    for words, part in (
        ([resume, "trainer.max_steps=9", "trainer.extension=stretch"], "has done 12 steps; give"),
        ([resume, "trainer.extension=stretch"], "give trainer.max_steps=N as well"),
        ([resume, "trainer.batch_size=2"], "trainer.batch_size can't go with it"),
        ([resume, "trainer.max_steps=20", "trainer.extension=again"], "choose from restart, cons"),
        (["trainer.extension=restart"], "is for adding steps to a finished run"),
    ):
        done = commands.run("train", *words, cwd=tmp_path)
        assert done.code == 2, done.output
        assert part in done.output
        assert "Traceback" not in done.output
    assert (run / "config.yaml").read_bytes() == before
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "pending"}))
    done = commands.run("train", resume, "trainer.max_steps=20", cwd=tmp_path)
    assert f"first continue with `sumcirc train {resume}`" in done.output
