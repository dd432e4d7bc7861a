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
        some = one[:, :, :until]
        return some if group == 1 else some.repeat_interleave(group, 1)

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
        # products of these are the tangents of the scores
        left = [] if query is None else [query[:, :, own]]
        right = [] if query is None else [keys]
        if key is not None:
            left.append(some.query)
            right.append(every(key, end))
        if left:
            # in place, since patterns are the largest tensors here
            slope = (torch.cat(left, -1) * given.scaling) @ torch.cat(right, -1).mT
            if given.softcap is not None:
                raw = some.query @ keys.mT * given.scaling
                slope.mul_(1 - torch.tanh(raw / given.softcap) ** 2)
            slope.mul_(pattern)
            slope.addcmul_(pattern, slope.sum(-1, keepdim=True), value=-1)
            found[:, :, own] += slope @ every(given.value, end)
        if value is not None:
            found[:, :, own] += pattern @ every(value, end)
    return found.transpose(1, 2)
