"""Where runs stand, read from their directories."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import UserError
from sumcirc.sweeps import run_states as states
from sumcirc.sweeps.run_states import CUT_OFF, NOT_STARTED, counts, read_run, read_sweep
from sumcirc.tracking.run_directory import SILENCE, RunDirectory
from sumcirc.tracking.session import running


def make(folder: Path, state: str, **fields: Any) -> RunDirectory:
    run = RunDirectory.create(folder, "train", {"seed": 1})
    run.set_status(state, **fields)
    return run


def test_a_run_that_was_not_started(tmp_path: Path) -> None:
    state = read_run(tmp_path / "x", {"seed": 3})
    assert (state.state, state.reason, state.started) == ("pending", NOT_STARTED, False)
    assert state.axes == {"seed": 3}


def test_a_running_run_shows_its_step_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_since", lambda records: 12.0)
    run = RunDirectory.create(tmp_path / "a", "train", {})
    with running(run):
        run.set_status("running", steps=20)
        assert read_run(run.path).step is None
        run.metrics.append(5, {"train/loss": 1.0})
        run.metrics.append(7, {"train/loss": 1.0, "other": 2.0})
        with open(run.metrics.path, "a") as file:
            file.write("8,torn")
        state = read_run(run.path)
    assert (state.state, state.step, state.steps) == ("running", 7, 20)
    assert state.seconds == 12.0
    assert read_run(run.path).state == "done"


def test_a_run_whose_process_is_gone_is_cut_off(tmp_path: Path) -> None:
    run = make(tmp_path / "a", "running")
    state = read_run(run.path)
    assert state.state == CUT_OFF
    assert f"({os.getpid()}) is gone" in str(state.reason)


def test_a_run_of_another_machine_is_believed_while_it_writes(tmp_path: Path) -> None:
    run = make(tmp_path / "a", "running")
    status = json.loads(run.status_file.read_text())
    other = f"not-{socket.gethostname()}"
    run.status_file.write_text(json.dumps({**status, "host": other}))
    state = read_run(run.path)
    assert (state.state, state.reason) == ("running", f"on {other}")
    long_ago = time.time() - SILENCE - 1
    os.utime(run.status_file, (long_ago, long_ago))
    assert read_run(run.path).state == CUT_OFF
    run.metrics.append(1, {"train/loss": 1.0})
    assert read_run(run.path).state == "running"


def test_looking_does_not_disturb_a_run(tmp_path: Path) -> None:
    """A lock is taken to see whether it is held: whoever starts meanwhile waits an instant."""
    run = make(tmp_path / "a", "running")
    for _ in range(20):
        read_run(run.path)
        with running(run):
            assert read_run(run.path).state == "running"
        assert read_run(run.path).state == "done"


def test_scores_of_a_run_that_is_done(tmp_path: Path) -> None:
    run = make(tmp_path / "a", "done", seconds=12.5)
    interval = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 4}
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "length")
    summary = {
        "items": "x",
        "trainable_parameters": 3,
        "steps": 2,
        "systems": {"trained": dict.fromkeys(names, interval)},
    }
    run.summary_file.write_text(json.dumps(summary))
    state = read_run(run.path)
    assert state.scores == {"rouge1": 25.0, "rouge2": 25.0, "rougeL": 25.0}
    assert state.seconds == 12.5


def test_a_sweep_lists_what_lies_there(tmp_path: Path) -> None:
    make(tmp_path / "b", "done")
    make(tmp_path / "a", "failed", reason="no")
    states = read_sweep(tmp_path)
    assert [state.name for state in states] == ["a", "b"]
    assert counts(states) == "1 done, 1 failed"
    assert [state.name for state in read_sweep(tmp_path / "a")] == ["a"]


@pytest.mark.parametrize(("name", "part"), [("", "holds no runs"), ("x", "no such directory")])
def test_where_no_run_is(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        read_sweep(tmp_path / name)
