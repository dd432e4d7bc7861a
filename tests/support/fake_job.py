"""A job of a second that ends as its word says: `python fake_job.py train FOLDER FAULT`.

It keeps a run directory as real jobs do; `resume=FOLDER` ends well.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

from sumcirc.errors import Stopped, UserError
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import running


def steps(run: RunDirectory, number: int, pause: float = 0.02) -> None:
    """Log so many steps after those that are there."""
    first = len(run.metrics.path.read_text().splitlines()) if run.metrics.path.exists() else 1
    for step in range(first, number + 1):
        run.metrics.append(step, {"train/loss": 1.0 / step})
        time.sleep(pause)


def wait() -> None:
    """For a signal that ends the process."""
    while True:
        signal.pause()


def allocate() -> None:
    """More memory than this process may have."""
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    bytearray(8 * 2**30)


FAULTS = {
    "none": lambda: None,
    "raise": lambda: 1 / 0,
    "mistake": lambda: (_ for _ in ()).throw(UserError("data.train=x: is empty")),
    "exit": lambda: sys.exit(3),
    "leave": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "memory": allocate,
    "hang-up": lambda: os.kill(os.getppid(), signal.SIGHUP),  # its sweep's terminal is gone
    "wait": wait,
    "deaf": wait,
}


def main() -> None:
    """Run, or go on."""
    words = sys.argv[1:]
    print(f"GPUs {os.environ.get('CUDA_VISIBLE_DEVICES')}, process {os.getpid()}", flush=True)
    if words[1].startswith("resume="):
        run, fault = RunDirectory(words[1].removeprefix("resume=")), "none"
        run.set_status("running", resumed=run.status().get("resumed", 0) + 1)
    else:
        folder, fault = Path(words[1]), words[2]
        if fault == "import":
            import a_module_that_is_missing  # type: ignore[import-not-found]  # noqa: F401
        run = RunDirectory.create(folder, words[0], {"seed": 1})
    try:
        with running(run):
            run.set_status("running", steps=6)
            if fault == "deaf":  # before its steps tell that it is there
                signal.signal(signal.SIGTERM, lambda *_: (run.path / "heard").touch())
            steps(run, 3)
            FAULTS[fault]()
            steps(run, 6)
    except Stopped as stopped:
        sys.exit(stopped.code)


if __name__ == "__main__":
    main()
