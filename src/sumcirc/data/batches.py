"""Batches of similar length in an order that depends on the seed and position alone.

Items of one length side by side waste little padding. Each pass over the data is shuffled, cut into
pools of `POOL` batches, each pool sorted by length, and its batches shuffled again, so that order
stays random at the scale of training. Batch `n` of a run is a pure function of (seed, n): a
resumed run takes up the stream where it left it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.data.encoding import EncodedPair
from sumcirc.errors import UserError

POOL = 50  # batches sorted together


@dataclass
class Batch:
    """Right-padded sequences; under a causal mask no real token sees a pad, so none is masked.

    Where the loss is read is worked out here, on the host, so that a training step never has to
    wait for the device.

    Attributes:
        input_ids: [batch, length].
        positions: [targets], index into the flattened [batch * length] of the token before each
            summary or EOS token.
        labels: [targets], the tokens there.
        tokens: real tokens, pads not counted.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    tokens: int

    def to(self, device: torch.device, **options: Any) -> Batch:
        """The same batch on another device (Lightning calls this)."""
        moved = {
            name: getattr(self, name).to(device, **options)
            for name in ("input_ids", "positions", "labels")
        }
        return replace(self, **moved)


def collate(pairs: Sequence[EncodedPair], width: int | None = None) -> Batch:
    """Pad sequences on the right, to the longest or to `width` tokens.

    The pad value is 0 whatever the vocabulary: no token's id says what it is.
    """
    width = width or max(len(pair) for pair in pairs)
    ids = np.zeros((len(pairs), width), dtype=np.int64)
    positions = []
    for row, pair in enumerate(pairs):
        ids[row, : len(pair)] = pair.ids
        positions.append(row * width + np.arange(pair.summary_start - 1, len(pair) - 1))
    flat = np.concatenate(positions)
    labels = ids.reshape(-1)[flat + 1]
    tokens = sum(len(pair) for pair in pairs)
    return Batch(torch.from_numpy(ids), torch.from_numpy(flat), torch.from_numpy(labels), tokens)


def bucketed_order(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, buckets: bool = True
) -> list[list[int]]:
    """Indices of one pass over the data as batches; only the last one may be short."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    if buckets:
        pool = POOL * batch_size
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        sizes = np.asarray(lengths)
        order = np.concatenate([p[np.argsort(sizes[p], kind="stable")] for p in pools])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    positions = random.permutation(len(batches)) if buckets else np.arange(len(batches))
    return [batches[i].tolist() for i in positions]


class TrainingStream:
    """`total` batches, pass after pass; knows and restores its position (Lightning's protocol).

    Across processes every process takes its share of each global batch, so one of `world_size`
    processes with batches of n sees what one process with batches of n x world_size sees.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        batch_size: int,
        total: int,
        seed: int,
        buckets: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pairs = pairs
        self.lengths = [len(pair) for pair in pairs]
        self.global_batch = batch_size * world_size
        self.total = total
        self.seed = seed
        self.buckets = buckets
        self.rank = rank
        self.world_size = world_size
        self.position = 0

    def __len__(self) -> int:
        return self.total

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one pass over the data."""
        return batches_per_epoch(len(self.pairs), self.global_batch)

    def __iter__(self) -> Iterator[Batch]:
        epoch = -1
        order: list[list[int]] = []
        while self.position < self.total:
            wanted, index = divmod(self.position, self.batches_per_epoch)
            if wanted != epoch:
                epoch = wanted
                order = bucketed_order(
                    self.lengths, self.global_batch, self.seed, epoch, self.buckets
                )
            yield collate([self.pairs[i] for i in self._share(order[index])])
            # a batch counts once the next one is asked for: a checkpoint between the two is of a
            # state that has not seen the batch already fetched
            self.position += 1

    def _share(self, indices: list[int]) -> list[int]:
        if self.world_size == 1:
            return indices
        # a short global batch is filled from its own start, so that every process has as many
        missing = -len(indices) % self.world_size
        filled = indices + (indices * (missing // len(indices) + 1))[:missing]
        return filled[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, int]:
        """How many batches were done."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that were done."""
        self.position = state["position"]


def batches_per_epoch(items: int, global_batch: int) -> int:
    """Batches of one pass over the data; the last may be short."""
    return -(-items // global_batch)


class EvaluationBatches:
    """Every item once, sorted by length; across processes each takes its share.

    Every process gets the same number of batches, since a collective call in one waits for all;
    so with `batch_size` 1 and shares that differ by one item, one batch holds two.

    Raises:
        UserError: there are fewer items than processes.
    """

    def __init__(
        self, pairs: Sequence[EncodedPair], batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        smallest_share = len(pairs) // world_size
        if smallest_share == 0:
            raise UserError(
                f"data.validation: {len(pairs)} items for {world_size} processes; take more"
                " items, or lower trainer.devices"
            )
        share = sorted(pairs, key=len)[rank::world_size]
        count = min(smallest_share, -(-len(pairs) // (world_size * batch_size)))
        pieces = np.array_split(np.arange(len(share)), count)
        self.batches = [[share[i] for i in piece] for piece in pieces]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return map(collate, self.batches)
