"""What becomes of a sweep when its jobs fail in every way, with real processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sumcirc.sweeps import child
from sumcirc.sweeps.child import Job
from sumcirc.sweeps.pool import run_jobs
from sumcirc.sweeps.run_states import CUT_OFF, read_run
from tests.support.processes import ROOT, Processes, is_gone, wait_until

FAKE = Path(__file__).resolve().parents[1] / "support/fake_job.py"
PROGRAM = (sys.executable, str(FAKE))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(child, "PROGRAM", PROGRAM)


def jobs(
    folder: Path, faults: Sequence[str], verb: str = "train", repeat: bool = False
) -> list[Job]:
    found = []
    for number, fault in enumerate(faults):
        place = folder / f"{number}-{fault}"
        found.append(Job(place, [verb, str(place), fault], repeat))
    return found


def outcome(job: Job) -> tuple[str, str | None]:
    state = job.state()
    return state.state, state.reason


# fault, state, what the reason says, what lies in the run directory
MATRIX = [
    ("raise", "failed", "ZeroDivisionError: division by zero", "traceback.txt"),
    ("mistake", "failed", "data.train=x: is empty", None),
    ("exit", "failed", "SystemExit: 3", "traceback.txt"),
    ("memory", "failed", "MemoryError", "traceback.txt"),
    (
        "kill",
        "failed",
        "killed by signal 9 (SIGKILL); this happens when",
        "output.txt",
    ),
    ("segfault", "failed", "killed by signal 11 (SIGSEGV)", "output.txt"),
    ("leave", "failed", "its process left with exit code 0", "output.txt"),
    (
        "import",
        "failed",
        "before the run began: ModuleNotFoundError: No",
        "output.txt",
    ),
]


def test_no_failure_touches_another_job_and_each_leaves_its_reason(tmp_path: Path) -> None:
    faults = [fault for fault, *_ in MATRIX]
    ordered = jobs(tmp_path, ["none", *faults, "none"])
    run_jobs(ordered, [None, None])
    assert [outcome(ordered[0]), outcome(ordered[-1])] == [("done", None)] * 2
    for job, (fault, state, reason, traceback) in zip(ordered[1:-1], MATRIX, strict=True):
        found = json.loads((job.folder / "status.json").read_text())
        assert found["state"] == state, fault
        assert reason in found["reason"], fault
        assert found.get("traceback") == traceback, fault
        assert traceback is None or (job.folder / traceback).stat().st_size, fault
        assert found["seconds"] > 0, fault
        assert (job.folder / "output.txt").exists()


def test_failed_runs_are_repeated_on_request_alone(tmp_path: Path) -> None:
    first = jobs(tmp_path, ["none", "raise", "kill", "import"])
    run_jobs(first, [None])
    before = {job.name: (job.folder / "status.json").read_bytes() for job in first}
    run_jobs(first, [None])
    assert before == {job.name: (job.folder / "status.json").read_bytes() for job in first}

    run_jobs(jobs(tmp_path, ["none", "raise", "kill", "import"], repeat=True), [None])
    states = [job.state() for job in first]
    assert [state.state for state in states] == ["done", "done", "done", "failed"]
    # what never began begins, what did goes on
    assert [state.resumed for state in states] == [0, 1, 1, 0]
    assert [state.step for state in states[:3]] == [6, 6, 6]
    for job in first[:3]:
        assert json.loads((job.folder / "status.json").read_text()).get("traceback") is None


def test_a_verb_without_checkpoints_begins_again(tmp_path: Path) -> None:
    (job,) = jobs(tmp_path, ["kill"], verb="evaluate")
    run_jobs([job], [None])
    assert outcome(job)[0] == "failed"
    again = Job(job.folder, ["evaluate", str(job.folder), "none"], repeat=True)
    run_jobs([again], [None])
    assert (again.state().state, again.state().resumed) == ("done", 0)


def test_places_say_how_many_run_and_on_which_gpus(tmp_path: Path) -> None:
    ordered = jobs(tmp_path, ["none"] * 5)
    run_jobs(ordered, ["0", "1,2"])
    printed = [(job.folder / "output.txt").read_text() for job in ordered]
    assert {text.partition(", process")[0] for text in printed} == {"GPUs 0", "GPUs 1,2"}


def test_one_at_a_time(tmp_path: Path) -> None:
    ordered = jobs(tmp_path, ["none"] * 3)
    run_jobs(ordered, [None])
    spans = []
    for job in ordered:
        status = (job.folder / "status.json").stat().st_mtime
        spans.append(((job.folder / "config.yaml").stat().st_mtime, status))
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))


SWEEP = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from sumcirc.errors import Stopped
from sumcirc.sweeps.pool import run_jobs
from sumcirc.sweeps import child
from tests.sweeps.test_pool import PROGRAM, jobs
child.PROGRAM = PROGRAM
try:
    run_jobs(jobs(Path({folder!r}), {faults!r}), [None, None], grace={grace})
except Stopped as stopped:
    print(stopped, flush=True)
    sys.exit(stopped.code)
"""


