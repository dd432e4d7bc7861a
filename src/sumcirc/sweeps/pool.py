"""A pool that runs the jobs of a sweep on this machine, each in its own process.

The end of one job doesn't affect the others. Ctrl-C, SIGTERM and a closed terminal end the sweep in
an orderly way: its jobs receive SIGTERM, leave their runs in the state `pending` and end. Jobs that
ignore the signal are killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sumcirc.errors import Stopped
from sumcirc.sweeps.child import Child, Job
from sumcirc.sweeps.display import Display

POLL = 0.1  # seconds
GRACE = 60.0  # seconds between SIGTERM and SIGKILL
SLURM_PATIENCE = 600.0  # seconds; longer than typical values of GraceTime and KillWait


class _Asked:
    """The stop signals received so far."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []


def run_jobs(
    jobs: Sequence[Job],
    places: Sequence[str | None] = (None,),
    grace: float = GRACE,
) -> None:
    """Run all jobs that are due (see `Job.is_due`), several at a time, and wait for them.

    The jobs write their results to their run directories.

    Args:
        jobs: the jobs of the sweep.
        places: one entry for each job that can run at the same time: the value of
            CUDA_VISIBLE_DEVICES for the job, or None to leave that variable unchanged.
        grace: seconds between SIGTERM and SIGKILL when jobs are ended.

    Raises:
        Stopped: a stop signal was received, and all jobs have been ended.
    """
    waiting = deque(job for job in jobs if job.is_due())
    running: dict[int, Child] = {}
    display = Display(len(waiting))
    asked = _Asked()
    with _listening(asked), display:
        try:
            while (waiting or running) and not asked.signals:
                for place, gpus in enumerate(places):
                    if waiting and place not in running:
                        job = waiting.popleft()
                        running[place] = Child(job, environment(gpus, len(places)))
                        display.started(job)
                for place, child in list(running.items()):
                    if child.is_gone():
                        display.ended(running.pop(place).settle())
                display.show([child.job for child in running.values()])
                time.sleep(POLL)
        finally:
            # also when something else ends this loop: no job may outlive its sweep unnoticed
            if running:
                display.stopping(len(running))
                _end(list(running.values()), asked, grace)
                for child in running.values():
                    display.ended(child.settle(stopping=True))
    if asked.signals:
        number = asked.signals[0]
        if number is signal.SIGTERM and "SLURM_JOB_ID" in os.environ:
            _await_slurm()
        how = "Ctrl-C" if number is signal.SIGINT else number.name
        raise Stopped(f"stopped by {how}", 128 + number)


def _await_slurm() -> None:
    """Wait for SLURM to end this process, since SLURM requeues only jobs that are still running."""
    time.sleep(SLURM_PATIENCE)


def _end(children: Sequence[Child], asked: _Asked, grace: float) -> None:
    """End processes with SIGTERM, and with SIGKILL after `grace` seconds or a second Ctrl-C."""
    for child in children:
        child.send(signal.SIGTERM)
    so_far, last = len(asked.signals), time.monotonic() + grace
    while not all(child.is_gone() for child in children):
        if time.monotonic() > last or len(asked.signals) > so_far:
            for child in children:
                child.send(signal.SIGKILL)
        time.sleep(POLL)


@contextmanager
def _listening(asked: _Asked) -> Iterator[None]:
    """Record stop signals in `asked` while the block runs, instead of raising an exception.

    An exception at an arbitrary moment could lose track of a job.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda came, frame: asked.signals.append(signal.Signals(came)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment(gpus: str | None, places: int) -> dict[str, str]:
    """Return the environment variables that assign GPUs and a share of the CPU threads to a job.

    Args:
        gpus: the job's entry in `SweepConfig.places`.
        places: number of jobs that run at the same time.
    """
    found = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    if places > 1 and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, _cores() // places))
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
