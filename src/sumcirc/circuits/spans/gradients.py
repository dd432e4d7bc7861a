"""Gradients at keys and values, divided by the span of the query that reads them.

With P the attention probabilities of a head, O = P V its output and dO the metric's gradient there,
the gradients at its values and keys are sums over queries t,

    dV = P'dO,   dK = scale * dS'Q,   dS = P * (dO V' - rowsum(dO * O)),

so each is divided by summing over the queries of one span at a time. A soft cap c on the raw scores
a multiplies dS by its derivative, 1 - tanh(a / c)^2. What lies between a key and
the output of its projection (rotary embedding, norms) is linear in the gradient, which autograd
takes back span by span. The parts add up to the gradient of the whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sumcirc.circuits.attribution.edge_scores import Accumulator, Ends, view
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.metrics import at_least_float32
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs

BLOCK = 1 << 22  # attention probabilities computed at once


def divided_gradients(
    model: HookedModel,
    layer: int,
    values: ActivationCache,
    gradients: ActivationCache,
    labels: Tensor,
    spans: int,
) -> list[Tensor]:
    """Return the gradients at the outputs of a layer's key and value projections by query span.

    Args:
        model: the model.
        layer: index of the layer.
        values: activations of a pass with `AttributionPasses.attention_keys`, whose graph exists.
        gradients: gradients of that pass.
        labels: [B, T] index of each position's span, negative at padding.
        spans: number of spans.

    Returns:
        For each span the gradient by head, keys first, then values, [B, T, 2 key/value heads, head
        width].
    """
    given: Any = values[HookPoint.ATTENTION, layer]
    written = gradients[HookPoint.HEAD_OUTPUTS, layer]
    keys, read = _at_attention(given, written, labels, spans)
    projected = [values[point, layer] for point in model.projections[-2:]]
    found = []
    for number in range(spans):
        parts = torch.autograd.grad(
            [given.key, given.value],
            projected,
            [keys[number].to(given.key.dtype), read[number].to(given.value.dtype)],
            retain_graph=True,
        )
        heads = torch.cat([model.by_head(part) for part in parts], -2)
        found.append(heads[..., -2 * given.key.shape[1] :, :])  # without queries, if fused
    return found


def _at_attention(
    given: AttentionInputs, written: Tensor, labels: Tensor, spans: int
) -> tuple[Tensor, Tensor]:
    """Return gradients at keys and values by query span, [spans, B, key/value heads, T, width]."""
    items, heads, tokens, width = given.query.shape
    groups = given.key.shape[1]
    query, key, value = (
        at_least_float32(one.detach()) for one in (given.query, given.key, given.value)
    )
    outward = at_least_float32(written).unflatten(-1, (heads, width)).transpose(1, 2)
    keys, read = query.new_zeros(2, spans, items, groups, tokens, width).unbind()
    size = max(1, BLOCK // (heads * tokens))
    for item in range(items):
        for number in labels[item].unique().tolist():
            if number < 0:
                continue
            for rows in (labels[item] == number).nonzero()[:, 0].split(size):
                until = int(rows[-1]) + 1
                one = AttentionInputs(
                    query[item, None, :, rows],
                    key[item, None, :, :until],
                    value[item, None, :, :until],
                    _visible(given, item, rows, until),
                    given.scaling,
                    softcap=given.softcap,
                )
                dk, dv = _backward(one, outward[item, None, :, rows])
                keys[number, item, :, :until] += dk
                read[number, item, :, :until] += dv
    return keys, read


def _visible(given: AttentionInputs, item: int, rows: Tensor, until: int) -> Tensor:
    """Return which of the first `until` keys some rows see, [1, 1, rows, until]."""
    if given.mask is None:
        return (torch.arange(until, device=rows.device) <= rows[:, None])[None, None]
    return given.mask.expand(len(given.query), -1, -1, -1)[item, :1, rows, :until][None]


def _backward(given: AttentionInputs, outward: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients at the keys and values of one item, [key/value heads, S, width]."""
    groups = given.key.shape[1]
    pattern = given.pattern()[0]  # [heads, rows, S]
    query, written = given.query[0], outward[0]

    def grouped(one: Tensor) -> Tensor:
        return one.reshape(groups, -1, one.shape[-1])  # the heads of a group follow each other

    dv = grouped(pattern).mT @ grouped(written)
    slope = (grouped(written) @ given.value[0].mT).view_as(pattern)
    slope = pattern * (slope - (slope * pattern).sum(-1, keepdim=True))
    if given.softcap is not None:
        raw = (grouped(query) @ given.key[0].mT).view_as(pattern) * given.scaling
        slope = slope * (1 - torch.tanh(raw / given.softcap) ** 2)
    dk = grouped(slope).mT @ grouped(query) * given.scaling
    return dk, dv


