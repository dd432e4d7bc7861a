"""Edge scores divided by the spans of the tokens between which an edge carries something.

The score of an edge u -> v is a sum over positions of <D_u, G_v> (`attribution.edge_scores`). For a
query, an MLP or the logits it is divided by the span of the position. For a key or value it is
divided by the span s of its token, and the gradient by the span t of the query that reads it:

    score(u -> v, s, t) = sum over positions p in s of <D_u(p), G_v,t(p)>
    G_v                 = sum over t of G_v,t

The sum over all pairs of spans is the edge's score. The derivative of the metric with respect to
what the queries in t read of a key at s is what patching it for these queries alone changes to
first order (`spans.patching`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.circuits.attribution.edge_scores import at_once
from sumcirc.circuits.attribution.memory import attribution_cost, groups
from sumcirc.circuits.attribution.methods import (
    KEPT,
    AttributionSettings,
    EdgeScores,
    along,
    check,
    points_of,
)
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.metrics import Metric
from sumcirc.circuits.spans.gradients import BLOCK, SpanAccumulator
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.schema import check_divisible
from sumcirc.statistics import Bootstrap, Interval

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SpanScores:
    """The scores of all units on each item.

    Attributes:
        graph: the model's graph.
        units: the spans and the pairs of spans.
        ids: names of the N items.
        documents: [N, pairs, sources, destinations] scores in the metric's unit; 0 where there is
            no unit.
    """

    graph: Graph
    units: SpanPairs
    ids: list[str]
    documents: Tensor

    @property
    def edges(self) -> EdgeScores:
        """The edges' scores, and the contribution of each span's positions to them."""
        spans = self.documents.new_zeros(len(self.ids), len(self.units.names), *self._edges)
        for number, (s, _) in enumerate(self.units.pairs):
            spans[:, s] += self.documents[:, number]
        return EdgeScores(self.graph, self.ids, self.documents.sum(1), spans)

    @property
    def _edges(self) -> tuple[int, ...]:
        return self.graph.exists.shape


def cancelled_share(scores: Values) -> float:
    """Return the share of the units' scores that cancels within edges, from 0 to 1.

    It is 1 - sum over edges |sum over pairs| / sum over edges and pairs |.|; NaN if all are 0.

    Args:
        scores: [pairs, ...] scores of units.
    """
    whole = np.abs(scores).sum()
    return float(1 - np.abs(scores.sum(0)).sum() / whole) if whole else float("nan")


def cancelled(scores: SpanScores, bootstrap: Bootstrap) -> tuple[float, Interval]:
    """Return the cancelled share of the mean scores, and of each document's own.

    The first has no interval: means of resampled documents contain noise of either sign, whose
    absolute values don't cancel.

    Args:
        scores: scores of all units on each document.
        bootstrap: the resamples of documents.

    Returns:
        The share of the mean scores, and the mean over documents of each one's share.
    """
    documents = scores.documents.double().numpy()
    each = np.array([cancelled_share(one) for one in documents])
    interval = bootstrap.interval(lambda pick: each[pick].mean(-1), len(each))
    return cancelled_share(documents.mean(0)), interval


def attribute_spans(
    model: Any,
    pairs: TokenPairs,
    metric: Metric,
    units: SpanPairs,
    settings: AttributionSettings | None = None,
    *,
    batch_size: int = 4,
    memory: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SpanScores:
    """Score every unit of the model on every pair.

    The model is not changed: modes, hooks, parameters' gradients and random state are restored.

    Args:
        model, pairs, metric, settings, batch_size, memory, progress: as in `attribute`.
        units: the pairs of spans, from `SpanPairs.of`.

    Raises:
        UserError: the method can't be divided (`schema.DIVISIBLE`), the scores of all pairs don't
            fit into `memory`, and for the reasons given in `attribute`.
    """
    settings = settings or AttributionSettings()
    check_divisible("circuit.method", settings.method)
    check(metric, settings, batch_size)
    hooked = HookedModel(model)
    graph = Graph(hooked.shape)
    dtype = torch.promote_types(hooked.model.dtype, torch.float32)
    shape = (len(units), *graph.exists.shape)
    passes = AttributionPasses(hooked, graph, metric, pairs, attention=True)
    points = points_of(passes, settings)
    with frozen(hooked.model):
        weights = AttentionWeights(hooked, graph.expand_groups, dtype, KEPT)
        cost = None
        # what is held for all pairs, the weights, and the temporary tensors of the two parts
        fixed = len(pairs) * int(np.prod(shape)) * dtype.itemsize + weights.kept_bytes
        fixed += at_once(hooked.model.device) + 4 * BLOCK * dtype.itemsize
        if memory is not None:
            _require_room(fixed, memory, len(pairs), shape)
            cost = attribution_cost(passes, pairs, max(2, len(points)), len(units.names))
        documents = torch.zeros((len(pairs), *shape), dtype=dtype)
        for batch in batches(hooked, pairs, groups(pairs, metric, batch_size, cost, memory, fixed)):
            assert batch.labels is not None
            labels = batch.labels.masked_fill(~batch.mask, -1)
            sums = SpanAccumulator(weights, graph, len(points), units, labels)
            ends = along(passes, batch, settings, sums)
            documents[batch.items] = sums.unit_scores(ends).to("cpu")
            if progress is not None:
                progress(len(batch.items))
    return SpanScores(graph, units, pairs.names, documents)


def _require_room(fixed: int, memory: int, items: int, shape: tuple[int, ...]) -> None:
    """Raise an error if the scores of all items don't fit."""
    if fixed > memory:
        needed = f"{fixed / 1e9 + 0.01:.2f}"
        raise UserError(
            f"circuit.memory_budget={memory / 1e9:.3g}: the scores of {items} pairs by {shape[0]}"
            f" pairs of spans take {needed} GB; set circuit.memory_budget above that, take fewer"
            " circuit.documents, or circuit.by_span=false"
        )
