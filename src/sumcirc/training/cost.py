"""Measures the cost of training: operations, their rate, and peak memory."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.flops import TrainingFlops
from sumcirc.models.modes import frozen
from sumcirc.runtime.memory import process_peak
from sumcirc.training.module import SummarizationModule
from sumcirc.training.peak_flops import peak_flops

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float32}


class CostMeter(pl.Callback):
    """Callback that measures what the optimizer steps of a run cost.

    The sums are part of a checkpoint. A resumed run therefore counts each step once, with the time
    and the operations of the process that took it.

    It has to come before callbacks that measure the model, whose time isn't training time.

    Args:
        model: the adapted model, before Lightning distributes it.
        base: its base, which a penalty runs beside it; None without one.
    """

    def __init__(self, model: nn.Module, base: BaseBeside | None = None) -> None:
        self._flops_of = TrainingFlops.of(model)
        self._base_flops_of: TrainingFlops | None = None
        if base is not None:
            with base.active() as found, frozen(found):
                self._base_flops_of = TrainingFlops.of(found)
        # operations and positions of this process, until they are summed for a checkpoint
        self._flops, self._tokens = 0, 0
        self._seconds = self._seconds_before = 0.0
        self._whole = True
        self._memory_before: dict[str, int] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to measure the peak memory of a GPU.

        Args:
            trainer: knows the device.
            pl_module: ignored.
        """
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_index: int,
    ) -> None:
        """Add the operations of a batch.

        Args:
            trainer: knows device and step.
            pl_module: knows the time of training.
            outputs: ignored.
            batch: the batch.
            batch_index: ignored.
        """
        assert isinstance(pl_module, SummarizationModule)
        sequences, length = batch.input_ids.shape
        self._flops += self._flops_of.batch(sequences, length, len(batch.labels))
        self._tokens += sequences * length
        if batch.texts is not None and self._base_flops_of is not None:
            sequences, length = batch.texts.input_ids.shape
            for flops_of in (self._flops_of, self._base_flops_of):
                self._flops += flops_of.batch(sequences, length, len(batch.texts.positions))
            self._tokens += sequences * length
        device = trainer.strategy.root_device
        if device.type == "cuda" and trainer.global_step >= pl_module.total_steps:
            torch.cuda.synchronize(device)  # or the time of the last steps would be missing
        self._seconds = self._seconds_before + pl_module.training_seconds

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the sums over all processes in a checkpoint.

        Args:
            trainer: knows the processes.
            pl_module: ignored.
            checkpoint: Lightning's state of the run, to which the sums are added.
        """
        flops, tokens = self._sums(trainer)
        checkpoint["cost"] = {
            "flops": flops,
            "tokens": tokens,
            "seconds": self._seconds,
            "memory": self._memory(trainer),
            "whole": self._whole,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue from the sums in a checkpoint, if it has them.

        Args:
            trainer: knows whether this is the first process, which takes the sums.
            pl_module: ignored.
            checkpoint: the loaded state.
        """
        found = checkpoint.get("cost")
        self._whole = found is not None and found["whole"]
        if found is None:
            return  # written by an earlier version
        if trainer.is_global_zero:
            self._flops, self._tokens = found["flops"], found["tokens"]
        self._memory_before = found["memory"]
        self._seconds = self._seconds_before = found["seconds"]

    def _sums(self, trainer: pl.Trainer) -> tuple[int, int]:
        """Return the operations and positions, summed over all processes."""
        if trainer.world_size == 1:
            return self._flops, self._tokens
        # not as integers, since the sum may exceed 64 bits
        mine = torch.tensor(
            [self._flops, self._tokens], dtype=torch.float64, device=trainer.strategy.root_device
        )
        flops, tokens = trainer.strategy.reduce(mine, reduce_op="sum").tolist()
        return int(flops), int(tokens)

    def _memory(self, trainer: pl.Trainer) -> dict[str, int]:
        """Return the peak memory in bytes: of the process, and of its GPU since the fit began."""
        found = {"process_memory": process_peak()}
        device = trainer.strategy.root_device
        if device.type == "cuda":
            found["device_memory"] = torch.cuda.max_memory_allocated(device)
        before = self._memory_before
        return {name: max(value, before.get(name, 0)) for name, value in found.items()}

    def record(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Return the section `cost` of summary.json.

        All processes must call it. Operations and rates are missing if the run was resumed from a
        checkpoint of a version that did not count them.

        Args:
            trainer: knows steps, devices and precision.
        """
        flops, tokens = self._sums(trainer)
        found: dict[str, Any] = dict(self._memory(trainer))
        if not self._whole:
            return found
        found |= {"flops": float(flops), "tokens": tokens, "seconds": self._seconds}
        found |= {"devices": trainer.world_size}
        if self._seconds > 0:
            found["flops_per_second"] = flops / self._seconds
            peak = _peak_flops(trainer)
            if peak is not None:
                found["mfu"] = found["flops_per_second"] / (peak * trainer.world_size)
        return found


def cost_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Return the section `cost` of summary.json after `training.trainer.fit`, in all processes.

    Args:
        trainer: the trainer that `fit` returned.
    """
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(one for one in callbacks if isinstance(one, CostMeter)).record(trainer)


def _peak_flops(trainer: pl.Trainer) -> float | None:
    """Return a device's peak operations per second in the run's precision, None if unknown."""
    dtype = _DTYPES.get(str(trainer.precision))
    return None if dtype is None else peak_flops(trainer.strategy.root_device, dtype)
