"""Effective weights of attention by head, in the form that attribution and patched runs use."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.norms import Norm


class AttentionWeights:
    """Effective weights of every attention layer by head, including adapters.

    The query, key and value projections of a layer are stacked along the first dimension, with one
    entry (a "column") per head: first all queries, then all keys, then all values. Weights are
    computed from the model when they are first accessed, so create a new object after each training
    step.

    Args:
        model: the model.
        expand_groups: whether every query head gets its own copy of its group's key and value.
        dtype: type of the weights; None for the model's type.
        limit: number of bytes that the weights may take in memory. If all weights together take
            more, none is stored, and each is computed again on every access. None sets no limit.

    Attributes:
        columns: number of columns in a layer.
        kept_bytes: number of bytes that the weights take once all are stored; 0 if none is stored.
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
        self._wide = torch.promote_types(self.dtype, torch.float32)
        self._expand = expand_groups
        self.columns = size.heads + 2 * (size.heads if expand_groups else size.key_value_heads)
        numbers = size.layers * (self.columns + size.heads) * size.head_width * size.width
        size_in_bytes = numbers * self.dtype.itemsize
        self.kept_bytes = 0 if limit is not None and size_in_bytes > limit else size_in_bytes
        self._kept: dict[tuple[str, int], Any] = {}
        self._constants: dict[int, Tensor] = {}

    @cached_property
    def norms_attention(self) -> list[Norm]:
        """For each layer, the norm before attention, in at least float32."""
        return [self.model.norm(block.norm_attention, self._wide) for block in self.model.blocks]

    @cached_property
    def norms_mlp(self) -> list[Norm]:
        """For each layer, the norm before the MLP, in at least float32."""
        return [self.model.norm(block.norm_mlp, self._wide) for block in self.model.blocks]

    def read(self) -> None:
        """Compute the weights of all layers, instead of each when it is first accessed.

        These are the results of `folded` and `output`. They are stored unless they take more than
        `limit` bytes.
        """
        for layer in range(self.model.shape.layers):
            self.folded(layer)
            self.output(layer)

    def folded(self, layer: int) -> Tensor:
        """Return a layer's query, key and value projections with the preceding norm folded in.

        The norm is the one before attention. Applied to the residual stream divided by sigma
        (`Norm.standardized`), the result gives the queries, keys and values without the term
        `constant`.

        Args:
            layer: index of the layer.

        Returns:
            [columns, head width, width]: the transposed projection W' times the norm's weight, with
            each row centred if the norm subtracts the mean.
        """

        def make() -> Tensor:
            norm = self.norms_attention[layer]
            found = self.model.head_weights(layer, self._expand)
            weight, bias = found.weight.to(self._wide), found.bias.to(self._wide)
            self._constants[layer] = (norm.bias @ weight + bias).to(self.dtype)
            weight = (weight * norm.weight[:, None]).transpose(1, 2)
            if norm.centred:
                weight = weight - weight.mean(-1, keepdim=True)
            return weight.to(self.dtype).contiguous()

        return self._keep("folded", layer, make)

    def constant(self, layer: int) -> Tensor:
        """Return the constant term of a layer's queries, keys and values.

        Args:
            layer: index of the layer.

        Returns:
            [columns, head width]: the bias of the norm before attention, after projection, plus the
            bias of the projection.
        """
        if layer not in self._constants:
            self.folded(layer)
        return self._constants[layer]

    def output(self, layer: int) -> Tensor:
        """Return the map from a layer's heads to the stream, [heads, head width, width].

        It applies to `HookedModel.scaled_heads`.

        Args:
            layer: index of the layer.
        """
        return self._keep(
            "output",
            layer,
            lambda: self.model.attention_output(layer).weight.to(self.dtype).contiguous(),
        )

    def _keep(self, kind: str, layer: int, make: Callable[[], Any]) -> Any:
        if (kind, layer) in self._kept:
            return self._kept[kind, layer]
        found = make()
        if self.kept_bytes:
            self._kept[kind, layer] = found
        return found
