"""Callbacks of Lightning or of the user's own package that `callbacks.extra` adds to a run."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ProgressBar,
)

from sumcirc.errors import UserError
from sumcirc.schema.instantiation import build
from sumcirc.storage.hub import one_line

# callbacks that would take over what settings of the run control
UNFIT: dict[type[pl.Callback], str] = {
    LearningRateFinder: "trains runs of its own; give a learning rate with optimizer.learning_rate",
    BatchSizeFinder: "trains runs of its own; give trainer.batch_size and trainer.accumulate",
    GradientAccumulationScheduler: "changes over how many batches a step goes, which the loss"
    " divides by; give trainer.accumulate",
    Checkpoint: "writes checkpoints that no run is resumed from; give trainer.checkpoint_every",
    ProgressBar: "is a second progress bar; callbacks.progress=true shows one",
    BaseFinetuning: "looks for parts that the network doesn't have; adaptation=lora, or layers of"
    " it, trains a part of the model",
}


def make_extra(extra: Mapping[str, Mapping[str, Any]]) -> list[pl.Callback]:
    """Create the callbacks that `callbacks.extra` describes.

    Args:
        extra: the setting `callbacks.extra`: descriptions of callbacks, by name.

    Raises:
        UserError: an object can't be created, isn't a callback, or would control what other
            settings of the run already control.
    """
    made = []
    for name, spec in extra.items():
        callback = build(f"callbacks.extra.{name}", spec)
        if not isinstance(callback, pl.Callback):
            raise UserError(f"callbacks.extra.{name}: {_name(callback)} is not a callback")
        reason = next((why for kind, why in UNFIT.items() if isinstance(callback, kind)), None)
        if reason is not None:
            raise UserError(f"callbacks.extra.{name}: {_name(callback)} {reason}")
        made.append(callback)
    return made


@contextmanager
def blaming(extra: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Turn errors inside Lightning's own callbacks in `callbacks.extra` into a UserError.

    This applies to a `with` block. Errors in callbacks from other packages pass through with their
    traceback.

    Args:
        extra: the setting `callbacks.extra`: descriptions of callbacks, by name.

    Raises:
        UserError: one of Lightning's callbacks failed; the message is one line and names the
            callback.
    """
    names = {str(spec.get("_target_")).rpartition(".")[2]: name for name, spec in extra.items()}
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            owner = frame.f_locals.get("self")
            ours = isinstance(owner, pl.Callback) and type(owner).__module__.startswith(
                "pytorch_lightning."
            )
            if ours and _name(owner) in names:
                raise UserError(
                    f"callbacks.extra.{names[_name(owner)]}: {_name(owner)} can't work here"
                    f" ({one_line(error)}); leave it out, or correct its settings"
                ) from error
        raise


def _name(made: Any) -> str:
    return type(made).__name__
