"""Hook points: named positions in a forward pass, and a cache of the activations there."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor


class HookPoint(StrEnum):
    """A point in the forward pass at which a `HookedModel` reads and replaces activations.

    Below, B is the number of documents, T the number of positions, and S the number of positions of
    the keys. Every point belongs to a layer l, except `embedding`, `final_norm` and `logits`.

        embedding          [B, T, width] what the token embedding adds to the residual stream,
                           without positions
        residual           [B, T, width] residual stream that block l reads; for l = layers, the
                           stream that the final norm reads
        attention_input    [B, T, width] the same stream; replacing it changes only the input of
                           attention
        attention_norm     [B, T, width] output of the norm before attention
        qkv_input          [B, T, width] input of the linear for queries, keys and values
        qkv_projection     [B, T, (heads + 2 key/value heads) * head width] output of that linear,
                           before rotary embeddings and head norms, in the linear's own layout (see
                           `HookedModel.by_head`). Architectures with three linears have
                           `query_input`, `query_projection` and so on instead
        query              [B, heads, T, head width] queries as attention receives them, after
                           rotary embeddings and head norms
        key                [B, key/value heads, S, head width] keys, likewise
        value              [B, key/value heads, S, head width] values
        pattern            [B, heads, T, S] attention probabilities
        attention          all arguments of the attention function (`AttentionInputs`); a
                           replacement is the heads' outputs [B, T, heads, head width]
        head_outputs       [B, T, heads * head width] input of attention's output projection, which
                           is called z in other tools
        attention_scale    [B, T, 1] factor by which the norm after the output projection scales
                           what it reads. Only where the architecture has this norm; it can't be
                           replaced
        attention_output   [B, T, width] what attention adds to the stream
        mlp_input          [B, T, width] residual stream between attention and MLP (with parallel
                           blocks `residual`); replacing it changes only the input of the MLP
        mlp_norm [B, T, width] output of the norm before the MLP
        neurons            [B, T, neurons] input of the MLP's output projection
        mlp_output         [B, T, width] what the MLP adds to the stream
        final_norm         [B, T, width] output of the final norm: the input of the unembedding
        logits             [B, T, vocabulary] output of the unembedding
    """

    EMBEDDING = "embedding"
    RESIDUAL = "residual"
    ATTENTION_INPUT = "attention_input"
    ATTENTION_NORM = "attention_norm"
    QKV_INPUT = "qkv_input"
    QUERY_INPUT = "query_input"
    KEY_INPUT = "key_input"
    VALUE_INPUT = "value_input"
    QKV_PROJECTION = "qkv_projection"
    QUERY_PROJECTION = "query_projection"
    KEY_PROJECTION = "key_projection"
    VALUE_PROJECTION = "value_projection"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    PATTERN = "pattern"
    ATTENTION = "attention"
    HEAD_OUTPUTS = "head_outputs"
    ATTENTION_SCALE = "attention_scale"
    ATTENTION_OUTPUT = "attention_output"
    MLP_INPUT = "mlp_input"
    MLP_NORM = "mlp_norm"
    NEURONS = "neurons"
    MLP_OUTPUT = "mlp_output"
    FINAL_NORM = "final_norm"
    LOGITS = "logits"


# the layer is 0 for points outside the blocks
ActivationKey = tuple[HookPoint, int]


class Activations(Protocol):
    """Anything that returns activations by hook point and layer, from memory or from a file."""

    def __getitem__(self, key: ActivationKey, /) -> Tensor:
        """Return the activation of a hook point and layer."""
        ...


class ActivationCache(dict[ActivationKey, Tensor]):
    """The activations of one pass by hook point and layer, as in `cache[HookPoint.MLP_OUTPUT, 3]`.

    The shapes of the activations are given in `HookPoint`. The layer is 0 at hook points outside
    the blocks.
    """

    def documents(self, which: slice) -> ActivationCache:
        """Return a cache with the activations of some of the documents; its tensors are views.

        Args:
            which: slice of the batch dimension.
        """
        return ActivationCache({key: value[which] for key, value in self.items()})

    def detached(self, points: Collection[HookPoint]) -> ActivationCache:
        """Return a cache with the activations of some hook points, detached from autograd.

        Args:
            points: the hook points to keep.
        """
        return ActivationCache(
            {key: value.detach() for key, value in self.items() if key[0] in points}
        )

    def stacked(self, point: HookPoint) -> Tensor:
        """Return the activations of one hook point at all cached layers, [layers, ...].

        Args:
            point: the hook point.
        """
        layers = sorted(layer for name, layer in self if name == point)
        return torch.stack([self[point, layer] for layer in layers])
