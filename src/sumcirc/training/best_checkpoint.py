"""The best checkpoint and early stopping, with Lightning's `ModelCheckpoint` and `EarlyStopping`.

Lightning looks at the metric after each validation. The metrics of a watcher, such as ROUGE of
generated summaries, have new values at the watcher's steps instead, and are looked at there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from sumcirc.errors import UserError
from sumcirc.schema import Monitor
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from sumcirc.training.module import SummarizationModule
from sumcirc.training.optimizers import averaged_weights
from sumcirc.training.rank_allocation import restore_ranks

NAME = "best"  # the file best.ckpt beside the resumable checkpoints

Due = Callable[[pl.Trainer], bool]


class BestCheckpoint(ModelCheckpoint):
    """Keep the checkpoint with the best value of a metric as `checkpoints/best.ckpt`.

    Args:
        folder: folder of the run's checkpoints.
        monitor: the metric.
        due: tells for a watcher's metric whether the watcher measures at the current step.
    """

    def __init__(self, folder: Path, monitor: Monitor, due: Due) -> None:
        watched = monitor.watcher is not None
        super().__init__(
            dirpath=folder,
            filename=NAME,
            monitor=monitor.metric,
            mode=monitor.mode,
            # without a trigger Lightning saves at validations
            every_n_train_steps=1 if watched else None,
            save_on_train_epoch_end=watched,
            enable_version_counter=False,
        )
        self.watched = monitor if watched else None
        self.due = due

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Save if a watcher's metric has a new value at this step, and it is the best.

        Args:
            trainer: writes the checkpoint.
            pl_module: the module whose watchers measured.
            batch: outputs, batch and index of the batch.
        """
        if self.watched and _renewed(trainer, pl_module, self.watched, self.due, batch[-1]):
            with averaged_weights(trainer.optimizers):
                super().on_train_batch_end(trainer, pl_module, *batch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value; the run directory may have been moved since.

        Args:
            state_dict: the state that was saved with a checkpoint.
        """
        file = f"{self.dirpath}/{NAME}{self.FILE_EXTENSION}"
        best = dict.fromkeys([file] if state_dict["best_k_models"] else [], state_dict["kth_value"])
        moved = {"dirpath": self.dirpath, "best_k_models": best}
        if best:
            moved |= {"best_model_path": file, "kth_best_model_path": file}
        super().load_state_dict({**state_dict, **moved})


class StopEarly(EarlyStopping):
    """Stop training when a metric has not improved for `patience` values.

    Args:
        monitor: the metric.
        patience: number of values without improvement.
        min_delta: smallest change that counts as an improvement.
        due: tells for a watcher's metric whether the watcher measures at the current step.
    """

    def __init__(self, monitor: Monitor, patience: int, min_delta: float, due: Due) -> None:
        super().__init__(
            monitor.metric,
            min_delta,
            patience,
            mode=monitor.mode,
            check_on_train_epoch_end=False,
        )
        self.watched = monitor if monitor.watcher is not None else None
        self.due = due

    @property
    def stopped(self) -> bool:
        """Whether training was stopped."""
        return self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the resumed run had been stopped before.

        Args:
            trainer: the trainer to stop.
            pl_module: ignored.
        """
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Check a watcher's metric if it has a new value at this step.

        Args:
            trainer: the trainer to stop.
            pl_module: the module whose watchers measured.
            batch: outputs, batch and index of the batch.
        """
        if self.watched and _renewed(trainer, pl_module, self.watched, self.due, batch[-1]):
            super().on_validation_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check a metric of the validation.

        Args:
            trainer: the trainer to stop.
            pl_module: the module that was validated.
        """
        if not self.watched:
            super().on_validation_end(trainer, pl_module)

    def describe(self, step: int) -> str:
        """Return a line that says when and why training stopped.

        Args:
            step: the optimizer step at which it stopped.
        """
        return (
            f"stopped at step {step}: {self.monitor} did not improve in {self.wait_count} values"
            f" (best {float(self.best_score):.4g}; trainer.patience={self.patience})"
        )


def _renewed(
    trainer: pl.Trainer, module: pl.LightningModule, monitor: Monitor, due: Due, batch_index: int
) -> bool:
    """Make a watcher's value of this step known to Lightning; return whether there is one."""
    assert isinstance(module, SummarizationModule)
    if (batch_index + 1) % trainer.accumulate_grad_batches or not due(trainer):
        return False
    # only the first process measures
    step, value = trainer.strategy.broadcast(module.latest.get(monitor.metric, (-1, 0.0)))
    if step == trainer.global_step:
        trainer.callback_metrics[monitor.metric] = torch.tensor(value)
    return step == trainer.global_step


def restore_best(module: SummarizationModule, run: RunDirectory, monitor: Monitor) -> int:
    """Load the weights of the best checkpoint into a module, and return their optimizer step.

    Args:
        module: the trained module.
        run: directory of the run.
        monitor: the metric by which the best checkpoint was kept.

    Raises:
        UserError: no checkpoint was kept, since the metric never had a value.
        RecordError: the checkpoint is damaged.
    """
    file = run.checkpoints / f"{NAME}{ModelCheckpoint.FILE_EXTENSION}"
    if not file.exists():
        raise UserError(
            f"trainer.keep_best={monitor.metric}: was not measured after a training step, so there"
            " is no best checkpoint; measure it more often"
        )
    saved = AtomicCheckpointIO().load_checkpoint(file)
    # it contains only the parameters that train
    module.load_state_dict(saved["state_dict"], strict=False)
    restore_ranks(module.model, saved["callbacks"])
    return int(saved["global_step"])


def outcome(trainer: pl.Trainer) -> dict[str, Any]:
    """Return values for summary.json: the best checkpoint, and where training stopped early."""
    found: dict[str, Any] = {}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
            value = float(callback.best_model_score)
            found["best"] = {"metric": callback.monitor, "value": value}
        if isinstance(callback, StopEarly) and callback.stopped:
            found["stopped"] = {"metric": callback.monitor, "step": trainer.global_step}
    return found
