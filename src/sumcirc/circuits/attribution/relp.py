"""Relevance rules in place of derivatives, within one pass (RelP, arXiv 2508.21258).

The values of the pass stay what they are; its gradient is that of a model in which every norm's
scale is a constant (LN rule), an activation function multiplies its input by a constant (identity
rule), and each factor of a gated MLP gets half (half rule). The attention pattern keeps its own
derivative, as in the method's published defaults: were it a constant, no edge into a query or a key
would have a score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sumcirc.errors import UserError
from sumcirc.models.architectures import anatomy
from sumcirc.models.hooked_model import Block, HookedModel
from sumcirc.models.norms import Norm


@contextmanager
def relevance_rules(parts: HookedModel) -> Iterator[None]:
    """Within it gradients follow the rules."""
    gated = len(anatomy(parts.model.config).modules["mlp_in"]) > 1
    with ExitStack() as stack:
        for block in parts.blocks:
            heads = (getattr(block.attention, name, None) for name in ("q_norm", "k_norm"))
            norms = [block.norm_attention, block.norm_mlp, *filter(None, heads)]
            for norm in norms:
                stack.callback(_first(norm, _constant_scale))
            stack.callback(_activation(block).register_forward_hook(_constant_ratio).remove)
            if gated:
                stack.callback(block.mlp_out.register_forward_pre_hook(_half).remove)
        stack.callback(_first(parts.final_norm, _constant_scale))
        yield


def _first(module: nn.Module, hook: Callable[..., Tensor]) -> Callable[[], None]:
    """Hook a module before all others, so that they see what is really used; how to undo it."""
    return module.register_forward_hook(hook, prepend=True).remove


def _activation(block: Block) -> nn.Module:
    """The one module of an MLP that has neither parameters nor parts, dropout aside."""
    found = [
        module
        for module in block.mlp.modules()
        if not any(True for _ in module.children())
        and not any(True for _ in module.parameters())
        and not isinstance(module, (nn.Dropout, nn.Identity))
    ]
    # an adapter may bring modules of its own, below the linears
    direct = [module for module in block.mlp.children() if module in found]
    if len(direct) != 1:
        raise UserError(
            f"circuit.method=relp: the MLP `{type(block.mlp).__name__}` has {len(direct)}"
            " activation functions where one is expected; take eap-ig-inputs"
        )
    return direct[0]


def _constant_scale(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    stream = arguments[0]
    norm = Norm.of(module, torch.promote_types(stream.dtype, torch.float32))
    _, scale = norm.standardized(stream)
    # the derivative is that of the linear map; the value is the norm's own
    centred = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
    linear = (centred * scale * norm.weight).to(output)
    return linear + (output - linear).detach()


def _constant_ratio(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    before = arguments[0].detach()
    # every activation here (GELU, SiLU and their kin) is x/2 near 0
    ratio = torch.where(before.abs() > 1e-6, output.detach() / before, 0.5)
    linear = arguments[0] * ratio
    return linear + (output - linear).detach()


def _half(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    product = arguments[0]
    return (product / 2 + (product / 2).detach(), *arguments[1:])
