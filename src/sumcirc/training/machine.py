"""Devices, processes and precision of a run, and what Lightning says of them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from sumcirc.errors import UserError
from sumcirc.schema import Precision, TrainerConfig

PRECISIONS = {
    Precision.fp32: "32-true",
    Precision.bf16: "bf16-mixed",
    Precision.fp16: "16-mixed",
}


def check_machine(config: TrainerConfig) -> None:
    """Refuse devices that this machine lacks, and combinations of settings that Lightning rejects.

    Args:
        config: settings of devices, processes and precision.

    Raises:
        UserError: the accelerator isn't available, or Lightning refuses the settings.
    """
    if config.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            f"trainer.accelerator={config.accelerator}: no GPU is visible to torch; use"
            " trainer=cpu, or install a CUDA build of torch"
        )
    if config.precision is Precision.fp16 and device(config).type == "cpu":
        raise UserError("trainer.precision=fp16: needs a GPU; use fp32 or bf16")
    try:
        with quiet():
            trainer = pl.Trainer(**machine_arguments(config), barebones=True)
        cluster = getattr(trainer.strategy, "cluster_environment", None)
        if cluster is not None:
            cluster.validate_settings(trainer.num_devices, trainer.num_nodes)
    # any error is about the settings, since nothing else was passed
    except Exception as error:
        names = ("strategy", "devices", "num_nodes", "accelerator", "precision")
        values = {name: getattr(config, name) for name in names}
        changed = [name for name in names if values[name] != getattr(TrainerConfig, name)]
        given = " ".join(f"trainer.{name}={values[name]}" for name in changed or ["devices"])
        raise UserError(
            f"{given}: refused by Lightning on this machine ({' '.join(str(error).split())});"
            f" without {'it' if len(changed) == 1 else 'them'} a run takes one device"
        ) from None


def machine_arguments(config: TrainerConfig) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that concern devices and processes.

    Args:
        config: settings of devices, processes and precision.
    """
    # in a SLURM job with one task only Lightning can start the other processes
    one_task = os.environ.get("SLURM_NTASKS") == "1" and not TorchElasticEnvironment.detect()
    return {
        "accelerator": config.accelerator,
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
        "precision": precision(config),
        "plugins": [LightningEnvironment()] if one_task else [],
    }


def device(config: TrainerConfig) -> torch.device:
    """Return the device on which this process trains, for inference outside of training.

    Args:
        config: settings of devices and processes.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if config.accelerator == "cpu" or found is None:
        return torch.device("cpu")
    devices, rank = config.devices, int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device(found.type, devices[rank] if isinstance(devices, list) else rank)


def set_threads(config: TrainerConfig) -> None:
    """Set torch's number of CPU threads, if it is configured.

    Args:
        config: settings, of which `threads` is used; None changes nothing.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)


def precision(config: TrainerConfig) -> str:
    """Return Lightning's name of the configured precision.

    `auto` means bf16 on a GPU that supports it, and otherwise fp32.

    Args:
        config: settings, of which the precision and the accelerator are used.
    """
    if config.precision is not Precision.auto:
        return PRECISIONS[config.precision]
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"


def world_size(config: TrainerConfig) -> int:
    """Return the number of processes in which a run with these settings trains on this machine.

    Args:
        config: settings of devices and processes.
    """
    with quiet():
        return pl.Trainer(**machine_arguments(config), barebones=True).world_size


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's tips and its warnings about intended settings in a `with` block."""
    loggers = [logging.getLogger(f"pytorch_lightning.{name}") for name in ("utilities.rank_zero",)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*treespec, LeafSpec.*",
                # on a machine with SLURM; the jobs of a sweep are started by its launcher
                "The `srun` command is available on your system but is not used.*",
                # in a resumed run
                "Checkpoint directory .* exists and is not empty.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
