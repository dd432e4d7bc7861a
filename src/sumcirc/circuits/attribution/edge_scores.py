"""Edge scores from the gradients of interpolation steps, at almost no cost beyond the passes.

An edge's score is the sum over positions of <D_u, G_v>: D_u is what source u writes in the
corrupted run minus the clean one, G_v the metric's gradient at what destination v reads, that is
before the norm. For a query, key or value of one head, with g the gradient at the projection's
output q = W y + b, y = gamma * xhat + beta and V = diag(gamma) W',

    G = J'W'g = (V g - mean(V g) - xhat c) / sigma,    c = mean((V g) * xhat) = g . (V'xhat) / d.

Centring V's columns makes the mean vanish, and V'xhat = q - (W beta + b) is the head's own output
minus a constant. So over steps k only sum_k g_k / sigma_k is stored in the narrow space of heads,
and projected once: G = V sum_k(g_k / sigma_k) - sum_k xhat_k c_k / sigma_k. This is exact. The
scores are those of EAP and EAP-IG (Syed et al. 2023, arXiv 2310.10348; Hanna et al. 2024, arXiv
2403.17806).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sumcirc.circuits.graph import Graph
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights

# bytes of source differences and of gradients that are computed at once
AT_ONCE_ON_CPU, AT_ONCE_ON_GPU = 64 << 20, 1 << 30
# destinations in one matrix product with all sources; with 16 it took 1.7 times as long on a CPU
TOGETHER = 64


@dataclass(frozen=True)
class Ends:
    """The outputs of all sources for one batch of pairs, in the corrupted and in the clean run.

    Attributes:
        embeddings: [B, T, width] corrupted minus clean token embeddings.
        mask: [B, T] true at real tokens.
        clean, corrupted: outputs of the heads (`HookedModel.head_points`) and MLPs in each run.
    """

    embeddings: Tensor
    mask: Tensor
    clean: ActivationCache
    corrupted: ActivationCache


def differences(
    weights: AttentionWeights,
    graph: Graph,
    ends: Ends,
    places: slice = slice(None),
    room: Tensor | None = None,
) -> Tensor:
    """Return each source's output in the corrupted run minus that in the clean run; 0 at padding.

    Args:
        weights: weights of the attention layers.
        graph: the model's graph.
        ends: outputs of the sources in both runs.
        places: range of positions to compute; all by default.
        room: flat tensor, large enough for the result, into which the result is written; None to
            allocate one.

    Returns:
        [sources, B, positions, width].
    """
    size, dtype = graph.shape, weights.dtype
    embeddings, mask = ends.embeddings[:, places], ends.mask[:, places]
    shape = (len(graph.sources), *embeddings.shape)
    found = embeddings.new_empty(shape, dtype=dtype) if room is None else view(room, shape)
    found[0] = embeddings

    for layer in range(size.layers):
        corrupted, clean = (
            weights.model.scaled_heads(cache, layer)[:, places].to(dtype)
            for cache in (ends.corrupted, ends.clean)
        )
        heads = corrupted - clean
        narrow = heads.flatten(0, 1).unflatten(-1, (size.heads, -1)).transpose(0, 1)
        rows = found[graph.attention_sources(layer)].flatten(1, 2)
        torch.bmm(narrow, weights.output(layer), out=rows)
        corrupted, clean = (
            cache[HookPoint.MLP_OUTPUT, layer][:, places].to(dtype)
            for cache in (ends.corrupted, ends.clean)
        )
        torch.sub(corrupted, clean, out=found[graph.mlp_source(layer)])
    return found if bool(mask.all()) else found.masked_fill_(~mask[..., None], 0)


def at_once(device: torch.device) -> int:
    """Return the number of bytes of source differences and gradients to compute at once.

    Args:
        device: device on which the scores are computed.
    """
    return AT_ONCE_ON_CPU if device.type == "cpu" else AT_ONCE_ON_GPU


def view(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the beginning of a flat tensor as a tensor of a given shape."""
    return room[: math.prod(shape)].view(shape)


