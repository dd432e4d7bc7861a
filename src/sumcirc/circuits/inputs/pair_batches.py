"""Some items of the pairs at a time, cut to their own length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.models.hooked_model import HookedModel


@dataclass(frozen=True)
class EmbeddedPairs:
    """B items on the model's device; T positions are left after common padding is cut off.

    Attributes:
        items: [B] which of the pairs these are (on the CPU).
        columns: the pairs' positions that are left.
        mask: [B, T] true at real tokens.
        clean, corrupted: [B, T, width] token embeddings.
        labels: [B, T] the number of each token's span, negative in none; None without spans.
    """

    items: Tensor
    columns: slice
    mask: Tensor
    clean: Tensor
    corrupted: Tensor
    labels: Tensor | None


def batches(
    parts: HookedModel, pairs: TokenPairs, groups: Iterable[Tensor]
) -> Iterator[EmbeddedPairs]:
    """Some items after the others, on the model's device.

    Args:
        groups: which items are taken together, see `memory.groups`.
    """
    device = parts.model.device
    labels = pairs.clean.labels() if pairs.clean.spans else None
    for items in groups:
        columns = pairs.columns(items)
        clean, corrupted, mask = pairs.cut(items, device)
        with torch.no_grad():
            clean, corrupted = parts.embedding(clean), parts.embedding(corrupted)
        spans = None if labels is None else labels[items][:, columns].to(device)
        yield EmbeddedPairs(items, columns, mask, clean, corrupted, spans)
