"""What two models are compared on: texts as tokens, and what is read of each.

An item is a document with its reference summary, teacher-forced, or a prompt with two answers. Both
models read the same tokens, so that what differs is of the models, not of texts they wrote. The
metric of an item is the mean over the positions that are read, and higher is better:

    log_probability     log p of the token that comes next in the reference, nats
    logit_difference    logit of the good token less that of the bad one, logits
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sumcirc.circuits.metrics import LogitDifference, Metric, NegativeLogLikelihood
from sumcirc.errors import UserError
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import inference

NOTHING = -1  # in `good` and `bad`: not read here, or there is no other answer
LOG_PROBABILITY, LOGIT_DIFFERENCE = "log_probability", "logit_difference"
UNITS = {LOG_PROBABILITY: "nats", LOGIT_DIFFERENCE: "logits"}
LAST, READ, ALL = "last", "read", "all"  # positions beside the names of spans


@dataclass(frozen=True)
class Item:
    """One text.

    Attributes:
        ids: [length] tokens.
        good: [length] the token that is to come after each position that is read; NOTHING
            elsewhere.
        bad: [length] the other answer there; NOTHING everywhere where there is none.
        spans: [length] true at the tokens of each named span.
    """

    id: str
    ids: np.ndarray
    good: np.ndarray
    bad: np.ndarray
    spans: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def reads(self) -> np.ndarray:
        """[length] true where predictions are read."""
        return self.good != NOTHING


@dataclass(frozen=True)
class Batch:
    """Items side by side, padded on the right.

    Attributes:
        places: of the items among all.
        ids: [B, T].
        mask: [B, T] true at real tokens.
        reads: [B, T] true where predictions are read.
        good, bad: [B, T] tokens, see `Item`.
        spans: [B, T] by name; false everywhere for an item without such a span.
        metric: the negative of the items' metric.
    """

    places: list[int]
    ids: Tensor
    mask: Tensor
    reads: Tensor
    good: Tensor
    bad: Tensor
    spans: dict[str, Tensor]
    metric: Metric

    def __len__(self) -> int:
        return len(self.places)

    def run(self, parts: HookedModel) -> Tensor:
        """The normed last residual stream of a model, [B, T, width]."""
        return parts.hidden(self.mask, input_ids=self.ids)

    def read(self, parts: HookedModel, normed: Tensor) -> Tensor:
        """The metric of every item.

        Args:
            normed: [B, T, width], or [copies * B, T, width] with the items over and over; or of the
                last positions alone, which hold all that are read.

        Returns:
            [B], or [copies * B].
        """
        return self.score(parts.unembedding, normed)

    def score(self, unembedding: nn.Module, normed: Tensor) -> Tensor:
        """`read` with another model's unembedding."""
        copies = len(normed) // len(self)
        reads = self.reads[:, -normed.shape[1] :].repeat(copies, 1)
        items = torch.arange(len(self)).repeat(copies)
        return -self.metric.values(unembedding(normed[reads]), items)

    def at(self, positions: str) -> Tensor:
        """[B, T] true at `last` (the last that is read), `read`, `all`, or a span's tokens."""
        if positions == READ:
            return self.reads
        if positions == ALL:
            return self.mask
        if positions == LAST:
            at = torch.arange(self.ids.shape[1], device=self.ids.device)
            last = torch.where(self.reads, at, -1).amax(1)
            return at[None] == last[:, None]
        return self.spans[positions]


class Items:
    """Items of one metric, in batches of similar length.

    Attributes:
        ids: names, in the order of all values.
        metric: LOG_PROBABILITY or LOGIT_DIFFERENCE, the latter where every item has two answers.
        spans: names of the spans, in the order in which they first come.

    Raises:
        UserError: there is none, or only some have a second answer.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        if not items:
            raise UserError("compare: there is no item to compare the models on")
        self.items = list(items)
        self.ids = [item.id for item in items]
        told = [bool((item.bad != NOTHING).any()) for item in items]
        if any(told) and not all(told):
            name = self.ids[told.index(False)]
            raise UserError(
                f"compare: `{name}` has no second answer, others have; give all or none"
            )
        self.metric = LOGIT_DIFFERENCE if all(told) else LOG_PROBABILITY
        self.spans = list(dict.fromkeys(name for item in items for name in item.spans))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def unit(self) -> str:
        """Of the metric."""
        return UNITS[self.metric]

    def check_positions(self, positions: str, setting: str) -> None:
        """Refuse positions that no item has.

        Raises:
            UserError: `positions` names no span; the known ones are named.
        """
        known = (LAST, READ, ALL, *self.spans)
        if positions not in known:
            raise UserError(f"{setting}={positions}: choose from {', '.join(known)}")

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """All items, similar lengths together; the same batches each time."""
        order = sorted(range(len(self)), key=lambda i: len(self.items[i].ids))
        for start in range(0, len(order), size):
            yield self._batch(order[start : start + size], torch.device(device))

    def _batch(self, places: list[int], device: torch.device) -> Batch:
        items = [self.items[place] for place in places]
        width = max(len(item.ids) for item in items)

        def grid(rows: Sequence[np.ndarray], fill: int | bool) -> Tensor:
            found = torch.full((len(rows), width), fill)
            for row, values in zip(found, rows, strict=True):
                row[: len(values)] = torch.from_numpy(values)
            return found.to(device)

        lengths = torch.tensor([len(item.ids) for item in items], device=device)
        reads = grid([item.reads for item in items], False)
        good = grid([item.good for item in items], NOTHING)
        bad = grid([item.bad for item in items], NOTHING)
        nowhere = [np.zeros(len(item.ids), dtype=bool) for item in items]
        spans = {
            name: grid(
                [item.spans.get(name, empty) for item, empty in zip(items, nowhere, strict=True)],
                False,
            )
            for name in self.spans
        }
        return Batch(
            places,
            grid([item.ids for item in items], 0),
            torch.arange(width, device=device)[None] < lengths[:, None],
            reads,
            good,
            bad,
            spans,
            LogitDifference(reads, good, bad)
            if self.metric == LOGIT_DIFFERENCE
            else NegativeLogLikelihood(reads, good),
        )

    def values(self, parts: HookedModel, size: int) -> np.ndarray:
        """The metric of every item under a model, [items], float64."""
        found = np.empty(len(self))
        with inference(parts.model):
            for batch in self.batches(size, parts.unembedding.weight.device):  # type: ignore[arg-type]
                found[batch.places] = batch.read(parts, batch.run(parts)).double().cpu().numpy()
        return found
