"""A failure of W&B does not end a run, and is reported once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import Stopped
from sumcirc.tracking.wandb_failures import Lasting


class Values:
    """`config` or `summary` of a run."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def update(self, values: dict[str, Any]) -> None:
        self.held |= values


class Run:
    """As W&B's, whose process dies at a call."""

    id = "abcd1234"

    def __init__(self, error: BaseException | None = None) -> None:
        self.config, self.summary = Values(), Values()
        self.logged: list[Any] = []
        self.error = error

    def log(self, values: Any) -> int:
        if self.error is not None:
            raise self.error
        self.logged.append(values)
        return len(self.logged)


def test_a_run_that_works_is_itself() -> None:
    run = Run()
    lasting = Lasting(run)
    assert lasting.id == "abcd1234"
    assert lasting.log({"a": 1}) == 1
    lasting.config.update({"b": 2})
    lasting.summary.update({"c": 3})
    assert (run.logged, run.config.held, run.summary.held) == ([{"a": 1}], {"b": 2}, {"c": 3})


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError("Connection lost"), BrokenPipeError(), RuntimeError("two\nlines")],
)
def test_one_that_fails_is_heard_of_once(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(error)
    lasting = Lasting(run)
    for _ in range(3):
        assert lasting.log({"a": 1}) is None
    lasting.summary.update({"c": 3})
    said = capsys.readouterr().err
    assert said.startswith(f"logger=wandb: W&B has stopped ({type(error).__name__}: ")
    assert said.count("\n") == 1
    assert run.summary.held == {}


def test_a_signal_passes() -> None:
    with pytest.raises(Stopped):
        Lasting(Run(Stopped("stopped by SIGTERM", 143))).log({})


def test_its_process_dies_and_the_job_goes_on(tmp_path: Path) -> None:
    script = """
import os, signal
from pathlib import Path
from sumcirc.schema import LoggerConfig
from sumcirc.tracking.wandb import log_settings, wandb_run

def children():
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}

with wandb_run(LoggerConfig(), Path("."), name="x", group="g", job_type="train", tags=[],
               settings={}, run_id="abcd1234") as logger:
    logger.log_metrics({"train/loss": 7.0}, 3)
    (process,) = [one for one in children()
                  if b"wandb-core" in Path(f"/proc/{one}/cmdline").read_bytes()]
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    for step in range(4, 200):
        logger.log_metrics({"train/loss": 6.0}, step)
    log_settings(logger, {"a": 1})
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert done.stderr.startswith("logger=wandb: W&B has stopped (")
    assert done.stderr.count("\n") == 1
