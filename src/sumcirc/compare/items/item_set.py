"""What two models are compared on: texts as tokens, and what is read of each.

An item is a document with its reference summary, teacher-forced, or a prompt with two answers. Both
models read the same tokens, so that what differs is of the models, not of texts they wrote. The
metric of an item is the mean over the positions that are read, and higher is better:

    log_probability     log p of the token that comes next in the reference, nats
    logit_difference    logit of the good token less that of the bad one, logits
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from sumcirc.circuits.metrics import LogitDifference, Metric, NegativeLogLikelihood
from sumcirc.data.examples import (
    ALL,
    LAST,
    NONE,
    READ,
    TokenBatch,
    TokenExample,
    by_length,
    collate,
)
from sumcirc.errors import UserError
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import inference

LOG_PROBABILITY, LOGIT_DIFFERENCE = "log_probability", "logit_difference"
UNITS = {LOG_PROBABILITY: "nats", LOGIT_DIFFERENCE: "logits"}


@dataclass(frozen=True, kw_only=True)
class ItemBatch(TokenBatch):
    """Items of one metric side by side, padded on the right.

    Attributes:
        places: [B] the positions of the items among all.
    """

    places: list[int]

    @cached_property
    def metric(self) -> Metric:
        """The negative of the items' metric."""
        if bool((self.bad != NONE).any()):
            return LogitDifference(self.reads, self.good, self.bad)
        return NegativeLogLikelihood(self.reads, self.good)

    def run(self, parts: HookedModel) -> Tensor:
        """The normed last residual stream of a model, [B, T, width]."""
        return parts.hidden(self.attention_mask, input_ids=self.input_ids)

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


class ItemSet:
    """Items of one metric, in batches of similar length.

    Attributes:
        ids: names, in the order of all values.
        metric: LOG_PROBABILITY or LOGIT_DIFFERENCE, the latter where every item has two answers.
        spans: names of the spans, in the order in which they first come.

    Raises:
        UserError: there is none, or only some have a second answer.
    """

    def __init__(self, items: Sequence[TokenExample]) -> None:
        if not items:
            raise UserError("compare: there is no item to compare the models on")
        self.items = list(items)
        self.ids = [item.id for item in items]
        contrasted = [bool((item.bad != NONE).any()) for item in items]
        if any(contrasted) and not all(contrasted):
            name = self.ids[contrasted.index(False)]
            raise UserError(
                f"compare: `{name}` has no second answer, others have; give all or none"
            )
        self.metric = LOGIT_DIFFERENCE if all(contrasted) else LOG_PROBABILITY
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

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[ItemBatch]:
        """All items, similar lengths together; the same batches each time."""
        for places in by_length([len(item) for item in self.items], size):
            batch = collate([self.items[place] for place in places], spans=self.spans)
            yield ItemBatch(**vars(batch.to(device)), places=places)

    def values(self, parts: HookedModel, size: int) -> np.ndarray:
        """The metric of every item under a model, [items], float64."""
        found = np.empty(len(self))
        with inference(parts.model):
            for batch in self.batches(size, parts.unembedding.weight.device):  # type: ignore[arg-type]
                found[batch.places] = batch.read(parts, batch.run(parts)).double().cpu().numpy()
        return found
