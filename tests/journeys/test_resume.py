"""A run killed with SIGKILL and resumed ends with the same files as one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pyarrow.parquet
import pytest

from sumcirc.training.checkpoint import checkpoints
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from tests.support.command_server import CommandServer, Finished
from tests.support.kill_points import POINTS
from tests.support.processes import SCRIPT

LORA = ["adaptation=lora", "adaptation.rank=4", "adaptation.dropout=0.2"]
ARMS = {"full": [], "lora": LORA}
SIGKILL = -9
# these run always, the other pairs of point and arm with `make test-slow`
QUICK = {
    ("before_first_checkpoint", "lora"),
    ("mid_step", "lora"),
    ("checkpoint_half_written", "full"),
    ("checkpoint_written", "full"),
    ("validation", "lora"),
    ("line_torn", "full"),
    ("last_checkpoint_written", "lora"),
}


def run_directory(folder: Path) -> Path:
    (found,) = folder.glob("runs/kill/*")
    return found


def train(
    commands: CommandServer, folder: Path, overrides: list[str], kill_at: str | None = None
) -> Finished:
    folder.mkdir(exist_ok=True)
    accumulated = ["trainer.accumulate=2", "sweep.name=kill"]
    return commands.run(
        "train", *overrides, *accumulated, cwd=folder, kill_at=kill_at, figures=False
    )


def metrics(run: Path) -> list[str]:
    """The lines of metrics.csv, timings aside."""
    lines = (run / "metrics.csv").read_text().splitlines()
    return [line for line in lines if ",time/" not in line]


def weights(run: Path) -> bytes:
    (file,) = [*run.glob("model/model.safetensors"), *run.glob("adapter/adapter_model.safetensors")]
    return file.read_bytes()


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def assert_same(run: Path, reference: Path) -> None:
    """Weights and metrics bit for bit, the last checkpoint alone, nothing half-written."""
    assert metrics(run) == metrics(reference)
    assert weights(run) == weights(reference)
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["step-000012.ckpt"]
    assert not [*run.rglob("*.tmp")]


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
    assert metrics(uninterrupted["full"]) != metrics(uninterrupted["lora"])


@pytest.mark.parametrize(
    ("point", "arm"),
    [
        pytest.param(point, arm, marks=[] if (point, arm) in QUICK else pytest.mark.slow)
        for point in POINTS
        for arm in ARMS
        if point != "final_evaluation"
    ],
)
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
    assert status(run)["state"] == "running"
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    assert_same(run, uninterrupted[arm])
    assert (status(run)["state"], status(run)["resumed"]) == ("done", 1)


@pytest.mark.slow
def test_killed_twice(
    commands: CommandServer,
    small_run: list[str],
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    assert train(commands, tmp_path, [*small_run, *LORA], kill_at="mid_step").code == SIGKILL
    run = run_directory(tmp_path)
    # counted from the checkpoint of step 5: after the line of step 12
    again = commands.run(
        "train", f"resume={run}", cwd=tmp_path, kill_at="line_logged", figures=False
    )
    assert again.code == SIGKILL
    assert commands.run("train", f"resume={run}", cwd=tmp_path, figures=False).code == 0
    assert_same(run, uninterrupted["lora"])
    assert status(run)["resumed"] == 2


def test_killed_while_scoring_keeps_the_scores_too(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    scored = [*small_run, *LORA, "evaluation.at_end=true", "trainer.max_steps=4"]
    assert train(commands, tmp_path / "whole", scored).code == 0
    reference = run_directory(tmp_path / "whole")
    killed = train(commands, tmp_path / "killed", scored, kill_at="final_evaluation")
    assert killed.code == SIGKILL, killed.output
    run = run_directory(tmp_path / "killed")
    assert not (run / "summary.json").exists()
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    assert weights(run) == weights(reference)
    assert metrics(run) == metrics(reference)
    tables = [pyarrow.parquet.read_table(each / "documents.parquet") for each in (run, reference)]
    assert tables[0].equals(tables[1])
    summaries = [json.loads((each / "summary.json").read_text()) for each in (run, reference)]
    assert summaries[0].pop("seconds").keys() == summaries[1].pop("seconds").keys()
    costs = [one.pop("cost") for one in summaries]
    assert costs[0].keys() == costs[1].keys()
    for name in ("flops", "tokens", "devices"):
        assert costs[0][name] == costs[1][name], "each step is counted once"
    assert summaries[0] == summaries[1]


def test_full_disk_keeps_the_checkpoint_before_and_says_so_in_one_line(
    commands: CommandServer,
    small_run: list[str],
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    failed = train(commands, tmp_path, small_run, kill_at="disk_full")
    assert failed.code == 2
    run = run_directory(tmp_path)
    said = [line for line in failed.output.splitlines() if line.startswith("sumcirc:")]
    assert len(said) == 1
    assert "no room to write" in said[0]
    assert "step-000010.ckpt" in said[0]
    assert "Traceback" not in failed.output
    assert status(run)["state"] == "failed"
    assert "no room to write" in status(run)["reason"]
    (kept,) = (run / "checkpoints").iterdir()
    assert AtomicCheckpointIO().load_checkpoint(kept)["global_step"] == 5
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    assert_same(run, uninterrupted["full"])


def test_diverged_run_fails_with_its_reason(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    steep = ["optimizer.learning_rate=1e30", "trainer.checkpoint_every=1"]
    failed = train(commands, tmp_path, [*small_run, *steep])
    assert failed.code == 2
    run = run_directory(tmp_path)
    assert status(run)["state"] == "failed"
    assert "lower optimizer.learning_rate" in status(run)["reason"]
    assert failed.output.splitlines()[-1] == f"sumcirc: {status(run)['reason']}"
    (kept,) = checkpoints(run / "checkpoints")
    state = AtomicCheckpointIO().load_checkpoint(kept)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_finished_run_is_left_alone(
    commands: CommandServer, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    run = uninterrupted["lora"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.suffix != ".txt"}
    done = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert done.code == 0
    assert "is done" in done.output
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_resume_as_users_type_it(
    commands: CommandServer,
    small_run: list[str],
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    """In an interpreter of its own, from another folder."""
    assert train(commands, tmp_path, small_run, kill_at="line_logged").code == SIGKILL
    run = run_directory(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [SCRIPT, "train", f"resume={run}"]
    subprocess.run(command, cwd=elsewhere, env=environment, check=True, capture_output=True)
    assert_same(run, uninterrupted["full"])
    assert not list(elsewhere.iterdir())


def test_changed_data_other_versions_and_leftovers(
    commands: CommandServer, small_run: list[str], news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Other documents are refused, other versions mentioned, temporary files removed."""
    files = {split: tmp_path / path.name for split, path in news_files.items()}
    for split, path in news_files.items():
        files[split].write_bytes(path.read_bytes())
    words = [*small_run, *(f"data.{split}={path}" for split, path in files.items())]
    killed = train(commands, tmp_path, words, kill_at="checkpoint_written")
    assert killed.code == SIGKILL, killed.output
    run = run_directory(tmp_path)
    leftover = run / "probes/.step-000004.safetensors.4711.tmp"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"half")
    config = run / "config.yaml"
    version = metadata.version("torch")
    config.write_text(config.read_text().replace(f"torch: {version}", "torch: 1.0.0"))
    for split, change in (
        ("train", lambda text: text.replace('": "', '": "Now ')),
        ("train", lambda text: text[: text.rindex("\n", 0, -1) + 1]),
        ("validation", lambda text: text.replace('": "', '": "Now ')),
    ):
        whole = files[split].read_text()
        files[split].write_text(change(whole))
        refused = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
        assert refused.code == 2, refused.output
        assert f"data.{split} has other documents than when the run started" in refused.output
        assert "Traceback" not in refused.output
        files[split].write_text(whole)
    assert not leftover.exists()
    resumed = commands.run("train", f"resume={run}", cwd=tmp_path, figures=False)
    assert resumed.code == 0, resumed.output
    told = f"continues with torch {version} (began with 1.0.0); results may differ"
    assert told in resumed.output
    assert status(run)["state"] == "done"
