"""Relevance rules in place of derivatives, within one pass (RelP, arXiv 2508.21258).

The activations of the pass don't change; its gradient is that of a model in which every norm's
scale is a constant (LN rule), an activation function multiplies its input by a constant (identity
rule), and each factor of a gated MLP gets half (half rule). The attention pattern keeps its
derivative, as in the method's published defaults: if it were constant, no edge into a query or a
key would have a score.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import ModuleHook, module_hooks
from sumcirc.models.architectures import architecture


@contextmanager
def relevance_rules(model: HookedModel) -> Iterator[None]:
    """Replace the derivatives of norms, activation functions and gated MLPs by RelP's rules.

    The rules apply to every pass of `model` in a `with` block. Hooks that are registered in the
    block see outputs whose gradients follow the rules.

    Args:
        model: the model.
    """
    with module_hooks(_rules(model)):
        yield


def _rules(model: HookedModel) -> Iterator[ModuleHook]:
    gated = architecture(model.model.config).gated
    for block in model.blocks:
        before = (block.norm_attention, *block.head_norms, block.norm_mlp)
        for norm in (*before, block.norm_attention_output, block.norm_mlp_output):
            if not isinstance(norm, nn.Identity):
                yield norm, "both", partial(_constant_scale, model, norm)
        yield block.activation, "both", _constant_ratio
        if gated:
            yield block.mlp_out, "input", _half
    yield model.final_norm, "both", partial(_constant_scale, model, model.final_norm)


def _constant_scale(
    model: HookedModel, module: nn.Module, stream: Tensor, output: Tensor
) -> Tensor:
    norm = model.norm(module, torch.promote_types(stream.dtype, torch.float32))
    _, scale = norm.standardized(stream)
    # the derivative is that of the linear map, but the value is the norm's
    centred = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
    linear = (centred * scale * norm.weight).to(output)
    return linear + (output - linear).detach()


def _constant_ratio(argument: Tensor, output: Tensor) -> Tensor:
    before = argument.detach()
    # every activation here (GELU, SiLU and similar ones) is x/2 near 0
    ratio = torch.where(before.abs() > 1e-6, output.detach() / before, 0.5)
    linear = argument * ratio
    return linear + (output - linear).detach()


def _half(product: Tensor) -> Tensor:
    return product / 2 + (product / 2).detach()
