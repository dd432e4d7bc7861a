"""What selectors look at, on a small model: evidence made as the jobs make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import Encoder
from sumcirc.models.architectures import context_length
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import Corruption, SelectorConfig, SelectorName, TrainConfig
from sumcirc.selection.context import SelectionContext
from tests.support.small_training import small_config

LORA = {"rank": 2, "layers": "auto"}


def selecting(
    model: Path,
    files: dict[str, Path],
    folder: Path,
    name: str,
    adaptation: dict[str, Any] | None = None,
    **selector: Any,
) -> TrainConfig:
    """A small run with a selector; `adaptation` replaces single settings of LoRA at rank 2."""
    from sumcirc.schema import Adaptation

    lora = {"kind": Adaptation.lora, **LORA, **(adaptation or {})}
    config = small_config(model, files, folder, adaptation=lora)
    options: dict[str, Any] = {"documents": 8, "batch_size": 2, "resamples": 50}
    options |= {"probe_steps": 30}
    options |= {"corruption": Corruption.replace, **selector}
    return replace(config, selector=SelectorConfig(name=SelectorName(name), **options))


def evidence(
    config: TrainConfig, model: Any = None, splits: Sequence[str] = ("train", "validation")
) -> SelectionContext:
    """The selection context of a configuration; `model` in place of the loaded one."""
    model = load_model(config.model) if model is None else model
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model.config))
    data = SummarizationData(config.data, config.trainer, encoder, None, config.seed)
    data.read(splits)
    return SelectionContext(config, model, encoder, data)
