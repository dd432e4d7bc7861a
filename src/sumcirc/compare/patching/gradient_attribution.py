"""Estimated effects of patching each component, for all components from one backward pass.

With M the metric and w what a component writes to the receiver's residual stream, the effect of
patching the component is assumed to be linear:

    M(moved) - M  ~  sum over moved positions of dM/dw . (w moved - w)

For queries, keys, values and patterns, the head's output is computed exactly with the donor's
queries, keys or values; only what comes after it is linearised. This is attribution patching (N.
Nanda, Attribution Patching, 2023) with the donor's run in place of another input's. Patching the
unembedding has no such estimate; its effect is measured in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.modes import frozen

MOVED: dict[str, set[str]] = {
    QUERY: {QUERY},
    KEY: {KEY},
    VALUE: {VALUE},
    PATTERN: {QUERY, KEY},
}


def attributed(receiver: Receiver, parts: Iterable[Component]) -> dict[Component, Tensor]:
    """Return, for each component, the estimated change of the metric if it is patched, [B].

    For the unembedding, the change is measured rather than estimated.

    Args:
        receiver: the receiving model's run on a batch of B items.
        parts: the components whose effects are estimated.
    """
    gradients, settings = _gradients(receiver)
    found: dict[Component, Tensor] = {}
    by_layer: dict[tuple[str, int], Tensor] = {}
    for part in parts:
        if part.kind == UNEMBEDDING:
            found[part] = receiver.patched([[part]])[0] - receiver.metric
            continue
        key = (part.kind, part.layer)
        if key not in by_layer:
            by_layer[key] = _of_layer(receiver, gradients, settings, *key)
        found[part] = by_layer[key][:, part.index]
    return found


def _of_layer(
    receiver: Receiver,
    gradients: ActivationCache,
    settings: dict[int, AttentionInputs],
    kind: str,
    layer: int,
) -> Tensor:
    """Return the estimates for each part of a kind in a layer, [B, parts]."""
    own, theirs = receiver.states, receiver.theirs
    if kind in (ATTENTION, MLP, RESIDUAL):
        key = (HOOK_POINTS[kind], layer)
        return _at_moved(receiver, (gradients[key] * (theirs[key] - own[key])).sum(-1))[:, None]
    # [B, R, heads, head width]: gradient at each head's input to the projection
    hooked, heads = receiver.hooked, (HookPoint.HEAD_OUTPUTS, layer)
    slope = gradients[HookPoint.ATTENTION_OUTPUT, layer]
    weight = receiver.output_weight(layer)
    if kind == OUTPUT:
        sides = ((own, weight), (theirs, receiver.donor.output_weight(layer, slope.device)))
        before, after = (
            (
                torch.einsum("brd,hwd->brhw", slope, matrix)
                * hooked.scaled_heads(side, layer).unflatten(-1, weight.shape[:2])
            ).sum(-1)
            for side, matrix in sides
        )
        return _at_moved(receiver, after - before)
    if heads in gradients:  # through the norm after the projection, whose scale depends on z
        by_head = gradients[heads].unflatten(-1, weight.shape[:2])
    else:
        by_head = torch.einsum("brd,hwd->brhw", slope, weight)
    before = (by_head * own[heads].unflatten(-1, weight.shape[:2])).sum(-1)
    query, key, value = (
        own[point, layer] for point in (HookPoint.QUERY, HookPoint.KEY, HookPoint.VALUE)
    )
    attention = replace(settings[layer], query=query, key=key, value=value, mask=None)
    new = receiver.with_theirs(layer, MOVED[kind], attention).outputs()
    found = _at_moved(receiver, (by_head * new).sum(-1) - before)
    if kind in (KEY, VALUE):
        shape = receiver.hooked.shape
        return found.unflatten(-1, (shape.key_value_heads, shape.group)).sum(-1)
    return found


def _at_moved(receiver: Receiver, values: Tensor) -> Tensor:
    """Sum over the patched positions: [B, R, ...] to [B, ...]."""
    moved = receiver.moved.reshape(*receiver.moved.shape, *[1] * (values.ndim - 2))
    return torch.where(moved, values, 0.0).sum(1)


def _gradients(receiver: Receiver) -> tuple[ActivationCache, dict[int, AttentionInputs]]:
    """Return gradients of the metric at all outputs and residual streams, [B, R, width] each.

    Where a norm follows the output projection, the gradients at the heads' outputs are added. Also
    return each layer's attention settings, as inputs without tensors.
    """
    hooked = receiver.hooked
    settings: dict[int, AttentionInputs] = {}
    empty = torch.empty(0)

    def attend(layer: int, attention: AttentionInputs) -> Tensor:
        settings[layer] = replace(attention, query=empty, key=empty, value=empty, mask=None)
        return receiver.from_start(layer, attention).outputs()

    keys = hooked.every(HookPoint.RESIDUAL, HookPoint.ATTENTION_OUTPUT, HookPoint.MLP_OUTPUT)
    if HookPoint.ATTENTION_SCALE in hooked.head_points:
        keys += hooked.every(HookPoint.HEAD_OUTPUTS)
    with frozen(hooked.model):
        # a copy: tensors made in inference mode can't require gradients
        stream = receiver.states[HookPoint.RESIDUAL, 0].clone().requires_grad_(True)
        with (
            hooked.hooks(hooked.at_every_layer(HookPoint.ATTENTION, attend)),
            hooked.caching(keys) as points,
        ):
            normed = hooked.hidden_from(0, stream, receiver.start)
            total = receiver.batch.read(hooked, normed).sum()
        found = torch.autograd.grad(total, [points[key] for key in keys])
    return ActivationCache(zip(keys, found, strict=True)), settings