class SpanAccumulator(Accumulator):
    """Averages gradients as `Accumulator` does, with those at keys and values by query span.

    A layer's columns are the queries; then for each span the keys and values as read from there.

    Args:
        weights, graph, passes: as of `Accumulator`.
        units: the spans, and the pairs of spans between which an edge can act.
        labels: [B, T] index of each position's span, negative at padding.
    """

    def __init__(
        self,
        weights: AttentionWeights,
        graph: Graph,
        passes: int,
        units: SpanPairs,
        labels: Tensor,
    ) -> None:
        super().__init__(weights, graph, passes)
        self.units, self.labels = units, labels
        self.shared = 2 * graph.key_value_destinations
        self.columns = graph.shape.heads + len(units.names) * self.shared

    def _by_head(
        self, layer: int, values: ActivationCache, gradients: ActivationCache
    ) -> tuple[Tensor, Tensor]:
        spans = len(self.units.names)
        divided = divided_gradients(
            self.weights.model, layer, values, gradients, self.labels, spans
        )
        outputs, found = super()._by_head(layer, values, gradients)
        queries, shared = outputs.split([self.graph.shape.heads, self.shared], -2)
        queries_found = found[..., : self.graph.shape.heads, :]
        return (
            torch.cat([queries, *[shared] * spans], -2),
            torch.cat([queries_found, *(one.to(found.dtype) for one in divided)], -2),
        )

    def _project(self, layer: int, narrow: Tensor, rows: Tensor) -> None:
        weight, heads = self.weights.folded(layer), self.graph.shape.heads
        torch.bmm(narrow[:heads], weight[:heads], out=rows[:heads])
        for first in range(heads, self.columns, self.shared):
            some = slice(first, first + self.shared)
            torch.bmm(narrow[some], weight[heads:], out=rows[some])

    @torch.no_grad()
    def unit_scores(self, ends: Ends) -> Tensor:
        """Return the scores of all units, [B, pairs, sources, destinations].

        Args:
            ends: outputs of the sources in both runs.
        """
        graph, units = self.graph, self.units
        shape = (len(ends.embeddings), len(units), *graph.exists.shape)
        found = ends.embeddings.new_zeros(shape, dtype=self.weights.dtype)
        for places, written, room in self._parts(ends):
            for layer in range(graph.shape.layers + 1):
                self._add_units(layer, written, places, room, found)
        return found.mul_(torch.from_numpy(units.exists(graph)).to(found.device))

    def _add_units(
        self, layer: int, written: Tensor, places: slice, room: Tensor, found: Tensor
    ) -> None:
        """Add what one layer's attention and the MLP before it read at some positions."""
        graph, at = self.graph, {pair: i for i, pair in enumerate(self.units.pairs)}
        last, first = layer == graph.shape.layers, 1 if layer else 0
        reads = len(graph.sources) if last else graph.attention_reads(layer)
        heads = 1 if last else graph.shape.heads
        size = first + (1 if last else self.columns)
        gradient = self._gradient(layer, places, view(room, (size, *written.shape[1:])))
        start = graph.mlp_destination(layer - 1) if layer else 0
        own = slice(start, start + first + heads)  # MLP and queries, or MLP and logits
        for row, labels in enumerate(self.labels[:, places]):
            for s in labels.unique().tolist():
                if s < 0:
                    continue
                here = (labels == s).nonzero()[:, 0]
                part = written[:reads, row, here].flatten(1) @ gradient[:, row, here].flatten(1).T
                found[row, at[s, s], :reads, own] += part[:, : first + heads]
                if last:
                    continue
                shared = slice(own.stop, own.stop + self.shared)
                for t, one in enumerate(part[:, first + heads :].split(self.shared, 1)):
                    if (s, t) in at:
                        found[row, at[s, t], :reads, shared] += one
