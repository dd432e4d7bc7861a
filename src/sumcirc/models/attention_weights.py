"""Effective weights of attention by head, as attribution and patched runs multiply by them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from sumcirc.models.architectures import Fused
from sumcirc.models.effective_weights import HeadWeights
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.norms import Norm


class AttentionWeights:
    """Effective weights of every attention layer by head, adapters included.

    A layer's columns are its queries, then its keys, then its values. A weight is read from the
    live model when it is first asked for, so take a new object after a training step.

    Args:
        model: the model.
        expand_groups: give every query head a column for its group's key and one for its value.
        dtype: of the weights; by default that of the model.
        limit: bytes that may be kept. If all weights take more, none is kept and each is read again
            whenever it is asked for. None sets no limit.

    Attributes:
        columns: number of columns of a layer.
        kept_bytes: bytes of all weights that are kept in the end.
    """

    def __init__(
        self,
        model: HookedModel,
        expand_groups: bool = False,
        dtype: torch.dtype | None = None,
        limit: int | None = None,
    ) -> None:
        size = model.shape
        self.model, self.dtype = model, dtype or model.model.dtype
        self._group = size.group if expand_groups else 1
        self.columns = size.heads + 2 * size.key_value_heads * self._group
        numbers = size.layers * (self.columns + size.heads) * size.head_width * size.width
        size_in_bytes = numbers * self.dtype.itemsize
        self.kept_bytes = 0 if limit is not None and size_in_bytes > limit else size_in_bytes
        self._kept: dict[tuple[str, int], Tensor] = {}
        self._projections: dict[int, HeadWeights] = {}

    @cached_property
    def norms_attention(self) -> list[Norm]:
        """The norm before attention of every layer."""
        return [Norm.of(block.norm_attention, self.dtype) for block in self.model.blocks]

    @cached_property
    def norms_mlp(self) -> list[Norm]:
        """The norm before the MLP of every layer."""
        return [Norm.of(block.norm_mlp, self.dtype) for block in self.model.blocks]

    def read(self) -> None:
        """Read all projections now."""
        for layer in range(self.model.shape.layers):
            self.projections(layer)
            self.output(layer)

    def projections(self, layer: int) -> HeadWeights:
        """Weights [columns, width, head width] and biases [columns, head width] of a layer."""
        if layer not in self._projections:
            self._projections[layer] = self._read(layer)
        return self._projections[layer]

    def folded(self, layer: int) -> Tensor:
        """Weights with the norm's weight multiplied in and its centring done.

        Returns:
            [columns, head width, width]: V = diag(gamma) W', each row less its mean where the norm
            takes the mean off.
        """

        def make() -> Tensor:
            norm = self.norms_attention[layer]
            weight = (self._read(layer).weight * norm.weight[:, None]).transpose(1, 2)
            if norm.centred:
                weight = weight - weight.mean(-1, keepdim=True)
            return weight.contiguous()

        return self._keep("folded", layer, make)

    def output(self, layer: int) -> Tensor:
        """The output projection by head, [heads, head width, width]."""
        return self._keep(
            "output",
            layer,
            lambda: self.model.attention_output(layer).weight.to(self.dtype).contiguous(),
        )

    @cached_property
    def constants(self) -> list[Tensor]:
        """Columns of every layer where the standardized stream is 0, [columns, head width]."""
        with torch.no_grad():
            return [self._constant(layer) for layer in range(self.model.shape.layers)]

    def by_head(self, output: Tensor) -> Tensor:
        """Split a linear's output [..., out] into its columns, [..., columns, head width]."""
        width = self.model.shape.head_width
        if self.model.fused is Fused.interleaved:
            return output.unflatten(-1, (-1, 3, width)).transpose(-2, -3).flatten(-3, -2)
        return output.unflatten(-1, (-1, width))

    def joined(self, columns: Tensor) -> Tensor:
        """Make a linear's output [..., out] of its columns [..., columns, head width]."""
        if self.model.fused is Fused.interleaved:
            columns = columns.unflatten(-2, (3, -1)).transpose(-2, -3)
            return columns.flatten(-3)
        return columns.flatten(-2)

    def _keep(self, kind: str, layer: int, make: Callable[[], Tensor]) -> Tensor:
        if (kind, layer) in self._kept:
            return self._kept[kind, layer]
        found = make()
        if self.kept_bytes:
            self._kept[kind, layer] = found
        return found

    def _read(self, layer: int) -> HeadWeights:
        found = self.model.query_key_value(layer)
        repeats = (1, self._group, self._group)
        weight, bias = (
            torch.cat([x.repeat_interleave(n, 0) for x, n in zip(parts, repeats, strict=True)])
            for parts in ([one.weight for one in found], [one.bias for one in found])
        )
        return HeadWeights(weight.to(self.dtype), bias.to(self.dtype))

    def _constant(self, layer: int) -> Tensor:
        bias = self.norms_attention[layer].bias[None].to(self.model.model.dtype)
        outputs = [linear(bias) for linear in self.model.blocks[layer].qkv]
        if self._group > 1:
            outputs[1:] = map(self.model.repeated, outputs[1:])
        return torch.cat([self.by_head(one)[0] for one in outputs]).to(self.dtype)
