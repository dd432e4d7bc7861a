"""Metrics by which edges are scored: losses of a run, one value per item, lower is better.

Every metric reads the logits at some positions only, so that only these are unembedded; the logits
at position t predict the token at t+1. An item's value is the mean over its positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sumcirc.errors import UserError


class Metric(ABC):
    """A loss with one value for each of N items, computed from logits at some positions.

    Args:
        positions: [N, T] true at the positions whose logits are read, of which each item has at
            least one.

    Attributes:
        name: name of the metric in records.
        against_clean: whether the metric compares a run with the clean run. It then needs the clean
            run's `reference`, and has no gradient at the clean run, where it is smallest.

    Raises:
        UserError: an item has no such position.
    """

    name: str
    against_clean = False

    def __init__(self, positions: Tensor) -> None:
        self.positions = positions.bool()
        self.counts = self.positions.sum(1)
        empty = (self.counts == 0).nonzero().flatten().tolist()
        if empty:
            raise UserError(
                f"metric {self.name}: items {empty[:5]} have no position to be measured at; leave"
                " them out or widen the positions"
            )

    @abstractmethod
    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """Return the loss at each position that is read in some items, [n].

        Args:
            logits, items, reference: as in `values`, where n is the number of these positions.
        """

    def reference(self, logits: Tensor) -> Tensor:
        """Return the log-probabilities of a run, for use as `reference` in comparisons with it.

        Args:
            logits: [n, vocabulary] logits of the run.
        """
        return log_probabilities(logits.detach())

    def values(self, logits: Tensor, items: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return the loss of each item, which is the mean over its positions.

        Args:
            logits: [n, vocabulary] logits at the n positions that are read in these items, item by
                item.
            items: [B] indices of the items, which may repeat.
            reference: [n, vocabulary] the clean run's `reference` if `against_clean` is true,
                otherwise None.

        Returns:
            [B] losses.
        """
        losses = self.by_position(logits, items, reference)
        rows = self.positions[items].nonzero()[:, 0].to(losses.device)
        total = losses.new_zeros(len(items)).index_add(0, rows, losses)
        return total / self.counts[items].to(losses)

    def _at(self, grid: Tensor, items: Tensor, device: torch.device) -> Tensor:
        """Select entries of a grid [N, T] at the positions of some items, [n]."""
        return grid[items][self.positions[items]].to(device)


class Divergence(Metric):
    """KL(reference || run) of next-token distributions, in nats.

    Args:
        positions: [N, T] true where distributions are compared.
        given: for each item, the reference's log-probabilities [positions of the item, vocabulary],
            such as those of the frozen base; None to use the clean run as reference.
    """

    def __init__(self, positions: Tensor, given: Sequence[Tensor] | None = None) -> None:
        self.name = "kl_clean_patched" if given is None else "kl_reference_patched"
        super().__init__(positions)
        self.against_clean = given is None
        self.given = given
        lengths = None if given is None else [len(one) for one in given]
        if lengths is not None and lengths != self.counts.tolist():
            raise UserError(
                f"metric {self.name}: distributions given at {lengths[:5]} positions an item where"
                f" {self.counts.tolist()[:5]} are compared; give one for every position"
            )

    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """Return the KL at each position that is read in some items, [n].

        Args:
            logits, items, reference: as in `values`, where n is the number of these positions.
        """
        if self.given is not None:
            reference = torch.cat([self.given[item] for item in items.tolist()])
        assert reference is not None
        logits = at_least_float32(logits)
        return _Divergence.apply(logits, reference.to(logits))


class LogitDifference(Metric):
    """-(logit of the good token - logit of the bad token), where the good token is correct.

    Args:
        positions: [N, T] true where the difference is read.
        good: ids of the good tokens: [N], or [N, T] with one token per position.
        bad: ids of the bad tokens, in the same shape as `good`.
    """

    name = "logit_difference"

    def __init__(self, positions: Tensor, good: Tensor, bad: Tensor) -> None:
        super().__init__(positions)
        self.good, self.bad = (
            (ids[:, None] if ids.ndim == 1 else ids).expand(positions.shape) for ids in (good, bad)
        )

    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """Return the loss at each position that is read in some items, [n].

        Args:
            logits, items, reference: as in `values`, where n is the number of these positions.
        """
        tokens = torch.stack(
            [self._at(ids, items, logits.device) for ids in (self.bad, self.good)], -1
        )
        found = at_least_float32(logits.gather(-1, tokens))
        return found[:, 0] - found[:, 1]


class WrongFact(LogitDifference):
    """logit of a wrong fact - logit of the right one; higher if the wrong one is likelier.

    It is also log p(wrong) - log p(right), since the two logits have the same normalizer.

    Args:
        positions: [N, T] true where facts begin.
        right, wrong: [N, T] ids of the first tokens of the right and of the wrong fact.
    """

    name = "wrong_fact"

    def __init__(self, positions: Tensor, right: Tensor, wrong: Tensor) -> None:
        super().__init__(positions, right, wrong)


class NegativeLogLikelihood(Metric):
    """-log p of given next tokens, such as those of a reference summary, in nats.

    Args:
        positions: [N, T] true where predictions are read.
        targets: [N, T] id of the token that each position has to predict.
    """

    name = "nll"

    def __init__(self, positions: Tensor, targets: Tensor) -> None:
        super().__init__(positions)
        self.targets = targets

    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """Return the loss at each position that is read in some items, [n].

        Args:
            logits, items, reference: as in `values`, where n is the number of these positions.
        """
        tokens = self._at(self.targets, items, logits.device)
        logits = at_least_float32(logits)
        return logits.logsumexp(-1) - logits.gather(-1, tokens[:, None])[:, 0]


class _Divergence(torch.autograd.Function):
    """KL by row, storing only its gradient, softmax - reference.

    Processes a few rows at a time: a row has the size of the vocabulary, and temporaries for all
    rows would be the largest tensors of a pass.
    """

    ROWS = 16

    @staticmethod
    def forward(ctx: Any, logits: Tensor, reference: Tensor) -> Tensor:
        """Return KL [n] of logits [n, vocabulary] from log-probabilities of the same shape."""
        wanted = ctx.needs_input_grad[0]
        slope = torch.empty_like(logits) if wanted else None
        found = logits.new_empty(len(logits))
        for start in range(0, len(logits), _Divergence.ROWS):
            rows = slice(start, start + _Divergence.ROWS)
            here, other = log_softmax(logits[rows], -1), reference[rows]
            likely = other.exp()
            found[rows] = torch.linalg.vecdot(likely, other - here)
            if slope is not None:
                torch.sub(here.exp_(), likely, out=slope[rows])
        if slope is not None:
            ctx.save_for_backward(slope)
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        """Return the gradient at the logits."""
        (slope,) = ctx.saved_tensors
        return slope * outputs[0][:, None], None


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32; return float32 and float64 unchanged.

    Args:
        values: a floating-point tensor.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the log-softmax over the vocabulary, in float32 or float64.

    Args:
        logits: [..., vocabulary].
    """
    return log_softmax(at_least_float32(logits), -1)
