"""Passes through a live model whose activations and gradients are used by attribution.

What a source writes is read at the input of the attention's output projection (heads; with the
scale of the norm after it, if there is one) and at the MLP's output; what a destination reads at
the outputs of the query, key and value projections, at the MLP's norm and at the final norm. No
parameter gets a gradient.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import EmbeddedPairs
from sumcirc.circuits.metrics import Metric
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import ActivationCache, ActivationKey, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel

SOURCES = (HookPoint.HEAD_OUTPUTS, HookPoint.MLP_OUTPUT)


def gradient_keys(model: HookedModel) -> list[ActivationKey]:
    """Return the keys of the activations whose gradients `Accumulator.add` takes.

    Args:
        model: the model.
    """
    last = (HookPoint.RESIDUAL, model.shape.layers)
    return [*model.every(*model.projections, HookPoint.MLP_NORM), last]


def read_keys(model: HookedModel) -> list[ActivationKey]:
    """Return the keys of what norms read, whose values `Accumulator.add` takes beside gradients.

    Args:
        model: the model.
    """
    return model.every(HookPoint.ATTENTION_INPUT, HookPoint.MLP_INPUT)


class AttributionPasses:
    """Forward and backward passes of a model on pairs, which record activations and gradients.

    Args:
        model: the model.
        graph: the model's graph of sources and destinations.
        metric: the metric whose gradients are taken, created for the items of `pairs`.
        pairs: clean and corrupted inputs.
        attention: whether `gradients` also records the arguments of attention, and returns the
            gradients at the heads' outputs; the graph of the pass is then kept for further
            gradients.

    Attributes:
        gradient_keys: keys of the activations at which `gradients` returns gradients.
        source_keys: keys of the activations that what the sources write is computed from.
        keys: keys of all activations that `gradients` records, besides `attention_keys`.
        attention_keys: keys of the arguments of attention (`AttentionInputs`), if wanted.

    Raises:
        UserError: the metric was created for other items or positions, or reads padding.
    """

    def __init__(
        self,
        model: HookedModel,
        graph: Graph,
        metric: Metric,
        pairs: TokenPairs,
        attention: bool = False,
    ) -> None:
        _check(metric, pairs)
        self.model, self.graph, self.metric = model, graph, metric
        self.gradient_keys = gradient_keys(model)
        self.source_keys = model.every(*model.head_points, HookPoint.MLP_OUTPUT)
        self.keys = [*self.gradient_keys, *read_keys(model), *self.source_keys]
        self.attention_keys = model.every(HookPoint.ATTENTION) if attention else []
        if attention:
            self.gradient_keys += model.every(HookPoint.HEAD_OUTPUTS)

    def run(
        self,
        embeddings: Tensor,
        mask: Tensor,
        keys: Collection[ActivationKey] = (),
        replaced: tuple[ActivationKey, Tensor] | None = None,
    ) -> tuple[Tensor, ActivationCache]:
        """Run the model once.

        Args:
            embeddings: [B, T, width] token embeddings, which are the model's input.
            mask: [B, T] true at real tokens.
            keys: keys of the activations to record.
            replaced: key of an activation to replace, and its new value; None to replace nothing.

        Returns:
            The residual stream after the final norm [B, T, width], and the recorded activations. If
            `graph.expand_groups` is set, keys and values are recorded for every query head.
        """
        hooks = [] if replaced is None else [(replaced[0], lambda _: replaced[1])]
        with (
            self.model.ungrouped(self.graph.expand_groups),
            self.model.hooks(hooks),
            self.model.caching(keys) as cache,
        ):
            return self.model.hidden(mask, inputs_embeds=embeddings), cache

    def logits(self, hidden: Tensor, items: Tensor, columns: slice) -> Tensor:
        """Return the logits at the positions that the metric reads.

        Args:
            hidden: [B, T, width] residual stream after the final norm.
            items: [B] indices of the pairs.
            columns: the range of T positions of the pairs that `hidden` contains.

        Returns:
            [n, vocabulary] for the n positions read in these items, item by item.
        """
        where = self.metric.positions[items][:, columns].to(hidden.device)
        return self.model.unembedding(hidden[where])

    @torch.no_grad()
    def sources(self, batch: EmbeddedPairs, embeddings: Tensor) -> tuple[ActivationCache, Tensor]:
        """Run the model without gradients and return the outputs of its heads and MLPs.

        Args:
            batch: the batch of items, of which only the mask is used.
            embeddings: [B, T, width] token embeddings, which are the model's input.

        Returns:
            The outputs of the heads and MLPs, and the residual stream after the final norm
            [B, T, width].
        """
        hidden, cache = self.run(embeddings, batch.mask, self.source_keys)
        return cache, hidden

    @torch.no_grad()
    def clean(self, batch: EmbeddedPairs) -> tuple[ActivationCache, Tensor | None]:
        """Run the model on the clean inputs without gradients.

        Args:
            batch: the batch of items.

        Returns:
            The outputs of the heads and MLPs, and the reference with which the metric compares if
            its `against_clean` is true (None for other metrics).
        """
        cache, hidden = self.sources(batch, batch.clean)
        if not self.metric.against_clean:
            return cache, None
        return cache, self.metric.reference(self.logits(hidden, batch.items, batch.columns))

    def gradients(
        self,
        batch: EmbeddedPairs,
        embeddings: Tensor,
        reference: Tensor | None,
        replaced: tuple[ActivationKey, Tensor] | None = None,
    ) -> tuple[ActivationCache, ActivationCache]:
        """Run the model and compute gradients of the metric, summed over items.

        Args:
            batch: the batch of items.
            embeddings: [B, T, width] token embeddings, which are the model's input.
            reference: the reference that `clean` returned; None if the metric needs no reference.
            replaced: key of an activation to replace, and its new value; None to replace nothing.

        Returns:
            The activations at `keys`, and the gradients at `gradient_keys`.
        """
        hidden, cache = self.run(
            embeddings.detach().requires_grad_(),
            batch.mask,
            [*self.keys, *self.attention_keys],
            replaced,
        )
        logits = self.logits(hidden, batch.items, batch.columns)
        loss = self.metric.values(logits, batch.items, reference).sum()
        del hidden, logits
        # only where an output is replaced may a position have no path to the loss; elsewhere a
        # missing path is the fault of a hook, and must not be taken for a gradient of 0
        unused = replaced is not None
        found = torch.autograd.grad(
            loss,
            [cache[key] for key in self.gradient_keys],
            retain_graph=bool(self.attention_keys),
            allow_unused=unused,
            materialize_grads=unused,
        )
        return cache, ActivationCache(zip(self.gradient_keys, found, strict=True))


def _check(metric: Metric, pairs: TokenPairs) -> None:
    places, mask = metric.positions, pairs.attention_mask
    if places.shape != mask.shape:
        raise UserError(
            f"metric {metric.name}: made for [items, tokens] {list(places.shape)} where the"
            f" pairs have {list(mask.shape)}; make it from the same pairs"
        )
    padded = (places.to(mask.device) & ~mask).any(1).nonzero().flatten().tolist()
    if padded:
        raise UserError(
            f"metric {metric.name}: reads padding in item `{pairs.names[padded[0]]}`; keep its"
            " positions within the attention mask"
        )
