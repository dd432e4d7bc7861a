"""What a sweep shows of its jobs on a terminal and in a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sumcirc.sweeps import display
from sumcirc.sweeps.child import Job
from sumcirc.sweeps.display import Display
from sumcirc.sweeps.run_states import RunState
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import running


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"), (7300, "2 h 01 min")],
)
def test_times(seconds: float | None, text: str) -> None:
    assert display._time(seconds) == text


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(2) as shown:
        shown.started(Job(Path("runs/s/a"), []))
        shown.ended(RunState("a", "runs/s/a", "done", scores={"rouge1": 1.25}, seconds=61))
        shown.ended(RunState("b", "runs/s/b", "failed", reason="no [bold] way"))
    assert capsys.readouterr().out.splitlines() == [
        "a runs (runs/s/a/output.txt)",
        "1/2 a done, after 1 min 01 s, ROUGE-1/2/L 1.2",
        "2/2 b failed: no [bold] way",
    ]


def test_a_terminal_shows_running_jobs_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100)
    monkeypatch.setattr(display, "console", lambda: console)
    monkeypatch.setattr(display, "REDRAW", 0.0)
    run = RunDirectory.create(tmp_path / "a", "train", {})
    with Display(3) as shown, running(run):
        run.set_status("running", steps=9)
        run.metrics.append(4, {"train/loss": 1.0})
        shown.started(Job(run.path, []))
        shown.show([Job(run.path, []), Job(tmp_path / "b", [])])
    text = terminal.getvalue()
    assert "2 running, 1 waiting" in text
    assert "starting" in text
    assert "4/9" in text
