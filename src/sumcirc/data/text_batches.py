"""Batches of plain texts that are read beside the batches of a training.

They are ordered as training batches are (`data.batch_order`): the texts of optimizer step `n` are a
pure function of (seed, n), so a resumed run reads the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sumcirc.data.batch_order import Division, bucketed_order, steps_per_epoch
from sumcirc.data.examples import padded


@dataclass
class TextBatch:
    """Texts, padded on the right, of which every token but the first is to be predicted.

    Attributes:
        input_ids: [texts, length] token ids.
        positions: [targets] positions from which the tokens are predicted, as indices into the
            flattened [texts * length].
        rows: [targets] the text that each position is of.
        counts: [texts] number of tokens of each text that are predicted.
        texts: number of texts that count: all, or 0 for a batch that stands in for a process
            without texts in this step.
        step_texts: number of texts in the whole optimizer step, over its batches and all processes.
    """

    input_ids: Tensor
    positions: Tensor
    rows: Tensor
    counts: Tensor
    texts: int
    step_texts: int

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> TextBatch:
        """Make a batch of all given texts, as if it were the only batch of its optimizer step.

        Args:
            texts: token ids of each text, two or more.
        """
        ids = padded(texts, 0)
        counts = torch.tensor([len(text) - 1 for text in texts])
        reads = torch.arange(ids.shape[1]) < counts[:, None]
        rows = reads.nonzero()[:, 0]
        positions = reads.flatten().nonzero()[:, 0]
        return cls(ids, positions, rows, counts, len(texts), len(texts))

    def to(self, device: torch.device, **options: Any) -> TextBatch:
        """Return the same batch on another device.

        Args:
            device: the device to move to.
            options: further arguments of `torch.Tensor.to`.
        """
        names = ("input_ids", "positions", "rows", "counts")
        moved = {name: getattr(self, name).to(device, **options) for name in names}
        return replace(self, **moved)


class TextStream:
    """The texts that are read with each batch of a training.

    Args:
        texts: token ids of each text, two or more.
        division: how the texts of a step are divided into batches and among processes.
        seed: seed of their order.
    """

    def __init__(self, texts: Sequence[Sequence[int]], division: Division, seed: int) -> None:
        self.texts = texts
        self.division = division
        self.seed = seed
        self._lengths = [len(text) for text in texts]
        self._epoch, self._order = -1, list[list[int]]()

    def batch(self, step: int, part: int) -> TextBatch:
        """Return the texts that this process reads with a batch.

        Args:
            step: the optimizer step, from 0.
            part: number of the batch in the step.
        """
        size = self.division.step_size
        epoch, index = divmod(step, steps_per_epoch(len(self.texts), size))
        if epoch != self._epoch:
            self._order = bucketed_order(self._lengths, size, self.seed, epoch)
            self._epoch = epoch
        items = self._order[index]
        share = self.division.share(items, part)
        found = TextBatch.of([self.texts[i] for i in share or items[:1]])
        return replace(found, texts=len(share), step_texts=len(items))
