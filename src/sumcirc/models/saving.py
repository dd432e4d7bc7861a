"""Saves what was trained as a plain PEFT adapter or model folder that other tools can load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn

from sumcirc.models.loading import resolve_path, without_bars
from sumcirc.models.model_cards import write_card
from sumcirc.models.variants import rewrites
from sumcirc.schema import TrainConfig
from sumcirc.storage.writing import write_folder
from sumcirc.tracking.run_directory import RunDirectory


def save_trained(
    model: nn.Module,
    tokenizer: Any,
    config: TrainConfig,
    directory: RunDirectory,
    notes: Sequence[str] = (),
) -> Path:
    """Write the trained adapter or model with a model card, and return the path of its folder.

    Args:
        model: the trained model; an adapter is saved without its base.
        tokenizer: the tokenizer, saved in the same folder.
        config: configuration of the run, for the model card.
        directory: the run directory, in which `adapter/` or `model/` is written.
        notes: sentences about the training data, for the model card.
    """
    is_adapter = isinstance(model, PeftModel)
    base = resolve_path(config.model.path, "model.path")
    if Path(base).is_dir():
        base = str(Path(base).absolute())
    if is_adapter:
        # the absolute path, so that PEFT finds it; only sumcirc knows the name `tiny`
        adapter: Any = model.peft_config["default"]
        adapter.base_model_name_or_path = base

    target = directory.adapter if is_adapter else directory.model

    def write(folder: Path) -> None:
        # otherwise PEFT asks the hub whether the vocabulary was changed, which never happens here
        options: dict[str, Any] = {"save_embedding_layers": False} if is_adapter else {}
        if isinstance(model, PeftModel) and rewrites(model.peft_config["default"]):
            # as LoRA on the unchanged base, which has the ranks of both
            options["path_initial_model_for_weight_conversion"] = str(directory.initial_adapter)
        with without_bars():
            model.save_pretrained(str(folder), **options)  # type: ignore[operator]
        tokenizer.save_pretrained(str(folder))
        write_card(model, config, folder, notes, name=target.name)

    write_folder(target, write)
    return target


def save_merged(
    model: PeftModel,
    tokenizer: Any,
    config: TrainConfig,
    directory: RunDirectory,
    notes: Sequence[str] = (),
    scores: Sequence[Sequence[str]] = (),
) -> Path:
    """Write the trained model with its adapter merged into it, and return the path of its folder.

    `model` can't be used afterwards: PEFT replaces its layers by the merged ones.

    Args:
        model: the trained model.
        tokenizer: the tokenizer, saved in the same folder.
        config: configuration of the run, for the model card.
        directory: the run directory, in which `merged/` is written.
        notes, scores: as for `write_card`.
    """

    def write(folder: Path) -> None:
        write_card(model, config, folder, notes, scores, directory.merged.name)
        merged: Any = model.merge_and_unload()
        with without_bars():
            merged.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))

    write_folder(directory.merged, write)
    return directory.merged
