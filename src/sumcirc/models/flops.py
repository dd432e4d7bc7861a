"""Counts the floating-point operations of a training step from the model's architecture.

Counted are the matrix multiplications that the model's formulas need, as in the PaLM paper
(Chowdhery et al. 2022, appendix B): linears, adapters, attention and the unembedding, with two
operations for each multiplication and addition. Elementwise operations and the lookup of embeddings
count as nothing. So does what an implementation adds, such as the recomputation of gradient
checkpointing or of fused attention, and the weight norms of DoRA. Attention counts every pair of
positions, also those that a causal or sliding-window mask hides.

A linear needs one multiplication in the forward pass, one in the backward pass for its input's
gradient, and one for its weight's. This is 6 N operations per token for N trained parameters, and 4
N if they are frozen. Below the first trained parameter there is no backward pass, so N is counted
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sumcirc.models.architectures import Architecture, Shape, architecture, shape
from sumcirc.models.unwrapping import base_model


@dataclass(frozen=True)
class TrainingFlops:
    """Coefficients from which the floating-point operations of any batch are computed.

    Attributes:
        token: operations of linears and adapters per position, padding included.
        pair: operations of attention per sequence and pair of its positions.
        target: operations of the unembedding per position whose next token is predicted.
    """

    token: int
    pair: int
    target: int

    @classmethod
    def of(cls, model: nn.Module) -> TrainingFlops:
        """Count a model's operations, given which of its parameters require a gradient.

        Args:
            model: a transformers model, or a PEFT model around one.
        """
        base = base_model(model)
        names, sizes = architecture(base.config), shape(base.config)
        stream = _trains(base.get_submodule(names.embedding))
        token = pair = 0
        for index in range(sizes.layers):
            block = base.get_submodule(f"{names.layers}.{index}")
            linears, attention, stream = _block(block, names, sizes, stream)
            token, pair = token + linears, pair + attention
        return cls(2 * token, 2 * pair, 2 * _unembedding(base, sizes, stream))

    def batch(self, sequences: int, length: int, targets: int) -> int:
        """Return the number of floating-point operations of one training batch.

        Args:
            sequences: number of sequences.
            length: number of positions of each sequence, padding included.
            targets: number of positions to which the unembedding is applied.
        """
        positions = sequences * length
        return self.token * positions + self.pair * positions * length + self.target * targets


def _block(
    block: nn.Module, names: Architecture, sizes: Shape, stream: bool
) -> tuple[int, int, bool]:
    """Return the multiplications of one block, and whether its output requires a gradient.

    Args:
        block: the block, with its adapters.
        names: the block's module names.
        sizes: the model's sizes.
        stream: whether the block's input requires a gradient.

    Returns:
        Multiplications of linears per position, those of attention per pair of positions, and
        whether the residual stream after the block requires a gradient.
    """

    def linears(module: str, needs: bool) -> tuple[int, list[bool]]:
        found = [_linear(block.get_submodule(name), needs) for name in names.modules[module]]
        return sum(count for count, _ in found), [needed for _, needed in found]

    def normed(name: str | None, needs: bool) -> bool:
        return needs or (name is not None and _trains(block.get_submodule(name)))

    qkv, projected = linears("qkv", normed(names.norm_attention, stream))
    scores, mixed = _attention(projected)
    written, attended = linears("attn_out", mixed)
    after = normed(names.norm_attention_output, stream or attended[0])
    read = stream if sizes.parallel else after
    mlp_in, active = linears("mlp_in", normed(names.norm_mlp, read))
    mlp_out, added = linears("mlp_out", any(active))
    out = normed(names.norm_mlp_output, after or added[0])
    pairs = scores * sizes.heads * sizes.head_width
    return qkv + written + mlp_in + mlp_out, pairs, out


def _attention(projected: Sequence[bool]) -> tuple[int, bool]:
    """Return a head's number of matrix multiplications, and whether its output needs a gradient.

    Args:
        projected: whether query, key and value require a gradient; one element if they come from
            one linear.
    """
    query, key, value = projected if len(projected) > 1 else [projected[0]] * 3
    pattern = query or key
    # forward: scores and values; backward: to query, key, value and the attention pattern
    return 2 + query + key + value + pattern, pattern or value


def _linear(linear: nn.Module, needs: bool) -> tuple[int, bool]:
    """Return a linear's multiplications per position, and whether its output requires a gradient.

    Args:
        linear: the linear, or PEFT's layer around it.
        needs: whether the linear's input requires a gradient.
    """
    base = linear.get_base_layer() if isinstance(linear, BaseTunerLayer) else linear
    adapted = isinstance(linear, BaseTunerLayer) and not linear.disable_adapters
    width_in, width_out = _widths(base)
    weight_needs = base.get_parameter("weight").requires_grad
    count = width_in * width_out * (1 + needs + weight_needs)
    # IA3 has no rank; the two matrices of VeRA are frozen
    rank: int = sum(getattr(linear, "r", {}).values()) if adapted else 0
    trained = not hasattr(linear, "vera_A")
    count += rank * width_in * (1 + needs + trained)
    count += rank * width_out * (2 + trained)
    return count, needs or _trains(linear)


def _widths(linear: nn.Module) -> tuple[int, int]:
    if isinstance(linear, Conv1D):
        width_in, width_out = linear.weight.shape
        return width_in, width_out
    # not from the weight, which is packed in a quantized model
    return linear.in_features, linear.out_features  # type: ignore[return-value]


def _unembedding(model: PreTrainedModel, sizes: Shape, stream: bool) -> int:
    """Return the multiplications of the unembedding per position that it is applied to."""
    module = model.get_output_embeddings()
    assert isinstance(module, nn.Module)
    return sizes.width * sizes.vocabulary * (1 + stream + _trains(module))


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
