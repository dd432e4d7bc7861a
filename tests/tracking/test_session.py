"""A run ends in a known state: done, failed with a reason, pending after a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sumcirc.errors import Stopped, UserError
from sumcirc.schema import EvaluateConfig, TrainConfig
from sumcirc.tracking import session
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import Clock, running, stored_config
from tests.support.processes import Processes


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "sweep" / "run-2,3", "train", {"seed": 1})


def test_done(run: RunDirectory) -> None:
    with running(run):
        status = run.status()
        assert (status["state"], status["process"]) == ("running", os.getpid())
    assert (run.status()["state"], run.status()["reason"]) == ("done", None)


def test_failed_with_reason_and_traceback(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), running(run):
        1 / 0  # noqa: B018
    status = run.status()
    assert (status["state"], status["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "1 / 0" in (run.path / status["traceback"]).read_text()


def test_failed_by_a_mistake_of_the_user(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="is empty"), running(run):
        raise UserError("data.train=x: is empty")
    assert (run.status()["state"], run.status()["reason"]) == ("failed", "data.train=x: is empty")
    assert "traceback" not in run.status()


def test_an_exit_that_nobody_asked_for_is_a_failure(run: RunDirectory) -> None:
    with pytest.raises(SystemExit), running(run):
        sys.exit(3)
    assert (run.status()["state"], run.status()["reason"]) == ("failed", "SystemExit: 3")


def test_interrupted(run: RunDirectory) -> None:
    with pytest.raises(Stopped) as stopped, running(run):
        raise KeyboardInterrupt
    status = run.status()
    assert status["state"] == "pending"
    assert status["reason"] == f"stopped by Ctrl-C; continue with `sumcirc train resume={run.path}`"
    assert (str(stopped.value), stopped.value.code) == (status["reason"], 130)


def test_interrupted_within_lightning(run: RunDirectory) -> None:
    """`fit` turns Ctrl-C into a plain exit."""

    def fit() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(Stopped) as stopped, running(run):
        fit()
    assert (run.status()["state"], stopped.value.code) == ("pending", 130)


def test_terminated_within_lightning(run: RunDirectory) -> None:
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    with pytest.raises(Stopped) as stopped, running(run):
        raise SIGTERMException
    assert (run.status()["state"], stopped.value.code) == ("pending", 143)


def test_terminated(run: RunDirectory) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    closed = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            closed.append(True)

    with pytest.raises(Stopped) as stopped, running(run):
        work()
    assert closed
    assert (run.status()["state"], stopped.value.code) == ("pending", 143)
    assert "stopped by SIGTERM" in run.status()["reason"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_fails_after_a_signal_fails_because_of_it(run: RunDirectory) -> None:
    """A scheduler signals all processes: W&B's may be gone before the run closes it."""

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            raise ConnectionResetError("Connection lost")

    with pytest.raises(Stopped) as stopped, running(run):
        work()
    assert (run.status()["state"], stopped.value.code) == ("pending", 143)


def test_handlers_of_others_stay(run: RunDirectory) -> None:
    """A scheduler's plugin has its own plans for SIGTERM."""

    def own(number: int, frame: Any) -> None: ...

    signal.signal(signal.SIGTERM, own)
    try:
        with running(run):
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_runs_outside_of_the_main_thread(run: RunDirectory) -> None:
    def body() -> None:
        with running(run):
            pass

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert run.status()["state"] == "done"


WAITING = """
import signal, sys
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import running
from sumcirc.errors import Stopped
run = RunDirectory(sys.argv[1])
try:
    with running(run):
        print("now", flush=True)
        {body}
except Stopped as stopped:
    sys.exit(stopped.code)
"""


def start(
    processes: Processes, run: RunDirectory, body: str = "signal.pause()"
) -> subprocess.Popen[str]:
    process = processes.start(
        [sys.executable, "-c", WAITING.format(body=body), str(run.path)],
        cwd=run.path,
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_signals_to_a_process(
    processes: Processes, run: RunDirectory, number: signal.Signals, code: int
) -> None:
    process = start(processes, run)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    assert run.status()["state"] == "pending"


def test_one_process_at_a_time_and_a_killed_one_leaves_no_lock(
    processes: Processes, run: RunDirectory
) -> None:
    process = start(processes, run)
    before = run.status_file.read_bytes()
    with pytest.raises(UserError, match=f"another process \\({process.pid} on "), running(run):
        pass
    assert run.status_file.read_bytes() == before
    process.kill()
    process.communicate()
    status = run.status()
    assert (status["state"], status["process"]) == ("running", process.pid)
    with running(run):
        assert run.status()["wandb_id"] == status["wandb_id"], "the same W&B run goes on"
    assert run.status()["state"] == "done"


def test_the_status_can_be_read_at_any_moment(processes: Processes, run: RunDirectory) -> None:
    """A reader finds a whole file while it is replaced again and again, and after a kill."""
    body = "[run.set_status('running', count=i, filler='x' * 5000) for i in range(10**9)]"
    process = start(processes, run, body)
    counts = set()
    while len(counts) < 300:  # as many replacements, however long they take
        status = json.loads(run.status_file.read_text())
        assert status["state"] == "running"
        assert len(status.get("filler", "")) == (5000 if "count" in status else 0)
        counts.add(status.get("count"))
    process.kill()
    process.communicate()
    assert run.status()["state"] == "running"


# ---- the stored configuration


def test_a_run_of_another_version(run: RunDirectory) -> None:
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("sumcirc: 0.1.0", "sumcirc: 0.0.9"))
    with pytest.raises(UserError, match=r"sumcirc 0\.0\.9, this is .*pip install sumcirc==0\.0\.9"):
        stored_config(run, TrainConfig)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"sead": 1}, "sead"),
        ({"seed": "one"}, "seed"),
        ({"trainer": {"max_stps": 1}}, "trainer.max_stps"),
    ],
)
def test_a_stored_configuration_that_was_edited_badly(
    tmp_path: Path, config: dict[str, Any], part: str
) -> None:
    run = RunDirectory.create(tmp_path / "run", "evaluate", config)
    with pytest.raises(UserError, match=part) as refused:
        stored_config(run, EvaluateConfig)
    assert "\n" not in str(refused.value)


def test_the_clock_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([10.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    clock = Clock({"train": 5.0})
    with clock.phase("train"):
        pass
    with pytest.raises(ZeroDivisionError), clock.phase("evaluate"):
        1 / 0  # noqa: B018
    assert clock.seconds == {"train": 7.0, "evaluate": 1.0}
