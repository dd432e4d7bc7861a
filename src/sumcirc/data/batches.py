"""Batches of training and validation pairs; `data.batch_order` decides which items they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.data.batch_order import Division, bucketed_order, steps_per_epoch
from sumcirc.data.encoding import EncodedCorpus
from sumcirc.data.examples import TokenExample, collate
from sumcirc.data.text_batches import TextBatch, TextStream
from sumcirc.errors import UserError


@dataclass
class TrainingBatch:
    """A batch of training sequences, padded on the right, and the tokens that are to be predicted.

    Attention is causal, so no token attends to padding and no attention mask is needed. Positions
    are computed on the host, so that a training step never has to wait for the device.

    Attributes:
        input_ids: [batch, length] token ids.
        positions: [targets] positions from which the labels are predicted, just before each summary
            or EOS token, as indices into the flattened [batch * length].
        labels: [targets] the tokens to be predicted.
        tokens: number of tokens without padding.
        loss_tokens: number of labels that count in the loss: all, or 0 for a batch that stands in
            for a process without items in this step.
        step_tokens: number of labels in the whole optimizer step, over its batches and all
            processes.
        texts: plain texts that are read beside the summaries; None without `kl_penalty`.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    tokens: int
    loss_tokens: int
    step_tokens: int
    texts: TextBatch | None = None

    @classmethod
    def of(cls, examples: Sequence[TokenExample], width: int | None = None) -> TrainingBatch:
        """Make a batch of all given examples, as if it were the only batch of its optimizer step.

        Args:
            examples: the examples, which are padded to the same length.
            width: that length in tokens; None takes the length of the longest example.
        """
        batch = collate(examples, width)
        positions = batch.reads.flatten().nonzero()[:, 0]
        labels, tokens = batch.good.flatten()[positions], int(batch.attention_mask.sum())
        return cls(batch.input_ids, positions, labels, tokens, len(labels), len(labels))

    def to(self, device: torch.device, **options: Any) -> TrainingBatch:
        """Return the same batch on another device (Lightning calls this).

        Args:
            device: the device to move to.
            options: further arguments of `torch.Tensor.to`.
        """
        moved = {
            name: getattr(self, name).to(device, **options)
            for name in ("input_ids", "positions", "labels")
        }
        texts = None if self.texts is None else self.texts.to(device, **options)
        return replace(self, **moved, texts=texts)


class TrainingStream:
    """Iterates over all training batches of a run, and can continue from a saved position.

    Every step has `division.accumulate` batches in every process, even if a pass over the data ends
    with fewer items: a process without items gets a batch that does not count in the loss.

    Args:
        corpus: the training sequences.
        division: how each step is divided into batches and among processes.
        steps: number of optimizer steps of the run.
        seed: seed of the order of items.
        buckets: whether to group items of similar length.
        repeat: number of batches that are repeated throughout the run; None to use all.
        texts: the plain texts that are read with each batch, if there are any.
    """

    def __init__(
        self,
        corpus: EncodedCorpus,
        division: Division,
        steps: int,
        seed: int,
        buckets: bool = True,
        repeat: int | None = None,
        texts: TextStream | None = None,
    ) -> None:
        self.corpus = corpus
        self.texts = texts
        self.division = division
        self.total = steps * division.accumulate
        self.seed = seed
        self.buckets = buckets
        # whole steps: the loss is weighted by the tokens of a step
        self.repeat = None if repeat is None else -(-repeat // division.accumulate)
        self.position = 0
        self._epoch, self._order = -1, list[list[int]]()

    def __len__(self) -> int:
        return self.total

    @property
    def epoch(self) -> float:
        """Number of passes over the data up to and including the current batch, as a fraction."""
        batches = steps_per_epoch(len(self.corpus), self.division.step_size)
        return (self.position + 1) / (batches * self.division.accumulate)

    def __iter__(self) -> Iterator[TrainingBatch]:
        while self.position < self.total:
            step, part = divmod(self.position, self.division.accumulate)
            batch = self._batch(self._items(step % self.repeat if self.repeat else step), part)
            if self.texts is not None:
                batch = replace(batch, texts=self.texts.batch(step, part))
            yield batch
            # a batch is counted when the next one is requested: a checkpoint between the two holds
            # a state that has not seen the batch fetched ahead
            self.position += 1

    def _items(self, step: int) -> list[int]:
        """Return the indices of the items in an optimizer step."""
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
        """Return the number of completed batches, as the position to continue from."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position returned by `state_dict`."""
        self.position = state["position"]


class EvaluationBatches:
    """Iterates over this process's share of the validation items, sorted by length.

    All processes together see every item once. Every process gets the same number of batches, since
    operations across processes wait for all of them. With `batch_size` 1 and shares that differ by
    one item, one batch therefore has two items.

    Args:
        corpus: the validation sequences.
        batch_size: number of items in a batch.
        rank: number of this process, from 0.
        world_size: number of processes.

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
