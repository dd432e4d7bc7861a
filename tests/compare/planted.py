"""Pairs of models that differ in one known place."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from sumcirc.models.architectures import architecture, shape

QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "output"


def planted_head(model: Any, layer: int, head: int, which: str, by: float = 0.3) -> Any:
    """A copy with other weights of one head's query or output, or of one key or value group."""
    other = copy.deepcopy(model)
    size = shape(model.config).head_width
    names = architecture(model.config)
    here = slice(head * size, (head + 1) * size)
    if which == OUTPUT:
        linear = other.get_submodule(names.linears(layer, "attn_out")[0])
        _nudge(_out_in(linear)[:, here], by)
        return other
    linears = [other.get_submodule(name) for name in names.linears(layer, "qkv")]
    place = (QUERY, KEY, VALUE).index(which)
    if len(linears) == 3:
        weight = _out_in(linears[place])
    elif model.config.model_type in ("gpt2", "phi3"):
        shared = shape(model.config).key_value_heads * size
        counts = (shape(model.config).heads * size, shared, shared)
        weight = _out_in(linears[0]).split(counts)[place]
    else:  # GPT-NeoX: head by head its query, key and value
        weight = _out_in(linears[0])
        here = slice((3 * head + place) * size, (3 * head + place + 1) * size)
    _nudge(weight[here], by)
    return other


def planted_linears(model: Any, layer: int, module: str, by: float = 0.1) -> Any:
    """A copy with other weights in a module of the architecture, of one layer."""
    other = copy.deepcopy(model)
    for name in architecture(model.config).linears(layer, module):
        _nudge(other.get_submodule(name).weight, by)
    return other


def planted_mlp(model: Any, layer: int, by: float = 0.1) -> Any:
    """A copy with other weights in the whole MLP of one layer."""
    return planted_linears(planted_linears(model, layer, "mlp_in", by), layer, "mlp_out", by)


def planted_adapter(
    model: Any, layer: int, module: str = "qkv", by: float = 0.2, **options: Any
) -> Any:
    """A copy with LoRA on every layer, which is zero on all but one module of one layer."""
    names = architecture(model.config)
    planted = set(names.linears(layer, module))
    every = [
        name
        for place in range(model.config.num_hidden_layers)
        for one in names.modules
        for name in names.linears(place, one)
    ]
    linear = model.get_submodule(every[0])
    config = LoraConfig(
        r=2, target_modules=every, fan_in_fan_out=isinstance(linear, Conv1D), **options
    )
    with torch.random.fork_rng():
        torch.manual_seed(6)
        found: Any = get_peft_model(copy.deepcopy(model), config)
    for name, parameter in found.named_parameters():
        path = name.removeprefix("base_model.model.")
        if ".lora_B." in path and path.split(".lora_B.")[0] in planted:
            _nudge(parameter, by)
    return found.eval()


def _out_in(linear: Any) -> Tensor:
    return linear.weight.T if isinstance(linear, Conv1D) else linear.weight


@torch.no_grad()
def _nudge(weight: Tensor, by: float) -> None:
    generator = torch.Generator().manual_seed(5)
    weight.add_(by * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
