"""A launch: what it may do in a sweep's folder, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sumcirc.errors import UserError
from sumcirc.sweeps.launching import Sweep, find, remedy
from sumcirc.sweeps.run_states import RunState
from sumcirc.sweeps.sweep_record import FILE
from sumcirc.tracking.run_directory import RunDirectory
from tests.sweeps.test_sweep_record import config, record


def test_a_launch_leaves_its_record_and_names_what_is_due(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs/s"
    first = Sweep(folder, record(config(1), config(2)))
    with first.begun():
        assert (folder / FILE).exists()
        first.announce(repeats=False)
    RunDirectory.create(folder / "all-s1", "train", config(1)).set_status("failed", reason="no")
    RunDirectory.create(folder / "all-s2", "train", config(2)).set_status("done")
    again = Sweep(folder, record(config(1), config(2), config(3)))
    again.announce(repeats=False)
    again.announce(repeats=True)
    assert capsys.readouterr().out.splitlines() == [
        "sweep s: 2 runs",
        "sweep s: 3 runs, 1 done, 1 failed, 1 pending; failed runs stay as they are,"
        " sweep.retry=failed lets them go on",
        "sweep s: 3 runs, 1 done, 1 failed, 1 pending",
    ]
    assert [state.name for state in again.conclude()] == ["all-s1", "all-s3"]


def test_twins_are_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = config(1)
    twin["run"] = {**twin["run"], "name": "other"}
    Sweep(tmp_path / "s", record(config(1), twin)).announce(repeats=False)
    assert "note: all-s1 and other have the same configuration\n" in capsys.readouterr().out


def test_one_launch_at_a_time(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "s", record(config(1)))
    with sweep.begun(), pytest.raises(UserError, match="another process is running this sweep"):
        sweep.begun().__enter__()
    with sweep.begun():
        pass


def test_runs_that_no_sweep_started_are_left_alone(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "s/all-s1", "train", config(1))
    with pytest.raises(UserError, match="holds runs that no sweep started"):
        Sweep(tmp_path / "s", record(config(1)))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't be written \(Not a directory\)"):
        Sweep(tmp_path / "file/s", record(config(1))).begun().__enter__()


def test_the_remedy_is_one_line() -> None:
    failed = RunState("a", "runs/s/a", "failed", reason="no")
    waiting = RunState("b", "runs/s/b", "pending", reason="not started")
    elsewhere = RunState("c", "runs/s/c", "running")
    assert remedy([failed, waiting], 3, "s") == (
        "2 of 3 runs are not done: a (failed), b (pending); the same command with sweep.name=s"
        " sweep.retry=failed goes on with them"
    )
    assert "sweep.retry" not in remedy([waiting], 3, "s")
    assert "other processes run them" in remedy([elsewhere], 3, "s")


def test_the_newest_sweep_is_meant_by_default(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("new", "old")):
        RunDirectory.create(tmp_path / name / "a", "train", {})
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert find("", tmp_path).name == "new"
    assert find("old", tmp_path) == tmp_path / "old"
