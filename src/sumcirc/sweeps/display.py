"""Shows the progress of a sweep: a live table in a terminal, otherwise a line per event."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from rich.console import Group
from rich.live import Live
from rich.text import Text

from sumcirc.reporting.fitted_tables import fitted
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import print_tables
from sumcirc.runtime.notices import WARNING
from sumcirc.runtime.quoting import line
from sumcirc.runtime.terminal import console, guard, say
from sumcirc.sweeps.child import Job
from sumcirc.sweeps.run_states import RunState, counts

REDRAW = 1.0  # seconds between readings of the running jobs' directories
REPORT = 60.0  # seconds between plain lines about running jobs

STYLES = {
    "done": "green",
    "failed": "red",
    "cut off": "yellow",
    "running": "cyan",
    "damaged": "red",
}


class Display:
    """Shows the progress of a sweep's jobs while they run.

    Args:
        total: number of jobs that will run.
    """

    def __init__(self, total: int) -> None:
        self.console = console()
        self.total = total
        self.finished: list[RunState] = []
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._last = time.monotonic()

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
            guard()  # the table replaces standard output
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, job: Job) -> None:
        """Print that a job was started, unless the output is a terminal."""
        if not self.console.is_terminal:
            self._line(f"{job.name} runs ({job.folder}/output.txt)")

    def ended(self, state: RunState) -> None:
        """Print the state of a run whose job has ended."""
        self.finished.append(state)
        self._line(f"{len(self.finished)}/{self.total} {state.name} {_sentence(state)}")

    def stopping(self, number: int) -> None:
        """Print that the sweep is ending its running jobs, of which there are `number`."""
        self._line(f"ending {number} running; Ctrl-C again kills")

    def show(self, jobs: Sequence[Job]) -> None:
        """Show the states of the running jobs, unless they were shown only a short time ago."""
        now = time.monotonic()
        if now - self._last < (REDRAW if self.console.is_terminal else REPORT) or not jobs:
            return
        self._last = now
        states = [_begun(job.state()) for job in jobs]
        if self.console.is_terminal:
            waiting = self.total - len(self.finished) - len(jobs)
            title = counts([*self.finished, *states]) + (f", {waiting} waiting" if waiting else "")
            table = status_table(states, title)
            drawn = fitted(table, self.console.width, STYLES)
            self._live.update(Group(Text(title), *drawn), refresh=True)
        else:
            shown = ", ".join(f"{state.name} {_steps(state)}".strip() for state in states)
            self._line(f"{len(self.finished)}/{self.total} ended; running: {shown}")

    def _line(self, text: str) -> None:
        self.console.print(line(text), soft_wrap=True)


def _begun(state: RunState) -> RunState:
    """Return the state, as `running` if the job's process has not yet made the run directory."""
    return state if state.started else replace(state, state="running", reason="starting")


def status_table(states: Sequence[RunState], title: str) -> Table:
    """Return a table with one row per run: name, state, step, ROUGE scores, time and reason.

    Args:
        states: states of the runs.
        title: title of the table.
    """
    headings = ["run", "state", "step", "ROUGE-1", "ROUGE-2", "ROUGE-L", "time", "reason"]
    rows = []
    for state in states:
        scores = [state.scores.get(name) for name in ("rouge1", "rouge2", "rougeL")]
        resumed = f"resumed {state.resumed} times" if state.resumed > 1 else ""
        resumed = "resumed once" if state.resumed == 1 else resumed
        rows.append(
            [
                state.name,
                state.state,
                _steps(state),
                *("" if score is None else f"{score:.1f}" for score in scores),
                _time(state.seconds),
                "; ".join(filter(None, [state.reason, resumed])),
            ]
        )
    return Table(title, headings, rows, frozenset({"state", "reason"}))


def print_status(states: Sequence[RunState], title: str) -> None:
    """Print the table of states, and warnings about runs of earlier versions.

    Args:
        states: states of the runs.
        title: title of the table, to which the number of runs in each state is added.
    """
    print_tables(status_table(states, f"{title}: {counts(states)}"), styles=STYLES)
    for text, count in Counter(state.earlier for state in states if state.earlier).items():
        say(f"{WARNING}{count} of {len(states)} runs: {text}")


def status_json(states: Sequence[RunState]) -> str:
    """Return the states of runs as a JSON list with one object for each run."""
    return json.dumps([asdict(state) for state in states], indent=2)


def _sentence(state: RunState) -> str:
    parts = [state.state]
    if state.seconds:
        parts.append(f"after {_time(state.seconds)}")
    if state.scores:
        parts.append("ROUGE-1/2/L " + "/".join(f"{score:.1f}" for score in state.scores.values()))
    return ", ".join(parts) + (f": {state.reason}" if state.reason else "")


def _steps(state: RunState) -> str:
    if state.step is None:
        return ""
    return f"{state.step}/{state.steps}" if state.steps else str(state.step)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"
