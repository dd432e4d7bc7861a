"""Batches of pairs, cut to the positions that they use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.models.activations.hooked_model import HookedModel


@dataclass(frozen=True)
class EmbeddedPairs:
    """The token embeddings of B pairs on the model's device.

    Positions at which all B pairs have padding are cut off; T positions remain.

    Attributes:
        items: [B] indices of the pairs, on the CPU.
        columns: range of the T positions that remain.
        mask: [B, T] true at real tokens.
        clean, corrupted: [B, T, width] token embeddings.
        labels: [B, T] index of the span that each token belongs to, negative for none; None if the
            pairs have no spans.
    """

    items: Tensor
    columns: slice
    mask: Tensor
    clean: Tensor
    corrupted: Tensor
    labels: Tensor | None


def batches(
    hooked: HookedModel, pairs: TokenPairs, groups: Iterable[Tensor]
) -> Iterator[EmbeddedPairs]:
    """Yield the embeddings of one group of pairs after another, on the model's device.

    Args:
        hooked: the model, whose token embedding is used.
        pairs: all pairs.
        groups: indices of the pairs in each group, see `attribution.memory.groups`.
    """
    device = hooked.model.device
    labels = pairs.clean.labels() if pairs.clean.spans else None
    for items in groups:
        columns = pairs.columns(items)
        clean, corrupted, mask = pairs.cut(items, device)
        with torch.no_grad():
            clean, corrupted = hooked.embedded(clean), hooked.embedded(corrupted)
        spans = None if labels is None else labels[items][:, columns].to(device)
        yield EmbeddedPairs(items, columns, mask, clean, corrupted, spans)
