"""Some items of the pairs at a time, cut to their own length, and a metric read from a pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sumcirc.circuits.attribution.tracing import Trace, Tracer
from sumcirc.circuits.inputs.token_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric
from sumcirc.errors import UserError
from sumcirc.models.hooked_model import HookedModel


@dataclass(frozen=True)
class Batch:
    """B items on the model's device; T positions are left after common padding is cut off.

    Attributes:
        items: [B] which of the pairs these are (on the CPU).
        columns: the pairs' positions that are left.
        mask: [B, T] true at real tokens.
        clean, corrupted: [B, T, width] token embeddings.
        kinds: [B, T] spans, or None.
    """

    items: Tensor
    columns: slice
    mask: Tensor
    clean: Tensor
    corrupted: Tensor
    kinds: Tensor | None


def batches(
    parts: HookedModel, pairs: TokenPairs, groups: Iterable[Tensor], by_span: bool
) -> Iterator[Batch]:
    """Some items after the others, on the model's device.

    Args:
        groups: which items are taken together, see `memory.groups`.
    """
    device = parts.model.device
    for items in groups:
        columns = pairs.columns(items)
        with torch.no_grad():
            clean, corrupted = (
                parts.embedding(ids[items][:, columns].to(device))
                for ids in (pairs.clean_ids, pairs.corrupted_ids)
            )
        kinds = pairs.kinds if by_span else None
        spans = None if kinds is None else kinds[items][:, columns].to(device)
        mask = pairs.attention_mask[items][:, columns].to(device)
        yield Batch(items, columns, mask, clean, corrupted, spans)


class Reader:
    """Reads a metric from passes.

    Raises:
        UserError: the metric is made for other items or positions, or looks at padding.
    """

    def __init__(self, tracer: Tracer, metric: Metric, pairs: TokenPairs) -> None:
        places, mask = metric.positions, pairs.attention_mask
        if places.shape != mask.shape:
            raise UserError(
                f"metric {metric.name}: made for [items, tokens] {list(places.shape)} where the"
                f" pairs have {list(mask.shape)}; make it from the same pairs"
            )
        padded = (places.to(mask.device) & ~mask).any(1).nonzero().flatten().tolist()
        if padded:
            raise UserError(
                f"metric {metric.name}: reads padding in item `{pairs.ids[padded[0]]}`; keep its"
                " positions within the attention mask"
            )
        self.tracer, self.metric = tracer, metric

    def logits(self, hidden: Tensor, items: Tensor, columns: slice) -> Tensor:
        """[n, vocabulary] where the metric reads."""
        where = self.metric.positions[items][:, columns].to(hidden.device)
        return self.tracer.parts.unembedding(hidden[where])

    @torch.no_grad()
    def look(self, batch: Batch, embeddings: Tensor) -> tuple[Trace, Tensor]:
        """What the sources write in a pass without gradients, and its normed stream."""
        self.tracer.sources_only = True
        try:
            hidden = self.tracer.run(embeddings, batch.mask)
        finally:
            self.tracer.sources_only = False
        return self.tracer.trace, hidden

    def clean(self, batch: Batch) -> tuple[Trace, Tensor | None]:
        """The clean run's sources and, where the metric compares with it, its reference."""
        trace, hidden = self.look(batch, batch.clean)
        with torch.no_grad():
            if not self.metric.against_clean:
                return trace, None
            logits = self.logits(hidden, batch.items, batch.columns)
            return trace, self.metric.reference(logits)

    def gradients(
        self, batch: Batch, embeddings: Tensor, reference: Tensor | None
    ) -> tuple[Trace, Trace]:
        """A pass and the gradients of the items' losses where its trace has a value."""
        trace = Trace()  # a former pass must not be kept while this one runs
        self.tracer.trace = trace
        hidden = self.tracer.run(embeddings.detach().requires_grad_(), batch.mask)
        trace = self.tracer.trace
        logits = self.logits(hidden, batch.items, batch.columns)
        loss = self.metric.values(logits, batch.items, reference).sum()
        del hidden, logits
        assert trace.final is not None
        places = [*trace.projections.values(), *trace.normed.values(), trace.final]
        # only where an output is replaced may a place have no way to the loss; elsewhere that
        # would be a hook that cut it off, and must not pass for a gradient of 0
        replaced = self.tracer.instead is not None
        found = iter(
            torch.autograd.grad(loss, places, allow_unused=replaced, materialize_grads=replaced)
        )
        projections = {key: next(found) for key in trace.projections}
        normed = {key: next(found) for key in trace.normed}
        return trace, Trace(projections=projections, normed=normed, final=next(found))
