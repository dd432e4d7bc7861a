"""Checks and loads the models behind model references."""

from __future__ import annotations

from dataclasses import replace

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sumcirc.models.loading import check_model, load_model, load_tokenizer
from sumcirc.models.model_reference import ModelReference, reference
from sumcirc.models.peft_adapters import check_adapter, load_adapter
from sumcirc.schema import CircuitConfig, CompareConfig, EvaluateConfig, ModelConfig, PairsConfig

Restored = PreTrainedModel | PeftModel


def reference_of(config: EvaluateConfig | CircuitConfig | PairsConfig) -> ModelReference:
    """Return the model of a job: `config.checkpoint`, or `config.model` if it is not given.

    Raises:
        UserError: as in `reference`.
    """
    return _given(config.checkpoint, "checkpoint", config.model)


def before_of(config: CompareConfig) -> ModelReference:
    """Return the model to compare with: `config.before`, or what `after` was trained from.

    Raises:
        UserError: as in `reference`.
    """
    return _given(config.before, "before", config.model)


def _given(value: str | None, setting: str, model: ModelConfig) -> ModelReference:
    if value is None:
        return ModelReference(model.name, model)
    # the command line has set `config.model` from this value already, and the user may have changed
    # parts of it, such as the tokenizer
    return replace(reference(value, setting), name=model.name, model=model)


def check_reference(found: ModelReference, analysed: bool = False) -> None:
    """Detect mistakes without reading weights; loads the tokenizer.

    Args:
        found: the model.
        analysed: the inside of the model will be analysed, so an adapter has to act there.

    Raises:
        UserError: as in `check_model` and `check_adapter`.
    """
    check_model(found.model, found.model_setting)
    if found.weights is None:
        return
    if found.adapted:
        check_adapter(found.weights, found.given, analysed)
    else:
        check_model(found.whole, found.setting)


def load_reference(found: ModelReference, dtype: torch.dtype | None = None) -> Restored:
    """Load a model in evaluation mode.

    Args:
        found: the model.
        dtype: float32 by default.

    Raises:
        UserError: an adapter does not fit, or weights can't be read.
    """
    model = load_model(found.whole, dtype, found.model_setting)
    if found.weights is None or not found.adapted:
        return model
    return load_adapter(model, found.weights, found.given)


def load_tokenizer_of(found: ModelReference) -> PreTrainedTokenizerBase:
    """Load the tokenizer that a model was trained with; see `load_tokenizer`."""
    return load_tokenizer(found.model, found.model_setting)
