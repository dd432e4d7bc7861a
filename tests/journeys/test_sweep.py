"""A sweep of real training, killed in the middle and started again, ends as if it had not been."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from sumcirc.storage.writing import read_last_step
from tests.support.logged import inspect
from tests.support.processes import Processes, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMMAND = [
    *("train", "-m", "adaptation=lora", "adaptation.rank=4", "adaptation.dropout=0.2"),
    *("seed=1,2,3", "sweep.name=s", "sweep.jobs=2"),
]


def runs(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.glob("runs/s/*/config.yaml"))


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def is_in_the_middle(started: list[Path]) -> bool:
    """Whether two runs train beyond step 30."""
    steps = [read_last_step(run / "metrics.csv") or 0 for run in started]
    return len(steps) == 2 and min(steps) > 30


def contents(run: Path) -> tuple[bytes, list[str]]:
    """Weights, and metrics without timings."""
    lines = (run / "metrics.csv").read_text().splitlines()
    weights = (run / "adapter/adapter_model.safetensors").read_bytes()
    return weights, [line for line in lines if ",time/" not in line]


def test_killed_in_the_middle_and_started_again(
    processes: Processes, small_run: list[str], tmp_path: Path
) -> None:
    overrides = [
        *(item for item in small_run if not item.startswith(("trainer.max_steps", "logger="))),
        *("trainer.max_steps=150", "trainer.checkpoint_every=20", "logger=wandb", "callbacks=none"),
    ]
    code, said = processes.run(*COMMAND, *overrides, cwd=tmp_path / "whole")
    assert code == 0, said

    cut = processes.sumcirc(*COMMAND, *overrides, cwd=tmp_path / "cut")
    wait_until(lambda: is_in_the_middle(runs(tmp_path / "cut")), cut)
    first, second = runs(tmp_path / "cut")
    os.kill(status(first)["process"], signal.SIGKILL)
    wait_until(lambda: status(first)["state"] != "running", cut)
    cut.send_signal(signal.SIGINT)
    said, _ = cut.communicate()
    assert cut.returncode == 130, said
    assert status(first)["state"] == "failed"
    assert status(first)["reason"].startswith("killed by signal 9 (SIGKILL)")
    assert status(second)["state"] == "pending"
    assert "the same command with sweep.name=s goes on" in said.splitlines()[-1]

    code, said = processes.run(*COMMAND, *overrides, "sweep.retry=failed", cwd=tmp_path / "cut")
    assert code == 0, said
    names = [run.name for run in runs(tmp_path / "whole")]
    assert [run.name for run in runs(tmp_path / "cut")] == names
    assert len(names) == 3
    for name in names:
        run = tmp_path / "cut/runs/s" / name
        assert contents(run) == contents(tmp_path / "whole/runs/s" / name)
        assert status(run)["state"] == "done"
    assert [status(first)["resumed"], status(second)["resumed"]] == [1, 1]
    check_wandb(first)


def check_wandb(run: Path) -> None:
    """The part before the kill and the one after it are one W&B run, finished."""
    found = {}
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        records = [json.loads(line) for line in inspect(file).splitlines()]
        found[file] = {record["type"]: record for record in records}
    cut, whole = found.values()
    assert "exit" not in cut
    assert whole["exit"]["exit"].get("exit_code", 0) == 0
    ids = {records["run"]["run"]["run_id"] for records in found.values()}
    groups = {records["run"]["run"]["run_group"] for records in found.values()}
    assert ids == {status(run)["wandb_id"]}
    assert groups == {"s"}
    assert '"sweep_axes"' in json.dumps(whole)
