"""What moving each part would do, all parts at once, from one backward pass of the receiver.

With M the metric and w what a part writes into the receiver's residual stream, the effect of moving
it is taken to be linear there:

    M(moved) - M  ~  sum over moved positions of dM/dw . (w moved - w)

For queries, keys, values and patterns, what the head would write is computed with the donor's part
in place and is exact; linear is only what comes after it. It is attribution patching (N. Nanda,
Attribution Patching, 2023) with the donor's run in place of another input's. Where the readout is
moved nothing is to be attributed: its effect is measured, in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from sumcirc.circuits.residual import Hook, hooked
from sumcirc.compare.components import (
    ATTENTION,
    KEY,
    MLP,
    OUTPUT,
    PATTERN,
    QUERY,
    READOUT,
    RESIDUAL,
    VALUE,
    Component,
)
from sumcirc.compare.patching import Receiver, run_from
from sumcirc.compare.states import causal_attention
from sumcirc.modeling.modes import still

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
        if part.kind == READOUT:
            found[part] = receiver.patched([[part]])[0] - receiver.states["metric"]
            continue
        key = (part.kind, part.layer)
        if key not in by_layer:
            by_layer[key] = _of_layer(receiver, gradients, scalings, *key)
        found[part] = by_layer[key][:, part.index]
    return found


def _of_layer(
    receiver: Receiver,
    gradients: dict[str, Tensor],
    scalings: dict[int, tuple[float, int | None]],
    kind: str,
    layer: int,
) -> Tensor:
    """Of each part of a kind in a layer, [B, parts]."""
    own, theirs = receiver.states, receiver.theirs
    if kind in (ATTENTION, MLP, RESIDUAL):
        change = theirs[f"{kind}.{layer}"] - own[f"{kind}.{layer}"]
        slope = gradients[f"{kind}.{layer}"]
        return _at_moved(receiver, (slope * change).sum(-1))[:, None]
    # [B, R, heads, head width]: the slope at what each head gives to its projection
    slope = gradients[f"{ATTENTION}.{layer}"]
    weight = receiver.parts.attention_output(layer).weight
    by_head = torch.einsum("brd,hwd->brhw", slope, weight)
    before = (by_head * own[f"heads.{layer}"]).sum(-1)
    if kind == OUTPUT:
        other = receiver.donor.output_weight(layer, slope)
        by_head = torch.einsum("brd,hwd->brhw", slope, other)
        return _at_moved(receiver, (by_head * theirs[f"heads.{layer}"]).sum(-1) - before)
    new = _with_theirs(receiver, layer, MOVED[kind], *scalings[layer])
    found = _at_moved(receiver, (by_head * new).sum(-1) - before)
    if kind in (KEY, VALUE):
        shape = receiver.parts.shape
        return found.unflatten(-1, (shape.key_value_heads, shape.group)).sum(-1)
    return found


def _with_theirs(
    receiver: Receiver, layer: int, moved: set[str], scaling: float, window: int | None
) -> Tensor:
    """Every head's output with the donor's part in place, [B, R, heads, head width]."""
    own, whole = receiver.states, slice(None)
    query = (receiver.theirs if QUERY in moved else own)[f"{QUERY}.{layer}"]
    key, value = own[f"{KEY}.{layer}"], own[f"{VALUE}.{layer}"]
    if KEY in moved:
        key = receiver.mixed(KEY, layer, key, whole)
    if VALUE in moved:
        value = receiver.mixed(VALUE, layer, value, whole)
    return causal_attention(query, key, value, scaling, window)


def _at_moved(receiver: Receiver, values: Tensor) -> Tensor:
    """Sums over the positions that are moved: [B, R, ...] to [B, ...]."""
    moved = receiver.moved.reshape(*receiver.moved.shape, *[1] * (values.ndim - 2))
    return torch.where(moved, values, 0.0).sum(1)


def _gradients(
    receiver: Receiver,
) -> tuple[dict[str, Tensor], dict[int, tuple[float, int | None]]]:
    """Of the metric at all that attention and MLPs write and at the residual stream, [B, R, width].

    Also each layer's scaling and window.
    """
    parts = receiver.parts
    points: dict[str, Tensor] = {}
    scalings: dict[int, tuple[float, int | None]] = {}

    def attend(
        layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        scalings[layer] = scaling, window
        key, value = receiver.keys_and_values(layer, key, value)
        return causal_attention(query, key, value, scaling, window)

    with still(parts.model):
        # a copy: what inference made takes no part in gradients
        stream = receiver.states[f"{RESIDUAL}.0"].clone().requires_grad_(True)
        readers = [*(block.whole for block in parts.blocks), parts.final_norm]
        hooks: list[Hook] = [(readers[0], "input", lambda hidden: stream)]
        see: Callable[[str, Tensor], None] = points.__setitem__
        for layer, reader in enumerate(readers):
            hooks.append((reader, "input", partial(see, f"{RESIDUAL}.{layer}")))
        for layer, block in enumerate(parts.blocks):
            hooks.append((block.attn_out, "output", partial(see, f"{ATTENTION}.{layer}")))
            hooks.append((block.mlp, "output", partial(see, f"{MLP}.{layer}")))
        with hooked(hooks):
            normed = run_from(receiver, 0, stream, attend)
            total = receiver.batch.read(parts, normed).sum()
        names = list(points)
        found = torch.autograd.grad(total, [points[name] for name in names])
    return dict(zip(names, found, strict=True)), scalings
