"""Attention between named spans of an item, by head.

    A(source -> destination) = mean over query positions t in the destination of
                               the sum over keys s in the source, s <= t, of attention[t, s]

Rows of the destination attend to keys of the source; information flows from source to destination,
hence the arrow. A source that comes after the whole destination gets 0. The attention matrix is
computed for some rows at a time: see `models.hooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sumcirc.circuits.metrics import at_least_float32
from sumcirc.compare.items.item_set import LOGIT_DIFFERENCE, ItemBatch, ItemSet
from sumcirc.data.examples import LAST, READ
from sumcirc.errors import UserError
from sumcirc.measures.attention import BLOCK
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs, soft_capped
from sumcirc.models.modes import inference


@dataclass(frozen=True)
class SpanAttention:
    """The shares of attention that heads pay from one set of positions to another.

    Attributes:
        pairs: pairs (source, destination) of names of sets of positions, as in `TokenBatch.at`.
        values: [pairs, layers, heads, items] share of the destination's attention that goes to the
            source, from 0 to 1; NaN if the item lacks one of the two.
    """

    pairs: list[tuple[str, str]]
    values: np.ndarray


def default_pairs(items: ItemSet) -> list[tuple[str, str]]:
    """Return a pair (source, destination) for each span of the items, with the span as the source.

    The destination is the last position for prompts with two answers, and otherwise all positions
    at which predictions are read.

    Args:
        items: the items.
    """
    destination = LAST if items.metric == LOGIT_DIFFERENCE else READ
    return [(span, destination) for span in items.spans]


def span_attention(
    hooked: HookedModel,
    items: ItemSet,
    pairs: Sequence[tuple[str, str]],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> SpanAttention:
    """Measure how much attention each head pays from one set of positions to another.

    Args:
        hooked: the model, including its adapters that are switched on.
        items: the items on which the model is run.
        pairs: pairs (source, destination) of names of sets of positions, as in `TokenBatch.at`.
        batch_size: number of items in a batch.
        progress: called with the number of newly completed items.

    Raises:
        UserError: `pairs` is empty or contains an unknown name, or a layer's attention can't be
            observed.
    """
    if not pairs:
        raise UserError("pairs=[]: no attention to measure; name a source and a destination")
    for positions in dict.fromkeys(name for pair in pairs for name in pair):
        items.check_positions(positions, "pairs")
    size = hooked.shape
    values = np.empty((len(pairs), size.layers, size.heads, len(items)))
    with inference(hooked.model):
        for batch in items.batches(batch_size, hooked.device):
            run = _Run(batch, pairs)
            with hooked.hooks(hooked.at_every_layer(HookPoint.ATTENTION, run.see)):
                batch.run(hooked)
            for layer, found in run.found.items():
                values[:, layer][..., batch.places] = found.cpu().numpy()
            if progress is not None:
                progress(len(batch))
    return SpanAttention(list(pairs), values)


class _Run:
    """Attention on one batch of B items of T positions, for P pairs (source, destination).

    R is the largest number of positions in an item that belong to any destination.

    Attributes:
        found: [P, heads, B] shares of attention, by layer.
    """

    def __init__(self, batch: ItemBatch, pairs: Sequence[tuple[str, str]]) -> None:
        names = list(dict.fromkeys(source for source, _ in pairs))
        ends = list(dict.fromkeys(end for _, end in pairs))
        sources = torch.stack([batch.at(name) for name in names], -1)  # [B, T, sources]
        destinations = torch.stack([batch.at(name) for name in ends], -1)
        self.pairs = [(names.index(source), ends.index(end)) for source, end in pairs]
        self.sources, self.counts = sources, destinations.sum(1)
        self.index, self.real = _packed(destinations.any(-1))
        # [B, R, destinations]; rows that only pad count for none
        at = self.index[..., None].expand(-1, -1, len(ends))
        self.destinations = destinations.gather(1, at) & self.real[..., None]
        self.last = torch.where(self.real, self.index, 0).amax(0).tolist()
        self.found: dict[int, Tensor] = {}

    def see(self, layer: int, attention: AttentionInputs) -> None:
        """Store the shares of a layer's attention in `found`, from its queries and keys."""
        query, key = attention.query, attention.key
        items, heads, length, width = query.shape
        groups = key.shape[1]
        each = torch.arange(items, device=query.device)[:, None]
        query, key = at_least_float32(query), at_least_float32(key)
        sources = self.sources.to(query.dtype)[:, None]
        shares = []
        size = max(1, BLOCK // (items * heads * length))
        for start in range(0, self.index.shape[1], size):
            index = self.index[:, start : start + size]
            until = max(self.last[start : start + size]) + 1
            rows = query.transpose(1, 2)[each, index].transpose(1, 2) * attention.scaling
            # query heads of a group follow each other
            scores = rows.reshape(items, groups, -1, width) @ key[:, :, :until].mT
            scores = soft_capped(scores.reshape(items, heads, -1, until), attention.softcap)
            scores.masked_fill_(~_visible(index, until, attention.mask)[:, None], -torch.inf)
            shares.append(scores.softmax(-1) @ sources[:, :, :until])
        share = torch.cat(shares, 2)  # [B, heads, R, sources]
        total = torch.einsum("brd,bhrs->dshb", self.destinations.to(share.dtype), share)
        mean = total / self.counts.T[:, None, None]  # 0 / 0 is NaN: there is no row
        mean.masked_fill_(~self.sources.any(1).T[:, None], torch.nan)
        self.found[layer] = torch.stack([mean[end, source] for source, end in self.pairs])


def _packed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the true positions of each row of a mask [B, T], as [B, R].

    Also return a mask [B, R] that is false where a row has fewer than R such positions. The index
    there is 0, a position that attends to itself, so that its scores are finite.
    """
    counts = chosen.sum(1)
    most = max(1, int(counts.max()))
    order = chosen.long().argsort(dim=1, descending=True, stable=True)[:, :most]
    real = torch.arange(most, device=chosen.device)[None] < counts[:, None]
    return torch.where(real, order, 0), real


def _visible(index: Tensor, until: int, mask: Tensor | None) -> Tensor:
    """Return a mask [B, rows, until] of the keys to which rows may attend.

    Padding is on the right, so that no token can attend to it.
    """
    if mask is None:
        return torch.arange(until, device=index.device) <= index[..., None]
    each = torch.arange(len(index), device=index.device)[:, None]
    return mask.expand(len(index), -1, -1, -1)[:, 0][each, index][..., :until]
