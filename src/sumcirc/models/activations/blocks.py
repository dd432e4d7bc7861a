"""Modules of one layer, where hook points are among them, and hooks in the stream's unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooks import Side
from sumcirc.models.activations.norms import Norm
from sumcirc.models.architectures import Architecture

OUTSIDE = (HookPoint.EMBEDDING, HookPoint.FINAL_NORM, HookPoint.LOGITS)
# name of a module of the model or of a block, or index of a linear in `Block.qkv`
PLACES: dict[HookPoint, tuple[str | int, Side]] = {
    HookPoint.EMBEDDING: ("embedding", "output"),
    HookPoint.RESIDUAL: ("whole", "input"),
    HookPoint.ATTENTION_INPUT: ("norm_attention", "input"),
    HookPoint.ATTENTION_NORM: ("norm_attention", "output"),
    HookPoint.QKV_INPUT: (0, "input"),
    HookPoint.QUERY_INPUT: (0, "input"),
    HookPoint.KEY_INPUT: (1, "input"),
    HookPoint.VALUE_INPUT: (2, "input"),
    HookPoint.QKV_PROJECTION: (0, "output"),
    HookPoint.QUERY_PROJECTION: (0, "output"),
    HookPoint.KEY_PROJECTION: (1, "output"),
    HookPoint.VALUE_PROJECTION: (2, "output"),
    HookPoint.HEAD_OUTPUTS: ("attn_out", "input"),
    HookPoint.ATTENTION_SCALE: ("norm_attention_output", "input"),
    HookPoint.ATTENTION_OUTPUT: ("norm_attention_output", "output"),
    HookPoint.MLP_INPUT: ("norm_mlp", "input"),
    HookPoint.MLP_NORM: ("norm_mlp", "output"),
    HookPoint.NEURONS: ("mlp_out", "input"),
    HookPoint.MLP_OUTPUT: ("norm_mlp_output", "output"),
    HookPoint.FINAL_NORM: ("final_norm", "output"),
    HookPoint.LOGITS: ("unembedding", "output"),
}
# where a norm of the block is absent, the module that reads or writes the stream in its place
WITHOUT_NORM: dict[str, tuple[str, Side]] = {
    "norm_attention": ("attention", "input"),
    "norm_mlp": ("mlp", "input"),
    "norm_attention_output": ("attn_out", "output"),
    "norm_mlp_output": ("mlp", "output"),
}


@dataclass(frozen=True)
class Block:
    """The modules of one layer; an adapted linear is the adapter's module around it.

    Attributes:
        whole: the block itself.
        norm_attention, norm_mlp: the norms before attention and before the MLP.
        norm_attention_output, norm_mlp_output: the norms of what attention and MLP add to the
            stream. All four are `nn.Identity` where the architecture has no such norm.
        attention, mlp: the modules that read the residual stream and add to it.
        qkv: the linears for query, key and value: three, or one for all.
        attn_out, mlp_out: the output projections of attention and MLP.
        activation: the MLP's activation function.
        head_norms: the norms of each head's query and key; empty if there are none.
    """

    whole: nn.Module
    norm_attention: nn.Module
    attention: nn.Module
    qkv: tuple[nn.Module, ...]
    attn_out: nn.Module
    norm_attention_output: nn.Module
    norm_mlp: nn.Module
    mlp: nn.Module
    activation: nn.Module
    mlp_out: nn.Module
    norm_mlp_output: nn.Module
    head_norms: tuple[nn.Module, ...]

    @classmethod
    def of(cls, model: nn.Module, names: Architecture, layer: int) -> Block:
        """Return the modules of a layer.

        Args:
            model: the transformers model.
            names: names of the modules in this family of models.
            layer: index of the layer.
        """

        def find(name: str | None) -> nn.Module:
            if name is None:
                return nn.Identity()
            return model.get_submodule(f"{names.layers}.{layer}{name and '.'}{name}")

        (attn_out,), (mlp_out,) = names.modules["attn_out"], names.modules["mlp_out"]
        return cls(
            whole=find(""),
            norm_attention=find(names.norm_attention),
            attention=find(names.attention),
            qkv=tuple(find(name) for name in names.modules["qkv"]),
            attn_out=find(attn_out),
            norm_attention_output=find(names.norm_attention_output),
            norm_mlp=find(names.norm_mlp),
            mlp=find(names.mlp),
            activation=find(names.activation),
            mlp_out=find(mlp_out),
            norm_mlp_output=find(names.norm_mlp_output),
            head_norms=tuple(find(name) for name in names.head_norms),
        )


def see_scale(norm: Norm, function: Callable[[Tensor], Any], stream: Tensor) -> None:
    """Call a function on the factor by which a norm scales what it reads."""
    if function(norm.standardized(stream)[1]) is not None:
        raise ValueError(f"hook point {HookPoint.ATTENTION_SCALE}: can't be replaced")


def on_own_copy(function: Callable[[Tensor], Any], stream: Tensor) -> Tensor:
    """Call a function on a view, so that gradients there leave out the residual connection."""
    view = stream.view_as(stream)
    found = function(view)
    return view if found is None else found


def on_scaled(factor: float, function: Callable[[Tensor], Any], output: Tensor) -> Tensor | None:
    """Call a function on a module's output times the constant by which the model multiplies it."""
    written = output * factor
    found = function(written)
    if found is None and not written.requires_grad:
        return None
    return (written if found is None else found) / factor


def on_logits(function: Callable[[Tensor], Any], output: Any) -> Any:
    """Call a function on the logits of a whole model's output."""
    found = function(output.logits)
    if found is not None:
        output.logits = found
    return output
