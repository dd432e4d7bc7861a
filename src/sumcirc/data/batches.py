"""Batches of similar length in an order that depends on the seed and position alone.

Items of one length side by side waste little padding. Each pass over the data is shuffled, cut into
pools of `POOL` optimizer steps, each pool sorted by length, and its steps shuffled again, so that
order stays random at the scale of training. The items of optimizer step `n` are a pure function of
(seed, n), however they are divided into batches and among processes: a resumed run takes up the
stream where it left it, and accumulating gradients trains on the same steps as one large batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample, collate
from sumcirc.errors import UserError

POOL = 50  # optimizer steps sorted together


@dataclass
class TrainingBatch:
    """Right-padded sequences and the labels of their summaries, which the loss is read from.

    Under a causal mask no real token sees a pad, so none is masked. Where the loss is read is
    worked out here, on the host, so that a training step never has to wait for the device.

    Attributes:
        input_ids: [batch, length].
        positions: [targets], index into the flattened [batch * length] of the token before each
            summary or EOS token.
        labels: [targets], the tokens there.
        tokens: real tokens, pads not counted.
        loss_tokens: labels that count in the loss: all of them, or none where the batch only keeps
            a process busy that has no items of its own in this step.
        step_tokens: labels of the whole optimizer step, over its batches and all processes.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    tokens: int
    loss_tokens: int
    step_tokens: int

    @classmethod
    def of(cls, examples: Sequence[TokenExample], width: int | None = None) -> TrainingBatch:
        """Pad examples to the longest or to `width` tokens; the batch is a whole step."""
        batch = collate(examples, width)
        positions = batch.reads.flatten().nonzero()[:, 0]
        labels, tokens = batch.good.flatten()[positions], int(batch.attention_mask.sum())
        return cls(batch.input_ids, positions, labels, tokens, len(labels), len(labels))

    def to(self, device: torch.device, **options: Any) -> TrainingBatch:
        """The same batch on another device (Lightning calls this)."""
        moved = {
            name: getattr(self, name).to(device, **options)
            for name in ("input_ids", "positions", "labels")
        }
        return replace(self, **moved)


def bucketed_order(
    lengths: Sequence[int] | np.ndarray, step_size: int, seed: int, epoch: int, buckets: bool = True
) -> list[list[int]]:
    """Indices of one pass over the data as optimizer steps; only one of them may be short."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    if buckets:
        pool = POOL * step_size
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        sizes = np.asarray(lengths)
        order = np.concatenate([p[np.argsort(sizes[p], kind="stable")] for p in pools])
    steps = [order[i : i + step_size] for i in range(0, len(order), step_size)]
    positions = random.permutation(len(steps)) if buckets else np.arange(len(steps))
    return [steps[i].tolist() for i in positions]


def steps_per_epoch(items: int, step_size: int) -> int:
    """Optimizer steps of one pass over the data; the one with what is left over may be short."""
    return -(-items // step_size)


@dataclass(frozen=True)
class Division:
    """How the items of one optimizer step are divided.

    Attributes:
        batch_size: the most items that one process takes at once.
        accumulate: batches of one step, one after another.
        rank: this process.
        world_size: processes side by side.
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    @property
    def step_size(self) -> int:
        """Items of one optimizer step."""
        return self.batch_size * self.accumulate * self.world_size

    def share(self, items: Sequence[int], part: int) -> list[int]:
        """What this process takes of the step's batch number `part`; may be nothing."""
        # processes take turns, since neighbours are of similar length
        return np.array_split(items, self.accumulate)[part][self.rank :: self.world_size].tolist()


class TrainingStream:
    """The batches of `steps` optimizer steps; restores its position (Lightning's protocol).

    Every step has `division.accumulate` batches in every process, also where a pass over the data
    ends in fewer items than that: a process without items gets one that does not count.
    """

    def __init__(
        self,
        corpus: EncodedCorpus,
        division: Division,
        steps: int,
        seed: int,
        buckets: bool = True,
    ) -> None:
        self.corpus = corpus
        self.division = division
        self.total = steps * division.accumulate
        self.seed = seed
        self.buckets = buckets
        self.position = 0
        self._epoch, self._order = -1, list[list[int]]()

    def __len__(self) -> int:
        return self.total

    @property
    def epoch(self) -> float:
        """Passes over the data, the current batch included."""
        batches = steps_per_epoch(len(self.corpus), self.division.step_size)
        return (self.position + 1) / (batches * self.division.accumulate)

    def __iter__(self) -> Iterator[TrainingBatch]:
        while self.position < self.total:
            step, part = divmod(self.position, self.division.accumulate)
            yield self._batch(self._items(step), part)
            # a batch counts once the next one is asked for: a checkpoint between the two is of a
            # state that has not seen the batch already fetched
            self.position += 1

    def _items(self, step: int) -> list[int]:
        """Indices of the items of an optimizer step."""
        size = self.division.step_size
        epoch, index = divmod(step, steps_per_epoch(len(self.corpus), size))
        if epoch != self._epoch:
            self._order = bucketed_order(self.corpus.lengths, size, self.seed, epoch, self.buckets)
            self._epoch = epoch
        return self._order[index]

    def _batch(self, items: list[int], part: int) -> TrainingBatch:
        corpus, share = self.corpus, self.division.share(items, part)
        batch = TrainingBatch.of([corpus[i] for i in share or items[:1]])
        step_tokens = int((corpus.lengths[items] - corpus.prompt_lengths[items]).sum())
        return replace(
            batch, loss_tokens=batch.loss_tokens if share else 0, step_tokens=step_tokens
        )

    def state_dict(self) -> dict[str, int]:
        """How many batches were done."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that were done."""
        self.position = state["position"]


class EvaluationBatches:
    """Every item once, sorted by length; across processes each takes its share.

    Every process gets the same number of batches, since a collective call in one waits for all;
    so with `batch_size` 1 and shares that differ by one item, one batch holds two.

    Raises:
        UserError: there are fewer items than processes.
    """

    def __init__(
        self, corpus: EncodedCorpus, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        smallest_share = len(corpus) // world_size
        if smallest_share == 0:
            raise UserError(
                f"data.validation: {len(corpus)} items for {world_size} processes; take more"
                " items, or lower trainer.devices"
            )
        share = np.argsort(corpus.lengths, kind="stable")[rank::world_size]
        count = min(smallest_share, -(-len(corpus) // (world_size * batch_size)))
        self.corpus = corpus
        self.batches = [piece.tolist() for piece in np.array_split(share, count)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TrainingBatch]:
        return (TrainingBatch.of([self.corpus[i] for i in batch]) for batch in self.batches)
