"""A run killed with SIGKILL and resumed ends with the same files as one that was left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_server import CommandServer, Finished
from tests.support.kill_points import POINTS

LORA = ["adaptation=lora", "adaptation.rank=4", "adaptation.dropout=0.2"]
ARMS = {"full": [], "lora": LORA}
SIGKILL = -9


def run_directory(folder: Path) -> Path:
    (found,) = folder.glob("runs/kill/*")
    return found


def train(
    commands: CommandServer, folder: Path, overrides: list[str], kill_at: str | None = None
) -> Finished:
    folder.mkdir(exist_ok=True)
    accumulated = ["trainer.accumulate=2", "sweep.name=kill"]
    return commands.run("train", *overrides, *accumulated, cwd=folder, kill_at=kill_at)


def metrics(run: Path) -> list[str]:
    """The lines of metrics.csv, timings aside."""
    lines = (run / "metrics.csv").read_text().splitlines()
    return [line for line in lines if ",time/" not in line]


def weights(run: Path) -> bytes:
    (file,) = [*run.glob("model/model.safetensors"), *run.glob("adapter/adapter_model.safetensors")]
    return file.read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    found = {}
    for arm, overrides in ARMS.items():
        folder = tmp_path_factory.mktemp(arm)
        done = train(commands, folder, [*small_run, *overrides])
        assert done.code == 0, done.output
        found[arm] = run_directory(folder)
    return found


def test_uninterrupted_run_logs_what_the_kill_points_count_on(
    uninterrupted: dict[str, Path],
) -> None:
    steps = [line.split(",")[:2] for line in metrics(uninterrupted["full"])[1:]]
    logged = [int(step) for step, name in steps if name == "train/loss"]
    validated = [int(step) for step, name in steps if name == "validation/loss"]
    assert logged == [2, 4, 6, 8, 10, 12]
    assert validated == [0, 4, 8, 12]
    assert [file.name for file in (uninterrupted["full"] / "checkpoints").iterdir()] == [
        "step-000012.ckpt"
    ]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("point", [name for name in POINTS if name != "final_evaluation"])
def test_killed_and_resumed_equals_uninterrupted(
    point: str,
    arm: str,
    commands: CommandServer,
    small_run: list[str],
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    killed = train(commands, tmp_path, [*small_run, *ARMS[arm]], kill_at=point)
    assert killed.code == SIGKILL, killed.output
    run = run_directory(tmp_path)
    assert not [*run.glob("model"), *run.glob("adapter")]
    assert json.loads((run / "status.json").read_text())["state"] == "running"
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path)
    assert resumed.code == 0, resumed.output
    assert metrics(run) == metrics(uninterrupted[arm])
    assert weights(run) == weights(uninterrupted[arm])
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["resumed"]) == ("done", 1)
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["step-000012.ckpt"]
    assert not [*run.rglob("*.tmp")]
