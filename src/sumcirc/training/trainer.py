"""Set-up of Lightning: from a model and data to a trained module, resumable at any point.

The whole run is one Lightning epoch over a stream of batches (`data.batches.TrainingStream`), so
that the optimizer step is the only clock and a resumed run has only one position to restore.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from peft import AdaLoraModel, PeftModel

from sumcirc.data.datamodule import SummarizationData
from sumcirc.models.adapters import checkpoint_activations
from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.dropout import start_training
from sumcirc.models.loading import load_model
from sumcirc.runtime.processes import is_main_process
from sumcirc.runtime.terminal import say
from sumcirc.schema import TrainConfig, TrainerConfig
from sumcirc.tracking.metrics_logger import MetricsLogger
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.best_checkpoint import BestCheckpoint, Due, StopEarly
from sumcirc.training.checkpoint import (
    ResumableCheckpoint,
    checkpoint_file,
    checkpoints,
    step_of,
)
from sumcirc.training.checkpoint_io import AtomicCheckpointIO
from sumcirc.training.cost import CostMeter
from sumcirc.training.extension import extension_callbacks
from sumcirc.training.extra_callbacks import blaming, make_extra
from sumcirc.training.kl_penalty import KLPenalty
from sumcirc.training.loggers import ContinueLoggers, check_loggers, make_loggers
from sumcirc.training.machine import check_machine, device, machine_arguments, quiet
from sumcirc.training.module import SummarizationModule
from sumcirc.training.optimizers import check_optimizer
from sumcirc.training.progress_bars import progress_callback
from sumcirc.training.rank_allocation import RankAllocation
from sumcirc.training.trainer_arguments import (
    arguments,
    check_arguments,
    repeated_batches,
)


def check_trainer(config: TrainConfig) -> None:
    """Check that the devices exist, and that optimizer, callbacks and loggers can be made.

    Args:
        config: configuration of the run.

    Raises:
        UserError: a device or a package isn't available, or an object can't be built; the message
            names the setting.
    """
    check_machine(config.trainer)
    check_optimizer(config.optimizer, config.scheduler)
    check_arguments(config.trainer.extra)
    make_extra(config.callbacks.extra)
    check_loggers(config.logger)


def make_trainer(
    config: TrainConfig,
    data: SummarizationData,
    run: RunDirectory,
    wandb_logger: Any,
    watchers: Sequence[pl.Callback] = (),
    others: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Return a Lightning Trainer for the run.

    Args:
        config: configuration of the run.
        data: the data, which provides training and validation batches.
        run: the run directory.
        wandb_logger: logger of Weights & Biases; None if it isn't used.
        watchers: callbacks that measure the model. They are called before the callback that saves a
            checkpoint, so that what they write at a step is complete when the step's checkpoint is
            saved.
        others: further callbacks, from `callbacks.extra`.
    """
    options = config.trainer
    saved = checkpoints(run.checkpoints)
    step = step_of(saved[-1]) if saved else None
    curves = make_loggers(config, run, step) if is_main_process() else {}
    loggers: list[Any] = [MetricsLogger(run.metrics), *([wandb_logger] if wandb_logger else [])]
    loggers += curves.values()
    callbacks: list[pl.Callback] = [
        *watchers,
        ResumableCheckpoint(run, options.checkpoint_every, options.keep_checkpoints),
        *([ContinueLoggers(curves, run.metrics)] if curves else []),
    ]
    if config.callbacks.progress:
        callbacks.append(progress_callback())
    callbacks += extension_callbacks(config, run)
    callbacks += [*others, *_monitoring(config.trainer, run, watchers)]
    made = stepping(config, run.path)
    trainer = pl.Trainer(
        **{**made, "plugins": [*made["plugins"], AtomicCheckpointIO()]},
        check_val_every_n_epoch=1,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=options.keep_best is not None,  # else no ModelCheckpoint is allowed
        enable_progress_bar=config.callbacks.progress and sys.stdout.isatty(),
    )
    batches_per_epoch = data.steps(trainer.world_size)[0] * options.accumulate
    data.repeat = repeated_batches(trainer, batches_per_epoch)
    # Lightning reads it when fit() sets up the data; the number of processes is known only now
    trainer.val_check_interval = validation_interval(data, trainer) * options.accumulate
    return trainer


