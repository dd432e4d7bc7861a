"""The checkpoints of a training run, along which `sumcirc compare` attributes the gain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from sumcirc.compare.path.trajectory import Checkpoint
    from sumcirc.models.model_reference import ModelReference

GIVEN = "compare.path.trajectory=true"


def check_trajectory(before: ModelReference, after: ModelReference) -> None:
    """Refuse a model whose training can't be followed, before any weights are read.

    Args:
        before: the model before fine-tuning.
        after: the model after fine-tuning.

    Raises:
        UserError: `after` is no training run, kept fewer than two checkpoints, was trained from
            another model than `before`, or has an adapter that isn't a LoRA.
    """
    from peft import PeftType

    from sumcirc.compare.path.trajectory import LEAST
    from sumcirc.errors import UserError
    from sumcirc.models.model_reference import same_model
    from sumcirc.models.peft_adapters import read_adapter
    from sumcirc.training.checkpoint import checkpoints

    files = _files(after)
    if files is None:
        raise UserError(
            f"{after.given}: is no run of `sumcirc train`, so it has no checkpoints for {GIVEN};"
            " give the run's directory"
        )
    if len(checkpoints(files)) < LEAST:
        raise UserError(
            f"{after.given}: kept fewer than {LEAST} checkpoints, which {GIVEN} needs; train with"
            " trainer.keep_checkpoints=-1 and a smaller trainer.checkpoint_every"
        )
    if not same_model(after.model, before.whole):
        raise UserError(
            f"{after.given}: was trained from {after.model.path}, not from {before.name}, so"
            f" {GIVEN} has no path to follow; leave before out"
        )
    if after.adapted:
        config = read_adapter(after.weights, after.given)  # type: ignore[arg-type]
        kind = "DoRA" if getattr(config, "use_dora", False) else config.peft_type
        if kind != PeftType.LORA:
            raise UserError(
                f"{after.given}: its adapter is {getattr(kind, 'value', kind)}, and {GIVEN} follows"
                " only LoRA and whole weights; leave it out"
            )


def trajectory_of(after: ModelReference) -> list[Checkpoint]:
    """Return the checkpoints of a training run, the oldest first.

    Args:
        after: the model that the run trained.
    """
    from sumcirc.compare.path.trajectory import Checkpoint
    from sumcirc.training.checkpoint import checkpoints, step_of

    folder = _files(after)
    assert folder is not None
    return [Checkpoint(step_of(file), _read(file)) for file in checkpoints(folder)]


def _files(after: ModelReference) -> Path | None:
    from sumcirc.models.model_reference import training_run

    run = None if after.value is None else training_run(Path(after.value).expanduser(), "after")
    return None if run is None else run.checkpoints


def _read(file: Path) -> dict[str, Tensor]:
    """Return the trained parameters of a checkpoint by their names in the model itself.

    They are mapped from the file, so a trajectory may have more checkpoints than fit into memory.
    """
    from sumcirc.training.checkpoint_io import AtomicCheckpointIO

    found = AtomicCheckpointIO().load_checkpoint(file, mapped=True)["state_dict"]
    return {
        name.removeprefix("model.").removeprefix("base_model.model."): value
        for name, value in found.items()
    }
