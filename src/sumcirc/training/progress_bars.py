"""Training progress: a rich bar on a terminal, plain lines where output is a file or a pipe.

Work that interrupts training, such as finding a circuit, shows its progress beside it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.markup import escape

from sumcirc.runtime.progress import counted
from sumcirc.runtime.terminal import raw_output, say

INTERVAL = 5.0  # seconds between plain lines


def progress_callback() -> pl.Callback:
    """Return a callback that shows a bar on a terminal, or prints lines to a file or pipe."""
    if not sys.stdout.isatty():
        return ProgressLines()
    return RichProgressBar(console_kwargs={"file": raw_output()})


@contextmanager
def counted_in_training(
    trainer: pl.Trainer, label: str, total: int
) -> Iterator[Callable[[int], None]]:
    """Show the progress of work that interrupts training, if training shows its own progress.

    Yields a function, which is to be called with the number of items finished since its last call.

    Args:
        trainer: the trainer. If it shows a rich bar, the work gets a bar below it; a second display
            would overwrite the first.
        label: description of the work.
        total: number of items.
    """
    bar = trainer.progress_bar_callback
    shown = getattr(bar, "progress", None)
    lines = any(isinstance(one, ProgressLines) for one in trainer.callbacks)  # type: ignore[attr-defined]
    if shown is not None and shown.live.is_started:
        task = shown.add_task(escape(label), total=total)
        try:
            yield lambda done: shown.advance(task, done)
        finally:
            # Lightning finds its own tasks by their position, so none is removed
            shown.update(task, visible=False)
    elif bar is not None or lines:
        with counted(label, total) as advance:
            yield advance
    else:
        yield lambda done: None


class ProgressLines(pl.Callback):
    """Callback that prints `step 120/500, loss 2.310, 0:00:45 left` every few seconds."""

    def __init__(self) -> None:
        self._began = (0.0, 0)
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock from which the remaining time is estimated.

        Args:
            trainer: gives the number of batches completed so far.
            module: ignored.
        """
        self._began = (time.monotonic(), trainer.fit_loop.epoch_loop.batch_progress.total.completed)
        self._last = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_index: int,
    ) -> None:
        """Print a line if the last one is at least 5 seconds old, or if training is complete.

        Args:
            trainer: gives the total number of batches.
            module, batch: ignored.
            outputs: the loss of the batch.
            batch_index: index of the batch.
        """
        now = time.monotonic()
        total = int(trainer.num_training_batches)
        if not trainer.is_global_zero or (now - self._last < INTERVAL and batch_index + 1 < total):
            return
        self._last = now
        began, first = self._began
        per_batch = (now - began) / (batch_index + 1 - first)
        left = timedelta(seconds=round(per_batch * (total - batch_index - 1)))
        accumulate = trainer.accumulate_grad_batches
        loss = float(outputs["loss"]) * accumulate
        step, steps = (batch_index + 1) // accumulate, total // accumulate
        say(f"step {step}/{steps}, loss {loss:.3f}, {left} left")
