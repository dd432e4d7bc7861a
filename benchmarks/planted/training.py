"""Training of small models: their loss, and the optimizer that minimizes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.planted.changes import Weights, logits

BATCH = 18  # sequences


def train(numbers: Sequence[Tensor], loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Minimize a loss by Adam, with a learning rate that first rises and then falls to almost 0.

    Args:
        numbers: the tensors that are trained, in place.
        loss: returns the loss on a new batch.
        steps: optimizer steps.
        rate: the largest learning rate.
    """
    optimizer = torch.optim.Adam(numbers, lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def loss_of(weights: Weights, batches: Sequence[tuple[Tensor, Tensor]], heads: int) -> Tensor:
    """Return the sum of the cross-entropies of several models, each on its own batch, in nats.

    Args:
        weights: weights of the models, as for `changes.logits`.
        batches: for each model, [sequences, tokens] token ids and labels of equal shapes.
        heads: number of heads of the models.
    """
    tokens, labels = (torch.stack(side) for side in zip(*batches, strict=True))
    found = logits(weights, tokens, heads)
    return len(batches) * cross_entropy(found.flatten(0, 2), labels.flatten())
