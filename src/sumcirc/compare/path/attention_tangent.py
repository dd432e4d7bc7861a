"""Directional derivative of attention by its queries, keys and values."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sumcirc.models.activations.hooks import AttentionInputs

ROWS = 1 << 22  # entries of attention patterns [heads, queries, keys] computed at once


def attention_tangent(
    given: AttentionInputs, query: Tensor | None, key: Tensor | None, value: Tensor | None
) -> Tensor:
    """Return the directional derivative of the heads' outputs in causal attention.

    Args:
        given: the arguments of attention.
        query: [B, heads, T, head width] tangent of the queries; None for zero.
        key, value: [B, key/value heads, T, head width] tangents of keys and values; None for zero.

    Returns:
        [B, T, heads, head width].
    """
    rows, group = given.query.shape[2], given.query.shape[1] // given.key.shape[1]
    step = max(1, ROWS // (given.query.shape[1] * rows))

    def every(one: Tensor, until: int) -> Tensor:
        return one[:, :, :until].repeat_interleave(group, 1)

    found = torch.zeros_like(given.query)
    for start in range(0, rows, step):
        end = min(rows, start + step)
        own = slice(start, end)
        mask = None if given.mask is None else given.mask[:, :, own, :end]
        some = replace(
            given,
            query=given.query[:, :, own],
            key=given.key[:, :, :end],
            value=given.value[:, :, :end],
            mask=mask,
        )
        pattern, keys = some.pattern(), every(given.key, end)
        slope: Tensor | None = None
        if query is not None:
            slope = query[:, :, own] @ keys.mT
        if key is not None:
            more = some.query @ every(key, end).mT
            slope = more if slope is None else slope + more
        if slope is not None:
            slope = slope * given.scaling
            if given.softcap is not None:
                raw = some.query @ keys.mT * given.scaling
                slope = slope * (1 - torch.tanh(raw / given.softcap) ** 2)
            slope = pattern * (slope - (slope * pattern).sum(-1, keepdim=True))
            found[:, :, own] += slope @ every(given.value, end)
        if value is not None:
            found[:, :, own] += pattern @ every(value, end)
    return found.transpose(1, 2)
