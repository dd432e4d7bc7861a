"""What an edge is scored by: losses of a run, one value per item, lower is better.

Every metric reads the logits at some positions only, so that only these are unembedded; the logits
at position t speak of the token at t+1. An item's value is the mean over its positions.
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
    """A loss of N items.

    Args:
        positions: [N, T] true where logits are read; at least one per item.

    Attributes:
        name: as it stands in records.
        against_clean: compares with the clean run, whose `reference` it needs; there it has its
            minimum, and so no gradient.

    Raises:
        UserError: an item has no position.
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
        """The loss at each position [n]; arguments as for `values`."""

    def reference(self, logits: Tensor) -> Tensor:
        """What to keep of a run, the clean one, to compare others with: log-probabilities."""
        return log_probabilities(logits.detach())

    def values(self, logits: Tensor, items: Tensor, reference: Tensor | None = None) -> Tensor:
        """The loss of each item [B].

        Args:
            logits: [n, vocabulary] at `positions[items]`, row by row.
            items: [B] which of the N items these are; one may come several times.
            reference: [n, vocabulary] of the clean run, where `against_clean`.
        """
        losses = self.by_position(logits, items, reference)
        rows = self.positions[items].nonzero()[:, 0].to(losses.device)
        total = losses.new_zeros(len(items)).index_add(0, rows, losses)
        return total / self.counts[items].to(losses)

    def _at(self, grid: Tensor, items: Tensor, device: torch.device) -> Tensor:
        """Entries of a grid [N, T] at the positions of some items, [n]."""
        return grid[items][self.positions[items]].to(device)


class Divergence(Metric):
    """KL(reference || run) in nats; the reference is the clean run or one that is given.

    Args:
        positions: [N, T] where distributions are compared.
        given: for each item log-probabilities [its positions, vocabulary], for example of the
            frozen base; without it the clean run is the reference.
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
        """KL at each position [n]."""
        if self.given is not None:
            reference = torch.cat([self.given[item] for item in items.tolist()])
        assert reference is not None
        logits = at_least_float32(logits)
        return _Divergence.apply(logits, reference.to(logits))


class LogitDifference(Metric):
    """-(logit of the good token - logit of the bad one).

    Args:
        positions: [N, T] where it is read.
        good: [N], or [N, T] with a token for each position.
        bad: as `good`.
    """

    name = "logit_difference"

    def __init__(self, positions: Tensor, good: Tensor, bad: Tensor) -> None:
        super().__init__(positions)
        self.good, self.bad = (
            (ids[:, None] if ids.ndim == 1 else ids).expand(positions.shape) for ids in (good, bad)
        )

    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """The loss at each position [n]."""
        tokens = torch.stack(
            [self._at(ids, items, logits.device) for ids in (self.bad, self.good)], -1
        )
        found = at_least_float32(logits.gather(-1, tokens))
        return found[:, 0] - found[:, 1]


class NegativeLogLikelihood(Metric):
    """-log p of the tokens that come next in a reference, in nats.

    Args:
        positions: [N, T] where predictions are read.
        targets: [N, T] the token that each position has to predict.
    """

    name = "nll"

    def __init__(self, positions: Tensor, targets: Tensor) -> None:
        super().__init__(positions)
        self.targets = targets

    @classmethod
    def of_tokens(cls, ids: Tensor, tokens: Tensor) -> NegativeLogLikelihood:
        """Of some tokens of an input itself, for example a summary's content words.

        Args:
            ids: [N, T].
            tokens: [N, T] true at the tokens whose probability counts; never the first one.

        Raises:
            UserError: a first token is among them, which nothing predicts; an item has none.
        """
        if bool(tokens[:, 0].any()):
            raise UserError(
                f"metric {cls.name}: the first token of an input is predicted by nothing; start"
                " the reference one token later"
            )
        return cls(torch.roll(tokens.bool(), -1, 1), torch.roll(ids, -1, 1))

    def by_position(self, logits: Tensor, items: Tensor, reference: Tensor | None) -> Tensor:
        """The loss at each position [n]."""
        tokens = self._at(self.targets, items, logits.device)
        logits = at_least_float32(logits)
        return logits.logsumexp(-1) - logits.gather(-1, tokens[:, None])[:, 0]


class _Divergence(torch.autograd.Function):
    """KL by row; its gradient, softmax - reference, is all that is kept.

    A few rows at a time: a vocabulary's row is long, and temporaries of all rows would be the
    largest tensors of a pass.
    """

    ROWS = 16

    @staticmethod
    def forward(ctx: Any, logits: Tensor, reference: Tensor) -> Tensor:
        """Of logits [n, vocabulary] against log-probabilities of the same shape, [n]."""
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
        """The gradient at the logits."""
        (slope,) = ctx.saved_tensors
        return slope * outputs[0][:, None], None


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision widened; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the vocabulary in at least float32."""
    return log_softmax(at_least_float32(logits), -1)