def stepping(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that determine an optimizer step.

    Args:
        config: configuration of the run.
        folder: folder for what Lightning and its profilers write.
    """
    return {
        **machine_arguments(config.trainer),
        "max_epochs": 1,
        "accumulate_grad_batches": config.trainer.accumulate,
        "gradient_clip_val": config.optimizer.clip or None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "use_distributed_sampler": False,
        "inference_mode": False,  # the validation state is used again when training continues
        "enable_model_summary": False,
        "default_root_dir": str(folder),
        **arguments(config.trainer.extra, folder),
    }


def kl_penalty_of(config: TrainConfig, model: torch.nn.Module) -> KLPenalty | None:
    """Return the penalty that a run's settings ask for, or None.

    Where switching the adapter off doesn't give the base, the base is loaded beside the model.

    Args:
        config: configuration of the run.
        model: the model with its adapters, if any.
    """
    if not config.kl_penalty.is_on:
        return None

    def load() -> torch.nn.Module:
        found: Any = load_model(config.model)
        return found.to(device(config.trainer))

    return KLPenalty(BaseBeside(model, load), config.kl_penalty.weight)


def _leading(model: torch.nn.Module, penalty: KLPenalty | None) -> list[pl.Callback]:
    """Return the callbacks that come before the watchers."""
    # it stops the time of training, to which what the others do doesn't belong
    found: list[pl.Callback] = [CostMeter(model, penalty and penalty.base)]
    if isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel):
        # the watchers measure the model with the ranks that are left
        found.append(RankAllocation(model))
    return found


def _monitoring(
    options: TrainerConfig, run: RunDirectory, watchers: Sequence[pl.Callback]
) -> list[pl.Callback]:
    """Return the callbacks that keep the best checkpoint and stop training early."""
    due: Due = next((one.probing.is_due for one in watchers), lambda trainer: False)  # type: ignore[attr-defined]
    found: list[pl.Callback] = []
    for name, monitor in options.monitors.items():
        if name == "keep_best":
            found.append(BestCheckpoint(run.checkpoints, monitor, due))
        else:
            found.append(StopEarly(monitor, options.patience, options.min_delta, due))
    return found


def validation_interval(data: SummarizationData, trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps between validations.

    This is `trainer.validate_every`, or by default one pass over the data, but at most the whole
    run.

    Args:
        data: the training data and its settings.
        trainer: Lightning's trainer, which gives the number of processes.
    """
    epoch, total = data.steps(trainer.world_size)
    return min(data.trainer_config.validate_every or epoch, total)


def fit(
    config: TrainConfig,
    model: torch.nn.Module,
    data: SummarizationData,
    run: RunDirectory,
    wandb_logger: Any,
    watchers: Sequence[pl.Callback] = (),
    others: Sequence[pl.Callback] | None = None,
) -> tuple[pl.Trainer, SummarizationModule]:
    """Train a model, continuing from the run's last checkpoint if there is one.

    A new run first validates the untrained model as step 0. The model is left in training mode.

    Args:
        config: configuration of the run.
        model: the model with its adapters, if any.
        data: the data, which provides training and validation batches.
        run: the run directory.
        wandb_logger: logger of Weights & Biases; None if it isn't used.
        watchers: callbacks that measure the model.
        others: further callbacks; None for those of `callbacks.extra`.

    Returns:
        The trainer and the trained module.

    Raises:
        TrainingDiverged: the loss is not a finite number; the last checkpoint remains.
        UserError: the last checkpoint is damaged, or a callback from `callbacks.extra` failed.
    """
    start_training(model, config.model.dropout)
    if config.trainer.gradient_checkpointing:
        checkpoint_activations(model)
    saved = checkpoints(run.checkpoints)
    penalty = kl_penalty_of(config, model)
    if others is None:
        others = make_extra(config.callbacks.extra)
    with quiet(), blaming(config.callbacks.extra):
        trainer = make_trainer(config, data, run, wandb_logger, watchers, others)
        trainer.callbacks[:0] = _leading(model, penalty)  # type: ignore[attr-defined]
        if trainer.global_rank:
            # dropout masks that differ from the first process's; Lightning's strategies reuse this
            # seed
            pl.seed_everything(config.seed + trainer.global_rank, verbose=False)
        _, total = data.steps(trainer.world_size)
        if trainer.is_global_zero and run.status_file.exists():
            run.set_status("running", steps=total)
        module = SummarizationModule(
            model,
            config.optimizer,
            total,
            config.trainer.log_every,
            config.trainer.compile,
            config.scheduler,
            penalty,
        )
        if not saved:
            run.metrics.cut(0)
            trainer.validate(module, datamodule=data, verbose=False)
        trainer.fit(
            module, datamodule=data, ckpt_path=str(saved[-1]) if saved else None, weights_only=True
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        if saved and saved[-1] == checkpoint_file(run.checkpoints, trainer.global_step):
            return trainer, module  # it was trained before
    if config.trainer.extra.get("profiler") and trainer.is_global_zero:
        say(f"profile: {run.path / 'fit-profile.txt'}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StopEarly) and callback.stopped and trainer.is_global_zero:
            say(callback.describe(trainer.global_step))
    if trainer.global_step < total and trainer.is_global_zero and run.status_file.exists():
        run.set_status("running", steps=trainer.global_step)
    saver = next(c for c in trainer.callbacks if isinstance(c, ResumableCheckpoint))  # type: ignore[attr-defined]
    saver.save(trainer, module)
    return trainer, module