def start_sweep(
    processes: Processes, folder: Path, faults: Sequence[str], grace: float = 1e6
) -> subprocess.Popen[str]:
    """A sweep in a process of its own, once its first two jobs have logged steps."""
    script = SWEEP.format(path=sys.path, folder=str(folder), faults=list(faults), grace=grace)
    process = processes.start([sys.executable, "-c", script], cwd=ROOT, stderr=None)
    wait_until(lambda: all(job.state().step == 3 for job in jobs(folder, faults)[:2]), process)
    return process


def pid(job: Job) -> int:
    return json.loads((job.folder / "status.json").read_text())["process"]


@pytest.mark.parametrize(
    ("number", "code", "how"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_a_stopped_sweep_leaves_pending_runs_that_go_on(
    processes: Processes, tmp_path: Path, number: signal.Signals, code: int, how: str
) -> None:
    faults = ["wait", "wait", "none"]
    process = start_sweep(processes, tmp_path, faults)
    of_jobs = [pid(job) for job in jobs(tmp_path, faults)[:2]]
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == code
    assert f"stopped by {how}" in said
    states = [job.state() for job in jobs(tmp_path, faults)]
    assert [state.state for state in states] == ["pending"] * 3
    assert [state.started for state in states] == [True, True, False]
    assert all(map(is_gone, of_jobs))

    run_jobs(jobs(tmp_path, faults), [None, None])
    states = [job.state() for job in jobs(tmp_path, faults)]
    assert [(state.state, state.resumed) for state in states] == [("done", 1)] * 2 + [("done", 0)]


def test_a_job_that_heeds_no_signal_is_killed_and_pending(
    processes: Processes, tmp_path: Path
) -> None:
    process = start_sweep(processes, tmp_path, ["deaf", "deaf"], grace=0.5)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    for job in jobs(tmp_path, ["deaf", "deaf"]):
        assert outcome(job) == ("pending", "ended with its sweep")
        assert is_gone(pid(job))


def test_a_second_signal_kills_at_once(processes: Processes, tmp_path: Path) -> None:
    process = start_sweep(processes, tmp_path, ["deaf", "deaf"])
    process.send_signal(signal.SIGINT)
    heard = [job.folder / "heard" for job in jobs(tmp_path, ["deaf", "deaf"])]
    wait_until(lambda: all(file.exists() for file in heard), process)
    process.send_signal(signal.SIGINT)  # else it waits for its grace, which is days
    process.communicate()
    assert process.returncode == 130


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_jobs_end_with_a_sweep_that_is_killed(processes: Processes, tmp_path: Path) -> None:
    faults = ["wait", "wait", "none"]
    process = start_sweep(processes, tmp_path, faults)
    ordered = jobs(tmp_path, faults)
    process.kill()
    process.communicate()
    wait_until(lambda: all(is_gone(pid(job)) for job in ordered[:2]))
    assert [job.state().state for job in ordered] == ["pending"] * 3
    run_jobs(ordered, [None, None])
    assert {job.state().state for job in ordered} == {"done"}


def test_a_run_whose_process_vanished_is_cut_off_and_goes_on(
    processes: Processes, tmp_path: Path
) -> None:
    """The machine went down: nobody was left to say how it ended."""
    (job,) = jobs(tmp_path, ["wait"])
    process = processes.start([*PROGRAM, *job.words], cwd=ROOT)
    wait_until(lambda: job.state().step == 3, process)
    assert job.state().state == "running"
    assert not job.is_due()
    run_jobs([job], [None])
    assert job.state().state == "running", "another process's run is left alone"
    process.kill()
    process.wait()
    assert read_run(job.folder).state == CUT_OFF
    run_jobs([job], [None])
    assert (job.state().state, job.state().resumed) == ("done", 1)


def test_nohup_is_heeded(tmp_path: Path) -> None:
    """Who starts a sweep with SIGHUP ignored wants it to outlive the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        (job,) = jobs(tmp_path, ["hang-up"])
        run_jobs([job], [None])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert job.state().state == "done"
