"""Effective weights: linears of a live model, with adapters and quantization, as plain matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.models.modes import evaluating
from sumcirc.models.quantization import NO_WEIGHTS, is_int8


@dataclass(frozen=True)
class HeadWeights:
    """The weights and biases of a projection, split into heads and including adapters.

    Attributes:
        weight: [heads, width, head width] for query, key or value, where heads are key/value heads
            for keys and values; [heads, head width, width] for the output projection.
        bias: [heads, head width], or [width] for the output projection; zero if the linear has no
            bias.
    """

    weight: Tensor
    bias: Tensor


@torch.no_grad()
def effective_weight(linear: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight and the bias of the affine map that a linear computes.

    They include adapters and quantization, since they are computed by applying the module, in
    evaluation mode, to the identity matrix. Those of a plain linear are copied, which takes a small
    part of the time.

    Args:
        linear: a linear module (or GPT-2's `Conv1D`), with or without an adapter.

    Returns:
        The weight [in, out] and the bias [out].

    Raises:
        UserError: the module, or the module with its adapter, does not compute an affine map.
    """
    if is_int8(linear):
        raise UserError(f"model: {NO_WEIGHTS}")
    if _is_plain(linear):
        assert isinstance(linear, nn.Linear | Conv1D)
        weight = linear.weight if isinstance(linear, Conv1D) else linear.weight.T
        bias = weight.new_zeros(weight.shape[1]) if linear.bias is None else linear.bias.clone()
        return weight.clone(memory_format=torch.contiguous_format), bias
    dtype, device = _type_and_device(linear)
    width = input_width(linear)
    eye = torch.eye(width, dtype=dtype, device=device)
    with evaluating(linear):
        bias = linear(eye.new_zeros(1, width))[0]
        weight = linear(eye) - bias
        if isinstance(linear, BaseTunerLayer):
            _check_linear(linear, weight, bias)
        return weight, bias


def _is_plain(linear: nn.Module) -> bool:
    """Return whether a module computes its weight's product and nothing else."""
    changed = linear._forward_hooks or linear._forward_pre_hooks or "forward" in vars(linear)
    # parametrized and 4-bit linears are of classes derived from these
    return (
        type(linear) in (nn.Linear, Conv1D)
        and not changed
        and type(linear.weight) is nn.Parameter
        and linear.weight.is_floating_point()
    )


def _type_and_device(linear: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return the floating point type in which a linear computes, and its device."""
    device = next(linear.parameters()).device
    for parameter in linear.parameters():
        if parameter.is_floating_point():
            return parameter.dtype, device
    # a 4-bit linear without bias has no such parameter
    base: Any = getattr(linear, "base_layer", linear)
    return base.compute_dtype, device


def _check_linear(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Check at a further point that an adapted linear is the affine map that was read."""
    width = len(weight)
    point = torch.linspace(-2, 3, width, dtype=weight.dtype, device=weight.device)[None]
    found, expected = linear(point)[0], (point @ weight)[0] + bias
    # rounding of a sum of `width` products
    allowed = 16 * torch.finfo(weight.dtype).eps * float((point.abs() @ weight.abs()).max())
    if not float((found - expected).abs().max()) <= allowed:
        raise UserError(
            f"model: the adapter ({type(linear).__name__}) makes a linear non-linear in its"
            " input, so it has no weight for attribution; merge it into its base, or use"
            " `sumcirc evaluate`"
        )


def input_width(linear: nn.Module) -> int:
    """Return the number of input features of a linear, with or without an adapter.

    Args:
        linear: a linear module (or GPT-2's `Conv1D`).
    """
    layer = getattr(linear, "base_layer", linear)  # PEFT's name for the wrapped module
    width = getattr(layer, "in_features", None) or layer.nx  # GPT-2's Conv1D
    assert isinstance(width, int)
    return width
