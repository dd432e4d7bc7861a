"""Items on which two models are compared: token sequences and the predictions to read.

An item is a document with its reference summary, or a prompt with two answers. Both models read the
same tokens, so differences come from the models, not from texts that they generated. The metric of
an item is the mean over the positions at which predictions are read:

    log_probability     log p of the next token in the reference, nats
    logit_difference    logit of the good token minus logit of the bad one, logits
    wrong_fact          logit of a wrong fact minus logit of the right one, logits

Higher is better, but for `wrong_fact`, whose items have the wrong fact as `good` and the right one
as `bad`.
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
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference

LOG_PROBABILITY, LOGIT_DIFFERENCE = "log_probability", "logit_difference"
WRONG_FACT = "wrong_fact"
UNITS = {LOG_PROBABILITY: "nats", LOGIT_DIFFERENCE: "logits", WRONG_FACT: "logits"}


@dataclass(frozen=True, kw_only=True)
class ItemBatch(TokenBatch):
    """A batch of items with the same metric, padded on the right.

    Attributes:
        places: [B] indices of the items in the ItemSet.
    """

    places: list[int]

    @cached_property
    def metric(self) -> Metric:
        """The loss whose negative is the metric of the items."""
        if bool((self.bad != NONE).any()):
            return LogitDifference(self.reads, self.good, self.bad)
        return NegativeLogLikelihood(self.reads, self.good)

    def run(self, hooked: HookedModel) -> Tensor:
        """Run a model on the batch, and return the output of its final norm, [B, T, width].

        Args:
            hooked: the model.
        """
        return hooked.hidden(self.attention_mask, input_ids=self.input_ids)

    def read(self, hooked: HookedModel, normed: Tensor) -> Tensor:
        """Compute the metric of every item from the output of the final norm.

        Args:
            hooked: the model whose unembedding is applied.
            normed: output of the final norm, [B, T, width], or [copies * B, T, width] if the batch
                was run in several copies; it may be restricted to the last positions if these
                include all positions that are read.

        Returns:
            The metric of each item, [B] or [copies * B].
        """
        return self.score(hooked.unembedding, normed)

    def score(self, unembedding: nn.Module, normed: Tensor) -> Tensor:
        """Compute the metric of every item as `read` does, with a given unembedding.

        Args:
            unembedding: maps outputs of the final norm to logits.
            normed: output of the final norm, in a shape that `read` accepts.
        """
        copies = len(normed) // len(self)
        reads = self.reads[:, -normed.shape[1] :].repeat(copies, 1)
        items = torch.arange(len(self)).repeat(copies)
        return -self.metric.values(unembedding(normed[reads]), items)


class ItemSet:
    """Items with the same metric, which can be iterated in batches of similar length.

    Args:
        items: the items on which models are compared.
        metric: name of the metric; None for LOGIT_DIFFERENCE if every item has two answers,
            otherwise LOG_PROBABILITY.

    Attributes:
        ids: names of the items, in the order in which results list them.
        metric: name of the metric.
        spans: names of the spans, in order of first appearance.

    Raises:
        UserError: there are no items, or only some have a second answer.
    """

    def __init__(self, items: Sequence[TokenExample], metric: str | None = None) -> None:
        if not items:
            raise UserError("compare: there is no item to compare the models on")
        self.items = list(items)
        self.ids = [item.id for item in items]
        contrasted = [bool((item.bad != NONE).any()) for item in items]
        if any(contrasted) and not all(contrasted):
            name = self.ids[contrasted.index(False)]
            raise UserError(
                f"compare: `{name}` has no second answer, but others do; give all or none"
            )
        self.metric = metric or (LOGIT_DIFFERENCE if all(contrasted) else LOG_PROBABILITY)
        self.spans = list(dict.fromkeys(name for item in items for name in item.spans))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def unit(self) -> str:
        """Unit of the metric: `nats` or `logits`."""
        return UNITS[self.metric]

    def check_positions(self, positions: str, setting: str) -> None:
        """Check that a name of a set of positions is known.

        Args:
            positions: the name, as in `TokenBatch.at`, such as `last` or the name of a span.
            setting: name of the setting whose value is `positions`, for the error message.

        Raises:
            UserError: no item has such positions; the message lists the known names.
        """
        known = (LAST, READ, ALL, *self.spans)
        if positions not in known:
            raise UserError(f"{setting}={positions}: choose from {', '.join(known)}")

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[ItemBatch]:
        """Yield all items in batches of similar length; every call yields the same batches.

        If all items are read at their last position only, as prompts are, the items of a batch have
        the same length. A patched pass begins at the first position that is read in its batch, so
        it then runs a single position of each item.

        Args:
            size: largest number of items in a batch.
            device: device on which the batches' tensors are placed.
        """
        for places in self._batched(size):
            batch = collate([self.items[place] for place in places], spans=self.spans)
            yield ItemBatch(**vars(batch.to(device)), places=places)

    def _batched(self, size: int) -> list[list[int]]:
        """Return the indices of the items of each batch."""
        lengths = [len(item) for item in self.items]
        if not all(item.reads[-1] and item.reads.sum() == 1 for item in self.items):
            return by_length(lengths, size)
        found = []
        for length in sorted(set(lengths)):
            alike = [place for place, one in enumerate(lengths) if one == length]
            found += [alike[start : start + size] for start in range(0, len(alike), size)]
        return found

    def values(self, hooked: HookedModel, size: int) -> np.ndarray:
        """Return the metric of every item with a given model, [items] float64.

        Args:
            hooked: the model.
            size: number of items in a batch.
        """
        found = np.empty(len(self))
        with inference(hooked.model):
            for batch in self.batches(size, hooked.device):
                found[batch.places] = batch.read(hooked, batch.run(hooked)).double().cpu().numpy()
        return found
