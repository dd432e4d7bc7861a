"""Measures the time and memory of a run's training steps without training the run.

Two optimizer steps are measured: the one of a pass over the data whose size is closest to the mean,
by which the duration of the whole run is estimated, and the largest, which needs the most memory.
They run with the model, optimizer, precision and batches of the run, after a first step that is not
measured (memory is allocated there, and kernels are chosen).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from peft import AdaLoraModel, PeftModel

from sumcirc.data.batch_order import Division, bucketed_order
from sumcirc.data.batches import TrainingStream
from sumcirc.data.datamodule import SummarizationData
from sumcirc.models.adapters import checkpoint_activations
from sumcirc.models.dropout import start_training
from sumcirc.runtime.memory import process_peak
from sumcirc.schema import TrainConfig
from sumcirc.training.machine import quiet
from sumcirc.training.module import SummarizationModule
from sumcirc.training.rank_allocation import RankAllocation
from sumcirc.training.trainer import kl_penalty_of, stepping
from sumcirc.training.trainer_arguments import repeated_batches


@dataclass(frozen=True)
class StepCosts:
    """Time, tokens and memory of a run's training steps.

    Attributes:
        seconds: wall time of the step of mean size and of the largest step.
        tokens: tokens of these two steps, with padding.
        memory: peak memory in bytes: on a GPU what torch has reserved there, else the resident
            memory of the process from its start.
        device: the device that the memory is of: `process`, or a GPU such as `cuda:0`.
    """

    seconds: tuple[float, float]
    tokens: tuple[int, int]
    memory: int
    device: str


def measure_steps(
    config: TrainConfig, model: torch.nn.Module, data: SummarizationData, folder: Path
) -> StepCosts:
    """Train a model for three or four steps on one device, and return what two of them cost.

    Args:
        config: configuration of the run, for one device.
        model: the model with its adapters, if any; it is trained in place.
        data: the data of the run, which was read.
        folder: folder for what Lightning writes.
    """
    start_training(model, config.model.dropout)
    if config.trainer.gradient_checkpointing:
        checkpoint_activations(model)
    accumulate = config.trainer.accumulate
    timer = _Timer(accumulate)
    with quiet():
        trainer = pl.Trainer(
            **{**stepping(config, folder), "logger": False, "enable_checkpointing": False},
            callbacks=[timer],
            enable_progress_bar=False,
            # a validation would be due after more steps than there are
            check_val_every_n_epoch=None,
            val_check_interval=10 * accumulate,
        )
        if isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel):
            trainer.callbacks.insert(0, RankAllocation(model))  # type: ignore[attr-defined]
        epoch, total = data.steps(1)
        repeat = repeated_batches(trainer, epoch * accumulate)
        trainer.limit_val_batches = 0
        division = Division(config.trainer.batch_size, accumulate)
        sizes = step_sizes(data, division, min(epoch, total, -(-(repeat or total) // accumulate)))
        mean, largest = int(np.abs(sizes - sizes.mean()).argmin()), int(sizes.argmax())
        # a compiled model is compiled again for the second size
        first = [mean, largest] if config.trainer.compile else [mean]
        stream = _ChosenSteps(data, division, [*first, mean, largest])
        options = config.trainer
        module = SummarizationModule(
            model,
            config.optimizer,
            total,
            options.log_every,
            options.compile,
            config.scheduler,
            kl_penalty_of(config, model),
        )
        trainer.fit(module, train_dataloaders=stream, val_dataloaders=[])
        if trainer.interrupted:
            raise KeyboardInterrupt
    seconds = np.diff(timer.ends)[-2:]
    device = trainer.strategy.root_device
    on_gpu = device.type == "cuda"
    return StepCosts(
        (float(seconds[0]), float(seconds[1])),
        (int(sizes[mean]), int(sizes[largest])),
        torch.cuda.max_memory_reserved(device) if on_gpu else process_peak(),
        str(device) if on_gpu else "process",
    )


def step_sizes(data: SummarizationData, division: Division, steps: int) -> np.ndarray:
    """Return the number of tokens, with padding, of the first optimizer steps of a run.

    Args:
        data: the data of the run.
        division: how each step is divided into batches.
        steps: number of steps, at most one pass over the data.
    """
    lengths = np.asarray(data.encoded["train"].lengths)
    order = bucketed_order(lengths, division.step_size, data.seed, 0, data.trainer_config.buckets)
    found = []
    for items in order[:steps]:
        parts = [division.share(items, part) for part in range(division.accumulate)]
        found.append(sum(len(part) * int(lengths[part].max()) for part in parts if part))
    return np.asarray(found)


class _ChosenSteps(TrainingStream):
    """Some steps of the first pass over the data, in a given order."""

    def __init__(self, data: SummarizationData, division: Division, chosen: Sequence[int]) -> None:
        buckets = data.trainer_config.buckets
        super().__init__(
            data.encoded["train"],
            division,
            len(chosen),
            data.seed,
            buckets,
            texts=data.text_stream(division),
        )
        self._chosen = chosen

    def _items(self, step: int) -> list[int]:
        return super()._items(self._chosen[step])


class _Timer(pl.Callback):
    """Notes when each optimizer step ends.

    Args:
        accumulate: number of batches in a step.
    """

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate
        self.ends: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Wait for the device and note the time if the batch completed an optimizer step."""
        if (batch_index + 1) % self.accumulate == 0:
            if trainer.strategy.root_device.type != "cpu":
                torch.accelerator.synchronize()
            self.ends.append(time.perf_counter())
