"""Resumable checkpoints: a killed and resumed run ends like one that was never interrupted.

The checkpoint of step s is written when everything that belongs to step s is done (its validation,
its log lines), just before batch s+1. It holds the state of every random generator and the length
of metrics.csv; resuming truncates that file to this length, so that repeated steps are logged once.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from sumcirc.errors import UserError
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.module import SummarizationModule, TrainingDiverged


class ResumableCheckpoint(pl.Callback):
    """Callback that writes checkpoints such as `checkpoints/step-000100.ckpt` at regular intervals.

    Args:
        run: the run directory.
        every: number of optimizer steps between checkpoints.
        keep: number of checkpoints to keep, of which the oldest are deleted; -1 keeps all.
    """

    def __init__(self, run: RunDirectory, every: int, keep: int) -> None:
        self.run = run
        self.every = every
        self.keep = keep
        self._saved = -1
        self._generators: dict[str, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_index: int
    ) -> None:
        """Save if the previous batch completed an optimizer step at which a checkpoint is due.

        Args:
            trainer: gives the current step.
            module: the training module to save.
            batch: ignored.
            batch_index: index of the batch, which shows whether the previous batch completed an
                optimizer step.
        """
        if self._generators is not None:
            set_generators(self._generators)
            self._generators = None
        step = trainer.global_step
        between_steps = batch_index % trainer.accumulate_grad_batches == 0
        if step and step % self.every == 0 and step != self._saved and between_steps:
            self.save(trainer, module)

    def save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write a checkpoint of the current step, then delete all but the newest `keep` of them.

        Args:
            trainer: writes the checkpoint.
            module: the SummarizationModule to save.

        Raises:
            TrainingDiverged: the loss or a weight is not finite; nothing is written or deleted.
        """
        assert isinstance(module, SummarizationModule)
        module.running_loss()
        step = trainer.global_step
        finite = all(torch.isfinite(p).all() for p in module.parameters() if p.requires_grad)
        # all processes stop or none does: the remaining ones would wait for those that stopped
        if not trainer.strategy.reduce_boolean_decision(finite, all=True):
            raise TrainingDiverged(
                f"weights are no longer finite numbers at step {step}: lower"
                " optimizer.learning_rate"
            )
        path = checkpoint_file(self.run.checkpoints, step)
        with module.averaged_weights(exactly=False):
            trainer.save_checkpoint(path, weights_only=False)
        self._saved = step
        if trainer.is_global_zero and self.keep != -1:
            for old in checkpoints(self.run.checkpoints)[: -self.keep]:
                old.unlink()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all processes' random generators and the length of metrics.csv.

        Args:
            trainer: gives the number of processes and the rank of this process.
            module: ignored.
            checkpoint: Lightning's state of the run, to which these are added.
        """
        checkpoint["generators"] = _of_all_processes(generators(), trainer.world_size)
        checkpoint["metrics_size"] = self.run.metrics.size

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Truncate metrics.csv to its length when the checkpoint was written.

        The random generators are restored just before the next batch.

        Args:
            trainer: gives the number of processes and the rank of this process.
            module: ignored.
            checkpoint: the loaded state.

        Raises:
            UserError: the checkpoint was written by a different number of processes, which divided
                the data differently.
        """
        processes = len(checkpoint["generators"])
        if processes != trainer.world_size:
            raise UserError(
                f"resume={self.run.path}: was trained by {processes} processes, and there are"
                f" {trainer.world_size} now; continue it on the same number of devices"
            )
        self._saved = checkpoint["global_step"]
        self._generators = checkpoint["generators"][trainer.global_rank]
        if trainer.is_global_zero:
            self.run.metrics.cut(checkpoint["metrics_size"])


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of an optimizer step.

    Args:
        folder: the folder `checkpoints/` of the run.
        step: optimizer step.
    """
    return folder / f"step-{step:06d}.ckpt"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder, the oldest first.

    Args:
        folder: the folder `checkpoints/` of the run.
    """
    steps = {
        file: int(found[1])
        for file in folder.glob("step-*.ckpt")
        if (found := re.fullmatch(r"step-(\d+)", file.stem))
    }
    return sorted(steps, key=steps.__getitem__)


def step_of(file: Path) -> int:
    """Return the optimizer step of a checkpoint file."""
    return int(file.stem.removeprefix("step-"))


def reopen(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Change the state of a run that has ended to that of a run that goes on with the next batch.

    The whole run is one Lightning epoch, which the last checkpoint of a run counts as completed;
    Lightning would start no further batch of it.

    Args:
        checkpoint: Lightning's state of the run, which is modified.
        accumulate: number of batches in an optimizer step.
    """
    loop = checkpoint["loops"]["fit_loop"]
    for progress in (loop["epoch_progress"]["current"], loop["epoch_progress"]["total"]):
        progress["processed"] -= 1
        progress["completed"] -= 1
    batches = loop["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    for progress in (batches["current"], batches["total"]):
        progress["ready"] += 1  # as when a checkpoint is written before a batch
    position = checkpoint["global_step"] * accumulate
    loop["state_dict"] = {"combined_loader": [{"position": position}]}


def _of_all_processes(state: Any, processes: int) -> list[Any]:
    if processes == 1:
        return [state]
    found = [None] * processes
    torch.distributed.all_gather_object(found, state)
    return found


def generators() -> dict[str, Any]:
    """Return the states of the random generators of Python, NumPy and torch in this process.

    The result consists of plain containers and tensors.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generators(state: dict[str, Any]) -> None:
    """Restore the random generators of Python, NumPy and torch in this process.

    Args:
        state: states of the generators, as returned by `generators`.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
