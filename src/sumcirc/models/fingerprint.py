"""A hash that identifies a model by its content, wherever it is stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.models.quantization import scales
from sumcirc.models.unwrapping import base_model

INCIDENTAL = ("_name_or_path", "transformers_version", "architectures")  # no effect on outputs
# parts of parameter names: of the linear that PEFT wraps, and of the adapter's own parameters
WRAPPED, ADAPTER = ".base_layer", ".lora_"


def model_fingerprint(model: PreTrainedModel | PeftModel, as_it_is: bool = False) -> str:
    """Return a hash of a model's configuration and of the its parameters.

    Args:
        model: a model with or without adapters.
        as_it_is: whether the hash includes a `PeftModel`'s adapters in their current state: their
            parameters and scalings, and which of them are active. If False, the hash is that of the
            base. Other models are always hashed including adapters, which transformers'
            `add_adapter` may have added.
    """
    as_it_is = as_it_is or not isinstance(model, PeftModel)
    base = base_model(model)
    settings = {name: v for name, v in base.config.to_dict().items() if name not in INCIDENTAL}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode())
    named = {name.replace(WRAPPED, ""): p for name, p in base.named_parameters()}
    for name, parameter in sorted(named.items()):
        if ADAPTER not in name:
            _add(digest, name, parameter)
    if as_it_is:
        for name, parameter in sorted(named.items()):
            if ADAPTER in name:
                _add(digest, name, parameter)
        layers = [
            (name, one) for name, one in base.named_modules() if isinstance(one, BaseTunerLayer)
        ]
        for name, module in layers:
            digest.update(repr((name, *_state(module))).encode())
        if layers:  # some kinds share random projections, which are buffers
            for name, buffer in sorted(base.named_buffers()):
                _add(digest, name, buffer)
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, name: str, parameter: Tensor) -> None:
    about = (name, parameter.dtype, parameter.device.type, tuple(parameter.shape))
    digest.update(repr(about).encode())
    values = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
    digest.update(values.numpy().data)
    for part, tensor in sorted(scales(parameter).items()):
        _add(digest, f"{name} {part}", tensor)


def _state(layer: BaseTunerLayer) -> tuple[Any, ...]:
    """Return the settings that determine what an adapted layer computes from its parameters."""
    variants = getattr(layer, "lora_variant", {})
    return (
        type(layer).__name__,
        list(layer.active_adapters),
        layer.disable_adapters,
        list(layer.merged_adapters),
        sorted(getattr(layer, "scaling", {}).items()),
        sorted((adapter, type(variant).__name__) for adapter, variant in variants.items()),
    )