class Accumulator:
    """Averages the gradients of one batch over several passes, and computes edge scores from them.

    All memory is allocated at the first pass. g, c, sigma and xhat are defined at the top of the
    module; all sums over passes use the weights given to `add`.

    Args:
        weights: weights of the attention layers.
        graph: the model's graph.
        passes: number of passes that will be added.
        frozen_scale: whether to treat the sigma of every norm as a constant (RelP).

    Attributes:
        columns: number of gradients of a layer's attention: one for each of its destinations.
        heads: [layers, B, T, columns, head width] sum of g / sigma.
        shares: [layers, B, T, columns, passes] c / sigma of each pass; the dimension `passes` has
            size 0 if `frozen_scale` is set.
        streams: [layers, B, T, passes, width] xhat of each pass; the dimension `passes` has size 0
            if `frozen_scale` is set.
        mlps: [layers, B, T, width] sum of the gradients at the input of each MLP's norm.
        final: [B, T, width] sum of the gradients at the last residual stream.
    """

    heads: Tensor
    shares: Tensor
    streams: Tensor
    mlps: Tensor
    final: Tensor

    def __init__(
        self, weights: AttentionWeights, graph: Graph, passes: int, frozen_scale: bool = False
    ) -> None:
        self.weights, self.graph, self.frozen_scale = weights, graph, frozen_scale
        self.passes = 0 if frozen_scale else passes
        self.columns = weights.columns
        self.added = 0

    def _prepare(self, stream: Tensor) -> None:
        size, columns = self.graph.shape, self.columns
        grid = (size.layers, *stream.shape[:2])

        def zeros(*shape: int) -> Tensor:
            return stream.new_zeros(shape, dtype=self.weights.dtype)

        self.heads = zeros(*grid, columns, size.head_width)
        self.shares = zeros(*grid, columns, self.passes)
        self.streams = zeros(*grid, self.passes, size.width)
        self.mlps = zeros(*grid, size.width)
        self.final = zeros(*stream.shape)

    @torch.no_grad()
    def add(self, values: ActivationCache, gradients: ActivationCache, weight: float) -> None:
        """Add the gradients of one pass to the weighted mean over passes.

        Args:
            values: activations of the pass at `AttributionPasses.keys`.
            gradients: gradients of the metric in the pass at `AttributionPasses.gradient_keys`.
            weight: weight of this pass in the mean over passes.
        """
        last = gradients[HookPoint.RESIDUAL, self.graph.shape.layers]
        if not self.added:
            self._prepare(last)
        for layer in range(self.graph.shape.layers):
            norm = self.weights.norms_attention[layer]
            normalized, scale = norm.standardized(values[HookPoint.ATTENTION_INPUT, layer])
            scale = scale * weight
            outputs, found = self._by_head(layer, values, gradients)
            self.heads[layer].addcmul_(found, scale[..., None])
            if not self.frozen_scale and not norm.identity:
                share = torch.linalg.vecdot(outputs, found)
                self.shares[layer, ..., self.added] = share * (scale / normalized.shape[-1])
                self.streams[layer, ..., self.added, :] = normalized
            whole = self.weights.norms_mlp[layer].transposed(
                values[HookPoint.MLP_INPUT, layer],
                gradients[HookPoint.MLP_NORM, layer],
                self.frozen_scale,
            )
            self.mlps[layer].add_(whole, alpha=weight)
        self.final.add_(last, alpha=weight)
        self.added += 1

    def _by_head(
        self, layer: int, values: ActivationCache, gradients: ActivationCache
    ) -> tuple[Tensor, Tensor]:
        """Return q - (W beta + b) and its gradients g, [B, T, columns, head width] each."""
        outputs, found = (self._joined(cache, layer) for cache in (values, gradients))
        return outputs - self.weights.constant(layer), found

    def _joined(self, cache: ActivationCache, layer: int) -> Tensor:
        """Return the activations of a layer's projections by head, queries, keys, then values."""
        model, dtype = self.weights.model, self.weights.dtype
        parts = [model.by_head(cache[one, layer]).detach().to(dtype) for one in model.projections]
        return torch.cat(parts, -2) if len(parts) > 1 else parts[0]

    @torch.no_grad()
    def scores(self, ends: Ends, kinds: Tensor | None, spans: int) -> tuple[Tensor, Tensor]:
        """Return the edge scores of each item of the batch, in total and by span.

        A score is a sum over positions. It is computed for a few positions at a time, since the
        outputs of all sources at all positions would take too much memory.

        Args:
            ends: outputs of the sources in both runs.
            kinds: [B, T] index of each position's span, negative for none; None without spans.
            spans: number of spans.

        Returns:
            Scores [B, sources, destinations], and each span's contributions to them, [B, spans,
            sources, destinations].
        """
        shape = (len(ends.embeddings), *self.graph.exists.shape)
        found = ends.embeddings.new_zeros(shape, dtype=self.weights.dtype)
        by_span = found.new_zeros((shape[0], spans, *shape[1:]))
        for places, written, room in self._parts(ends):
            here = None if kinds is None else kinds[:, places]
            self._add_scores(written, here, places, room, found, by_span)
        exists = torch.from_numpy(self.graph.exists).to(found.device)
        return found.mul_(exists), by_span.mul_(exists)

    def _parts(self, ends: Ends) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield ranges of positions, the sources' differences there, and room for gradients."""
        rows, tokens, width = ends.embeddings.shape
        dtype, sources, widest = self.weights.dtype, len(self.graph.sources), self.widest
        each = (sources + widest) * rows * width * dtype.itemsize
        step = min(tokens, max(1, at_once(ends.embeddings.device) // each))
        written_room, room = (
            ends.embeddings.new_empty(count * rows * step * width, dtype=dtype)
            for count in (sources, widest)
        )
        for start in range(0, tokens, step):
            places = slice(start, min(tokens, start + step))
            yield places, differences(self.weights, self.graph, ends, places, written_room), room

    def _add_scores(
        self,
        written: Tensor,
        kinds: Tensor | None,
        places: slice,
        room: Tensor,
        found: Tensor,
        by_span: Tensor,
    ) -> None:
        """Add the contribution of some positions to `found` and `by_span`."""
        for reads, columns, gradient in self.gradients(places, room):
            for row in range(len(found)):
                one, other = written[:reads, row], gradient[:, row]
                if kinds is None:
                    found[row, :reads, columns].addmm_(one.flatten(1), other.flatten(1).T)
                    continue
                for kind in kinds[row].unique().tolist():
                    here = (kinds[row] == kind).nonzero()[:, 0]
                    part = one[:, here].flatten(1) @ other[:, here].flatten(1).T
                    found[row, :reads, columns] += part
                    if kind >= 0:
                        by_span[row, kind, :reads, columns] += part

    @property
    def widest(self) -> int:
        """Largest number of destinations whose gradients are in memory at once."""
        return self._layers_at_once * (1 + self.columns)

    @property
    def _layers_at_once(self) -> int:
        return math.ceil(TOGETHER / (1 + self.columns))

    def gradients(self, places: slice, room: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
        """Yield the gradients at what destinations read, for one range of columns after another.

        Args:
            places: range of positions.
            room: flat tensor into which the gradients are written, large enough for `widest` of
                them; each step overwrites those of the last.

        Yields:
            A number of sources, the first in the graph's order, such that no other source has an
            edge into these destinations; the range of the destinations, which are those of several
            layers; and the gradients [destinations, B, positions, width].
        """
        graph = self.graph
        layers, shape = graph.shape.layers, self.final[:, places].shape
        for start in range(0, layers + 1, self._layers_at_once):
            stop = min(layers + 1, start + self._layers_at_once)
            columns = slice(self._destinations(start).start, self._destinations(stop - 1).stop)
            reads = len(graph.sources) if stop > layers else graph.attention_reads(stop - 1)
            whole = view(room, (columns.stop - columns.start, *shape))
            for layer in range(start, stop):
                own = self._destinations(layer)
                self._gradient(
                    layer, places, whole[own.start - columns.start : own.stop - columns.start]
                )
            yield reads, columns, whole

    def _destinations(self, layer: int) -> slice:
        """Return the destinations in a layer's attention, after the MLP of the layer before."""
        graph = self.graph
        # these are adjacent in the graph, as are the last MLP and the logits
        first = graph.mlp_destination(layer - 1) if layer else 0
        last = layer == graph.shape.layers
        return slice(first, len(graph.destinations) if last else graph.mlp_destination(layer))

    def _gradient(self, layer: int, places: slice, found: Tensor) -> Tensor:
        """Return gradients at the stream before the norms, [columns, B, positions, width]."""
        first = 1 if layer else 0
        if layer:
            found[0] = self.mlps[layer - 1][:, places]
        if layer == self.graph.shape.layers:
            found[1] = self.final[:, places]
            return found
        narrow = self.heads[layer][:, places].flatten(0, 1).transpose(0, 1)
        rows = found[first:].flatten(1, 2)
        self._project(layer, narrow, rows)
        if self.passes:
            share, stream = (
                one[layer][:, places].flatten(0, 1) for one in (self.shares, self.streams)
            )
            rows.transpose(0, 1).baddbmm_(share, stream, alpha=-1)
        return found

    def _project(self, layer: int, narrow: Tensor, rows: Tensor) -> None:
        """Write V g to `rows` [columns, n, width] for g in `narrow` [columns, n, head width]."""
        torch.bmm(narrow, self.weights.folded(layer), out=rows)
