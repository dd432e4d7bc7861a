"""What is printed while training, where output is no terminal."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich.progress import Progress

from sumcirc.runtime.terminal import console
from sumcirc.training import progress_bars as progress
from sumcirc.training.progress_bars import ProgressLines, counted_in_training, progress_callback


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock to set."""
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: found.now)
    return found


def trainer(batches: int = 20, accumulate: int = 2, first: int = 0, main: bool = True) -> Any:
    total = SimpleNamespace(completed=first)
    loop = SimpleNamespace(batch_progress=SimpleNamespace(total=total))
    return SimpleNamespace(
        num_training_batches=batches,
        accumulate_grad_batches=accumulate,
        is_global_zero=main,
        fit_loop=SimpleNamespace(epoch_loop=loop),
    )


def run(clock: SimpleNamespace, given: Any, batches: range, seconds: float) -> None:
    lines: Any = ProgressLines()
    lines.on_train_start(given, None)
    for index in batches:
        clock.now += seconds
        # Lightning has divided it by the number of accumulated batches
        lines.on_train_batch_end(given, None, {"loss": torch.tensor(1.25)}, None, index)


def test_a_line_every_few_seconds_and_at_the_end(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, trainer(), range(20), seconds=1)
    assert capsys.readouterr().out.splitlines() == [
        "step 2/10, loss 2.500, 0:00:15 left",
        "step 5/10, loss 2.500, 0:00:10 left",
        "step 7/10, loss 2.500, 0:00:05 left",
        "step 10/10, loss 2.500, 0:00:00 left",
    ]


def test_more_than_a_day_is_left(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, trainer(batches=1001, accumulate=1), range(1), seconds=360)
    assert capsys.readouterr().out == "step 1/1001, loss 1.250, 4 days, 4:00:00 left\n"


def test_a_resumed_run_judges_by_its_own_batches(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, trainer(batches=20, accumulate=1, first=10), range(10, 12), seconds=6)
    assert capsys.readouterr().out.splitlines() == [
        "step 11/20, loss 1.250, 0:00:54 left",
        "step 12/20, loss 1.250, 0:00:48 left",
    ]


def test_other_processes_are_silent(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, trainer(main=False), range(20), seconds=9)
    assert capsys.readouterr().out == ""


def test_bar_on_a_terminal_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(progress_callback(), RichProgressBar)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert isinstance(progress_callback(), ProgressLines)


# ---- work that interrupts training


def showing(bar: Any = None, *callbacks: Any) -> Any:
    return SimpleNamespace(progress_bar_callback=bar, callbacks=callbacks)


def test_work_between_steps_has_lines_if_training_has(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (showing(), showing(None, ProgressLines())):
        with counted_in_training(given, "judge", 3) as advance:
            advance(3)
    assert capsys.readouterr().out == "judge: 3/3, 0.0 s\n"


def test_work_between_steps_has_a_bar_below_that_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second display beside a running one would overwrite it."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(out, "isatty", lambda: True)
    bar = RichProgressBar()
    with Progress(console=console()) as shown:
        bar.progress = shown  # type: ignore[assignment]
        training = shown.add_task("Epoch 0", total=2)
        with counted_in_training(showing(bar), "judge [red]", 4) as advance:
            advance(1)
            (_, work) = shown.tasks
            assert (work.completed, work.total, work.visible) == (1, 4, True)
            shown.refresh()
        assert shown.tasks[1].visible is False
        assert shown.tasks[training].description == "Epoch 0"
    assert "judge [red]" in out.getvalue()
    # the display of training has ended
    with counted_in_training(showing(bar), "judge", 4) as advance:
        advance(4)
    assert "4/4" in out.getvalue()
