"""The parts of a live model, with or without an adapter, by the names of its anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.errors import UserError
from sumcirc.modeling.anatomy import Fused, anatomy, shape
from sumcirc.modeling.modes import evaluating
from sumcirc.modeling.peft_adapters import require_analysable


@dataclass(frozen=True)
class Block:
    """The modules of one layer; an adapted linear is the adapter's own module."""

    whole: nn.Module
    norm_attention: nn.Module
    attention: nn.Module
    qkv: tuple[nn.Module, ...]
    attn_out: nn.Module
    norm_mlp: nn.Module
    mlp: nn.Module
    mlp_out: nn.Module


@dataclass(frozen=True)
class HeadWeights:
    """Effective weights of one of query, key or value.

    Attributes:
        weight: [heads, width, head width]; heads are key/value heads for keys and values.
        bias: [heads, head width]; zero where the linear has none.
    """

    weight: Tensor
    bias: Tensor


class Parts:
    """Modules of a model that `anatomy` knows.

    Raises:
        UserError: the architecture is not known, or an adapter acts elsewhere than in these
            modules.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        if isinstance(model, PeftModel):
            for name in model.active_adapters:
                require_analysable(model.peft_config[name], "model")
        self.model = base_model(model)
        names = anatomy(self.model.config)
        self.shape = shape(self.model.config)
        self._fused = names.fused
        find = self.model.get_submodule
        self.embedding = find(names.embedding)
        self.final_norm = find(names.final_norm)
        unembedding = self.model.get_output_embeddings()
        assert isinstance(unembedding, nn.Module)
        self.unembedding = unembedding
        self.blocks = []
        for layer in range(self.shape.layers):
            here = f"{names.layers}.{layer}"
            (attn_out,), (mlp_out,) = names.modules["attn_out"], names.modules["mlp_out"]
            self.blocks.append(
                Block(
                    whole=find(here),
                    norm_attention=find(f"{here}.{names.norm_attention}"),
                    attention=find(f"{here}.{names.attention}"),
                    qkv=tuple(find(name) for name in names.linears(layer, "qkv")),
                    attn_out=find(f"{here}.{attn_out}"),
                    norm_mlp=find(f"{here}.{names.norm_mlp}"),
                    mlp=find(f"{here}.{names.mlp}"),
                    mlp_out=find(f"{here}.{mlp_out}"),
                )
            )

    @property
    def backbone(self) -> nn.Module:
        """From tokens to the normed residual stream."""
        return self.model.base_model

    def hidden(self, mask: Tensor | None, **inputs: Tensor) -> Tensor:
        """The normed residual stream [B, T, width] of one pass.

        Positions count real tokens, so padding on either side is right.

        Args:
            mask: [B, T] true or 1 at real tokens; None where all are.
            inputs: `input_ids` [B, T] or `inputs_embeds` [B, T, width].
        """
        positions = None
        if mask is not None:
            mask = mask.long()
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            if bool(mask.all()):
                mask = None  # without one SDPA takes its fastest kernel
        return self.backbone(
            attention_mask=mask, position_ids=positions, use_cache=False, **inputs
        ).last_hidden_state

    def query_key_value(self, layer: int) -> tuple[HeadWeights, HeadWeights, HeadWeights]:
        """Effective weights of query, key and value, before rotary embeddings and head norms."""
        size = self.shape
        found = [effective_weight(linear) for linear in self.blocks[layer].qkv]
        weight = torch.cat([w for w, _ in found], dim=-1)
        bias = torch.cat([b for _, b in found])
        counts = (size.heads, size.key_value_heads, size.key_value_heads)
        if self._fused is Fused.interleaved:
            by_head = weight.unflatten(-1, (size.heads, 3, size.head_width)).permute(2, 1, 0, 3)
            biases = bias.unflatten(-1, (size.heads, 3, size.head_width)).transpose(0, 1)
            q, k, v = (HeadWeights(by_head[i], biases[i]) for i in range(3))
            return q, k, v
        widths = [count * size.head_width for count in counts]
        q, k, v = (
            HeadWeights(
                w.unflatten(-1, (count, size.head_width)).transpose(0, 1),
                b.unflatten(-1, (count, size.head_width)),
            )
            for w, b, count in zip(
                weight.split(widths, -1), bias.split(widths), counts, strict=True
            )
        )
        return q, k, v

    def attention_output(self, layer: int) -> HeadWeights:
        """Effective output projection by head: weight [heads, head width, width], bias [width]."""
        weight, bias = effective_weight(self.blocks[layer].attn_out)
        return HeadWeights(weight.unflatten(0, (self.shape.heads, self.shape.head_width)), bias)


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model, under an adapter if there is one."""
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(found, PreTrainedModel)
    return found


def has_adapter(model: nn.Module) -> bool:
    """Return whether any module has an adapter, also without a `PeftModel` around it."""
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return isinstance(model, PeftModel) or any(isinstance(one, kinds) for one in model.modules())


@torch.no_grad()
def effective_weight(linear: nn.Module) -> tuple[Tensor, Tensor]:
    """What a linear does with its adapter: weight [in, out] and bias [out].

    The module is applied to the identity, so that plain, transposed (GPT-2), adapted and quantized
    linears need no case of their own. Its dropout is off meanwhile.

    Raises:
        UserError: an adapter makes it something else than a linear.
    """
    parameter = next(p for p in linear.parameters() if p.is_floating_point())
    width = input_width(linear)
    eye = torch.eye(width, dtype=parameter.dtype, device=parameter.device)
    with evaluating(linear):
        bias = linear(eye.new_zeros(1, width))[0]
        weight = linear(eye) - bias
        if isinstance(linear, BaseTunerLayer):
            _check_linear(linear, weight, bias)
        return weight, bias


def _check_linear(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Check at a further point that an adapted linear layer is the affine map that was read off."""
    width = len(weight)
    point = torch.linspace(-2, 3, width, dtype=weight.dtype, device=weight.device)[None]
    found, expected = linear(point)[0], (point @ weight)[0] + bias
    # rounding of a sum of `width` products
    allowed = 16 * torch.finfo(weight.dtype).eps * float((point.abs() @ weight.abs()).max())
    if not float((found - expected).abs().max()) <= allowed:
        raise UserError(
            f"model: the adapter ({type(linear).__name__}) makes a linear that depends on what it"
            " reads, so it has no weight to attribute by; merge it into its base, or use"
            " `sumcirc evaluate`"
        )


def input_width(linear: nn.Module) -> int:
    """How many numbers a linear reads."""
    layer = getattr(linear, "base_layer", linear)  # PEFT's name of what it wraps
    width = getattr(layer, "in_features", None) or layer.nx  # GPT-2's Conv1D
    assert isinstance(width, int)
    return width
