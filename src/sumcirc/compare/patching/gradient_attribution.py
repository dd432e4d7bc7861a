"""What moving each part would do, all parts at once, from one backward pass of the receiver.

With M the metric and w what a part writes into the receiver's residual stream, the effect of moving
it is taken to be linear there:

    M(moved) - M  ~  sum over moved positions of dM/dw . (w moved - w)

For queries, keys, values and patterns, what the head would write is computed with the donor's part
in place and is exact; linear is only what comes after it. It is attribution patching (N. Nanda,
Attribution Patching, 2023) with the donor's run in place of another input's. Where the unembedding
is moved nothing is to be attributed: its effect is measured, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sumcirc.compare.patching.components import (
    ATTENTION,
    HOOK_POINTS,
    KEY,
    MLP,
    OUTPUT,
    PATTERN,
    QUERY,
    RESIDUAL,
    UNEMBEDDING,
    VALUE,
    Component,
)
from sumcirc.compare.patching.cross_model_patching import Receiver
from sumcirc.models.activation_cache import ActivationCache, HookPoint
from sumcirc.models.hooks import AttentionInputs
from sumcirc.models.modes import frozen

MOVED: dict[str, set[str]] = {
    QUERY: {QUERY},
    KEY: {KEY},
    VALUE: {VALUE},
    PATTERN: {QUERY, KEY},
}


def attributed(receiver: Receiver, parts: Iterable[Component]) -> dict[Component, Tensor]:
    """The estimated change of the metric by each part, [B].

    Args:
        parts: any of the model's.
    """
    gradients, scalings = _gradients(receiver)
    found: dict[Component, Tensor] = {}
    by_layer: dict[tuple[str, int], Tensor] = {}
    for part in parts:
        if part.kind == UNEMBEDDING:
            found[part] = receiver.patched([[part]])[0] - receiver.metric
            continue
        key = (part.kind, part.layer)
        if key not in by_layer:
            by_layer[key] = _of_layer(receiver, gradients, scalings, *key)
        found[part] = by_layer[key][:, part.index]
    return found


def _of_layer(
    receiver: Receiver,
    gradients: ActivationCache,
    scalings: dict[int, tuple[float, int | None]],
    kind: str,
    layer: int,
) -> Tensor:
    """Of each part of a kind in a layer, [B, parts]."""
    own, theirs = receiver.states, receiver.theirs
    if kind in (ATTENTION, MLP, RESIDUAL):
        key = (HOOK_POINTS[kind], layer)
        return _at_moved(receiver, (gradients[key] * (theirs[key] - own[key])).sum(-1))[:, None]
    # [B, R, heads, head width]: the slope at what each head gives to its projection
    slope = gradients[HookPoint.ATTENTION_OUTPUT, layer]
    weight = receiver.parts.attention_output(layer).weight
    by_head = torch.einsum("brd,hwd->brhw", slope, weight)
    heads = (HookPoint.HEAD_OUTPUTS, layer)
    before = (by_head * own[heads].unflatten(-1, weight.shape[:2])).sum(-1)
    if kind == OUTPUT:
        other = receiver.donor.output_weight(layer, slope)
        by_head = torch.einsum("brd,hwd->brhw", slope, other)
        after = (by_head * theirs[heads].unflatten(-1, weight.shape[:2])).sum(-1)
        return _at_moved(receiver, after - before)
    query, key, value = (
        own[point, layer] for point in (HookPoint.QUERY, HookPoint.KEY, HookPoint.VALUE)
    )
    attention = AttentionInputs(query, key, value, None, *scalings[layer])
    new = receiver.with_theirs(layer, MOVED[kind], attention).outputs()
    found = _at_moved(receiver, (by_head * new).sum(-1) - before)
    if kind in (KEY, VALUE):
        shape = receiver.parts.shape
        return found.unflatten(-1, (shape.key_value_heads, shape.group)).sum(-1)
    return found


def _at_moved(receiver: Receiver, values: Tensor) -> Tensor:
    """Sums over the positions that are moved: [B, R, ...] to [B, ...]."""
    moved = receiver.moved.reshape(*receiver.moved.shape, *[1] * (values.ndim - 2))
    return torch.where(moved, values, 0.0).sum(1)


def _gradients(
    receiver: Receiver,
) -> tuple[ActivationCache, dict[int, tuple[float, int | None]]]:
    """Of the metric at all that attention and MLPs write and at the residual stream, [B, R, width].

    Also each layer's scaling and window.
    """
    parts = receiver.parts
    scalings: dict[int, tuple[float, int | None]] = {}

    def attend(layer: int, attention: AttentionInputs) -> Tensor:
        scalings[layer] = attention.scaling, attention.window
        return receiver.from_start(layer, attention).outputs()

    keys = parts.every(HookPoint.RESIDUAL, HookPoint.ATTENTION_OUTPUT, HookPoint.MLP_OUTPUT)
    with frozen(parts.model):
        # a copy: what inference made takes no part in gradients
        stream = receiver.states[HookPoint.RESIDUAL, 0].clone().requires_grad_(True)
        with (
            parts.hooks(parts.at_every_layer(HookPoint.ATTENTION, attend)),
            parts.caching(keys) as points,
        ):
            normed = parts.hidden_from(0, stream, receiver.start)
            total = receiver.batch.read(parts, normed).sum()
        found = torch.autograd.grad(total, [points[key] for key in keys])
    return ActivationCache(zip(keys, found, strict=True)), scalings
