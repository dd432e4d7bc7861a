"""Some items of the pairs at a time, cut to their own length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sumcirc.circuits.inputs.token_pairs import TokenPairs
from sumcirc.models.hooked_model import HookedModel


@dataclass(frozen=True)
class Batch:
    """B items on the model's device; T positions are left after common padding is cut off.

    Attributes:
        items: [B] which of the pairs these are (on the CPU).
        columns: the pairs' positions that are left.
        mask: [B, T] true at real tokens.
        clean, corrupted: [B, T, width] token embeddings.
        kinds: [B, T] spans, or None.
    """

    items: Tensor
    columns: slice
    mask: Tensor
    clean: Tensor
    corrupted: Tensor
    kinds: Tensor | None


def batches(
    parts: HookedModel, pairs: TokenPairs, groups: Iterable[Tensor], by_span: bool
) -> Iterator[Batch]:
    """Some items after the others, on the model's device.

    Args:
        groups: which items are taken together, see `memory.groups`.
    """
    device = parts.model.device
    for items in groups:
        columns = pairs.columns(items)
        with torch.no_grad():
            clean, corrupted = (
                parts.embedding(ids[items][:, columns].to(device))
                for ids in (pairs.clean_ids, pairs.corrupted_ids)
            )
        kinds = pairs.kinds if by_span else None
        spans = None if kinds is None else kinds[items][:, columns].to(device)
        mask = pairs.attention_mask[items][:, columns].to(device)
        yield Batch(items, columns, mask, clean, corrupted, spans)
