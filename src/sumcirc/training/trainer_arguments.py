"""Further arguments of Lightning's Trainer, given by `trainer.extra`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from sumcirc.errors import UserError
from sumcirc.storage.hub import one_line

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
PROFILE = "profile"  # Lightning writes fit-profile.txt

# arguments that this package sets, and what to give in their place
SET = {
    **{
        name: f"trainer.{name}"
        for name in ("accelerator", "devices", "num_nodes", "strategy", "precision")
    },
    "max_steps": "trainer.max_steps",
    "max_epochs": "trainer.max_epochs",
    "limit_train_batches": "trainer.max_steps, or data.sizes.train",
    "limit_test_batches": "data.sizes.test",
    "limit_predict_batches": "data.sizes.test",
    "accumulate_grad_batches": "trainer.accumulate",
    "gradient_clip_val": "optimizer.clip",
    "val_check_interval": "trainer.validate_every",
    "check_val_every_n_epoch": "trainer.validate_every",
    "log_every_n_steps": "trainer.log_every",
    "enable_checkpointing": "trainer.checkpoint_every and trainer.keep_best",
    "logger": "logger",
    "enable_autolog_hparams": "logger",
    "callbacks": "callbacks.extra",
    "enable_progress_bar": "callbacks.progress",
    "barebones": "callbacks=none logger=none",
    "fast_dev_run": "debug=smoke",
    "default_root_dir": "runs_dir",
    "model_registry": "logger.artifact",
}
# arguments without which runs can't be resumed or trained correctly
FIXED = {
    "plugins": "checkpoints are written by one of this package",
    "use_distributed_sampler": "the data is divided among processes already",
    "reload_dataloaders_every_n_epochs": "the whole run is one epoch of Lightning",
    "min_epochs": "the whole run is one epoch of Lightning",
    "inference_mode": "training goes on after validation with the same tensors",
    "num_sanity_val_steps": "the untrained model is validated as step 0",
    "enable_model_summary": "summary.json counts the parameters",
}


def check_arguments(extra: Mapping[str, Any]) -> None:
    """Check that Lightning's Trainer takes the arguments of `trainer.extra`.

    Args:
        extra: the setting: values by the argument's name.

    Raises:
        UserError: an argument is unknown to Lightning, is set by this package, or has a value that
            Lightning refuses.
    """
    known = [*inspect.signature(pl.Trainer.__init__).parameters][1:]
    for name, value in extra.items():
        shown = f"trainer.extra.{name}={value}"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else "; see its documentation"
            raise UserError(f"{shown}: Lightning's Trainer has no such argument{hint}")
        if name in SET:
            raise UserError(f"{shown}: is set by other settings; give {SET[name]}")
        if name in FIXED:
            raise UserError(f"{shown}: can't be changed, since {FIXED[name]}; leave it out")
        if name == "profiler" and value is not None and value not in PROFILERS:
            raise UserError(f"{shown}: choose from {', '.join(PROFILERS)}")
        try:
            pl.Trainer(
                **{name: value, "accelerator": "cpu", "devices": 1, "logger": False},
                **dict.fromkeys(("enable_checkpointing", "enable_progress_bar"), False),
                enable_model_summary=False,
            )
        except Exception as error:  # of any kind, from Lightning or from torch
            raise UserError(f"{shown}: refused by Lightning ({one_line(error)})") from None


def arguments(extra: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments of `trainer.extra` as the Trainer takes them.

    Args:
        extra: the setting: values by the argument's name.
        folder: folder in which a profiler writes its report.
    """
    found = dict(extra)
    name = found.get("profiler")
    if name is not None:
        profiler: Profiler = PROFILERS[name](dirpath=folder, filename=PROFILE)
        found["profiler"] = profiler
    return found


def repeated_batches(trainer: pl.Trainer, epoch: int) -> int | None:
    """Let `overfit_batches` repeat batches, and return how many; None to train on all of them.

    Lightning would end training after them, since the whole run is one epoch.

    Args:
        trainer: the trainer, of which the limit on training batches is removed.
        epoch: number of batches in one pass over the data.
    """
    given: Any = trainer.overfit_batches  # type: ignore[attr-defined]
    if not given:
        return None
    trainer.limit_train_batches = 1.0
    return given if isinstance(given, int) else max(1, int(given * epoch))
