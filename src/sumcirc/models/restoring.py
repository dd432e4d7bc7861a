"""Checks and loads the models behind model references."""

from __future__ import annotations

from dataclasses import replace

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sumcirc.errors import UserError
from sumcirc.models.loading import check_model, load_model, load_tokenizer
from sumcirc.models.model_reference import ModelReference, reference
from sumcirc.models.peft_adapters import check_adapter, load_adapter
from sumcirc.models.quantization import require_effective_weights
from sumcirc.schema import CircuitConfig, CompareConfig, EvaluateConfig, ModelConfig, PairsConfig

Restored = PreTrainedModel | PeftModel

BASE = "base"  # the word of `against=` for the model that the checkpoint was trained from


def reference_of(config: EvaluateConfig | CircuitConfig | PairsConfig) -> ModelReference:
    """Return the reference to a job's model: `config.checkpoint` if it is set, or `config.model`.

    Args:
        config: configuration of the job.

    Raises:
        UserError: as in `reference`.
    """
    return _given(config.checkpoint, "checkpoint", config.model)


def against_of(config: CircuitConfig) -> ModelReference | None:
    """Return the reference to the model whose circuit is compared with that of the job's model.

    Returns:
        None if `config.against` is not set.

    Raises:
        UserError: as in `reference`, or the job's model is no run and no adapter, so that it has no
            base.
    """
    if config.against != BASE:
        return None if config.against is None else reference(config.against, "against")
    base = reference_of(config).base
    if base == reference_of(config):
        raise UserError(
            f"against={BASE}: {base.given} is neither a run nor an adapter, so the model it was"
            " trained from is not known; give against=MODEL"
        )
    return replace(base, setting="against", value=BASE)


def before_of(config: CompareConfig) -> ModelReference:
    """Return the reference to the model with which others are compared.

    It is `config.before` if this is set. Otherwise it is `config.model`, the model from which
    `after` was trained.

    Args:
        config: configuration of the job.

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
    """Raise an error for mistakes in a model's files that can be found without reading weights.

    The tokenizer is loaded to check it.

    Args:
        found: reference to the model.
        analysed: whether the model's activations will be analysed, which some kinds of adapters
            don't allow.

    Raises:
        UserError: as in `check_model`, `check_adapter` and `require_effective_weights`.
    """
    check_model(found.model, found.model_setting)
    if analysed:
        require_effective_weights(found.whole.quantize, f"{found.given}: this job")
    if found.weights is None:
        return
    if found.adapted:
        check_adapter(found.weights, found.given, analysed)
    else:
        check_model(found.whole, found.setting)


def load_reference(found: ModelReference, dtype: torch.dtype | None = None) -> Restored:
    """Return a model in evaluation mode, with its adapter if it has one.

    Args:
        found: reference to the model.
        dtype: type of the weights; None for float32.

    Raises:
        UserError: the adapter does not fit its base, or weights can't be read.
    """
    model = load_model(found.whole, dtype, found.model_setting)
    if found.weights is None or not found.adapted:
        return model
    return load_adapter(model, found.weights, found.given)


def release(model: nn.Module) -> None:
    """Free the memory of a model that is no longer used, even if something still refers to it.

    Args:
        model: the model. Unlike with `to("meta")`, its parameters may be quantized.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.new_empty(0)


def load_tokenizer_of(found: ModelReference) -> PreTrainedTokenizerBase:
    """Return the tokenizer with which a model was trained; see `load_tokenizer`.

    Args:
        found: reference to the model.
    """
    return load_tokenizer(found.model, found.model_setting)
