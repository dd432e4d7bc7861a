"""The order of items in training, and how each optimizer step is divided.

Items of similar length in one batch need little padding. Each pass over the data is shuffled and
cut into pools of `POOL` optimizer steps; each pool is sorted by length, and the order of its steps
is shuffled again, so that the order stays random at the scale of training. The items of optimizer
step `n` are a pure function of (seed, n), however they are divided into batches and among
processes: a resumed run continues where it stopped, and gradient accumulation trains on the same
steps as one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POOL = 50  # optimizer steps that are sorted by length together


def bucketed_order(
    lengths: Sequence[int] | np.ndarray, step_size: int, seed: int, epoch: int, buckets: bool = True
) -> list[list[int]]:
    """Return one pass over the data as lists of indices, one list per optimizer step.

    One of the steps may have fewer than `step_size` items.

    Args:
        lengths: number of tokens of each item.
        step_size: number of items in an optimizer step.
        seed: seed of the order.
        epoch: number of the pass over the data; each pass has another order.
        buckets: whether to group items of similar length.
    """
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
    """Return the number of optimizer steps in one pass over the data, an incomplete one included.

    Args:
        items: number of items.
        step_size: items per optimizer step.
    """
    return -(-items // step_size)


@dataclass(frozen=True)
class Division:
    """How the items of one optimizer step are divided into batches and among processes.

    Attributes:
        batch_size: largest number of items in a batch of one process.
        accumulate: number of batches that a process handles in a step, one after another.
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    @property
    def step_size(self) -> int:
        """Number of items in one optimizer step."""
        return self.batch_size * self.accumulate * self.world_size

    def share(self, items: Sequence[int], part: int) -> list[int]:
        """Return the items that this process handles in one batch of a step; there may be none.

        Args:
            items: all items of the step.
            part: number of the batch, from 0 to `accumulate` - 1.
        """
        # dealt out in turn, since neighbours are of similar length
        return np.array_split(items, self.accumulate)[part][self.rank :: self.world_size].tolist()
