"""From gradients of interpolation steps to edge scores, at almost no cost beyond the passes.

An edge's score is the sum over positions of <D_u, G_v>: D_u is what source u writes in the
corrupted run minus the clean one, G_v the metric's gradient at what destination v reads, that is
before the norm. For a query, key or value of one head, with g the gradient at the projection's
output q = W y + b, y = gamma * xhat + beta and V = diag(gamma) W',

    G = J'W'g = (V g - mean(V g) - xhat c) / sigma,    c = mean((V g) * xhat) = g . (V'xhat) / d.

Centring V's columns makes the mean vanish, and V'xhat = q - (W beta + b) is the head's own output
less a constant. So over steps k only sum_k g_k / sigma_k is kept in the narrow space of heads, and
projected once: G = V sum_k(g_k / sigma_k) - sum_k xhat_k c_k / sigma_k. This is exact. The scores
are those of EAP and EAP-IG (Syed et al. 2023, arXiv 2310.10348; Hanna et al. 2024, arXiv
2403.17806).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.passes import HeadLayout, Norm, Trace
from sumcirc.modeling.parts import Parts

CACHED = 2**30  # bytes of folded weights that are kept for all batches; beyond, they are remade


class Weights:
    """Effective weights of a model, its adapter included, in at least float32.

    Attributes:
        norms_attention, norms_mlp: by layer.
        constants: by layer, [destinations, head width] what queries, keys and values are for
            xhat = 0.
    """

    def __init__(self, parts: Parts, graph: Graph, dtype: torch.dtype) -> None:
        self.parts, self.graph, self.dtype = parts, graph, dtype
        self.norms_attention = [Norm.of(block.norm_attention, dtype) for block in parts.blocks]
        self.norms_mlp = [Norm.of(block.norm_mlp, dtype) for block in parts.blocks]
        self._layers: dict[int, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}
        self.constants = [self._constant(layer) for layer in range(parts.shape.layers)]
        size, destinations = parts.shape, parts.shape.heads + 2 * graph.key_value_destinations
        numbers = size.layers * (destinations + size.heads) * size.head_width * size.width
        self._keep = numbers * torch.finfo(dtype).bits // 8 <= CACHED

    def destinations(self, layer: int) -> Tensor:
        """Of a layer's queries, keys and values, the norm's weight multiplied in and centred.

        [destinations, head width, width]: V of the module's text.
        """
        if layer in self._layers:
            return self._layers[layer]
        norm = self.norms_attention[layer]
        weight, _ = self.query_key_value(layer)
        weight = (weight * norm.weight[:, None]).transpose(1, 2)
        if norm.centred:
            weight = weight - weight.mean(-1, keepdim=True)
        found = weight.contiguous()
        if self._keep:
            self._layers[layer] = found
        return found

    def query_key_value(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weight [destinations, width, head width] and bias [destinations, head width]."""
        found = self.parts.query_key_value(layer)
        group = self.graph.key_value_destinations // self.parts.shape.key_value_heads
        repeats = (1, group, group)
        weight, bias = (
            torch.cat(
                [
                    one.to(self.dtype).repeat_interleave(repeat, 0)
                    for one, repeat in zip(tensors, repeats, strict=True)
                ]
            )
            for tensors in ([one.weight for one in found], [one.bias for one in found])
        )
        return weight, bias

    @torch.no_grad()
    def _constant(self, layer: int) -> Tensor:
        block, layout = self.parts.blocks[layer], HeadLayout(self.parts, self.graph)
        bias = self.norms_attention[layer].bias[None].to(self.parts.model.dtype)
        outputs = [layout.expand(linear(bias), i) for i, linear in enumerate(block.qkv)]
        return torch.cat([layout.by_destination(one)[0] for one in outputs]).to(self.dtype)

    def output(self, layer: int) -> Tensor:
        """Of the output projection by head, [heads, head width, width]."""
        if layer in self._outputs:
            return self._outputs[layer]
        found = self.parts.attention_output(layer).weight.to(self.dtype).contiguous()
        if self._keep:
            self._outputs[layer] = found
        return found


def differences(
    weights: Weights, embeddings: Tensor, clean: Trace, corrupted: Trace, mask: Tensor
) -> Tensor:
    """What every source writes in the corrupted run minus the clean one.

    Args:
        embeddings: [B, T, width] of corrupted minus clean tokens.
        mask: [B, T] true at real tokens; the rest is zero.

    Returns:
        [sources, B, T, width].
    """
    graph, dtype = weights.graph, weights.dtype
    size = graph.shape
    found = embeddings.new_empty((len(graph.sources), *embeddings.shape), dtype=dtype)
    found[0] = embeddings
    for layer in range(size.layers):
        heads = corrupted.heads[layer].to(dtype) - clean.heads[layer].to(dtype)
        narrow = heads.flatten(0, 1).unflatten(-1, (size.heads, -1)).transpose(0, 1)
        rows = found[graph.attention_sources(layer)].flatten(1, 2)
        torch.bmm(narrow, weights.output(layer), out=rows)
        torch.sub(
            corrupted.mlps[layer].to(dtype),
            clean.mlps[layer].to(dtype),
            out=found[graph.mlp_source(layer)],
        )
    return found if bool(mask.all()) else found.masked_fill_(~mask[..., None], 0)


class Accumulator:
    """Gradients of one batch, summed over interpolation steps.

    Args:
        frozen_scale: the norms' sigma counts as a constant (RelP).
    """

    def __init__(self, weights: Weights, layout: HeadLayout, frozen_scale: bool = False) -> None:
        self.weights, self.layout, self.frozen_scale = weights, layout, frozen_scale
        self.heads: dict[int, Tensor] = {}
        self.corrections: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.mlps: dict[int, Tensor] = {}
        self.final: Tensor | None = None

    @torch.no_grad()
    def add(self, trace: Trace, gradients: Trace, weight: float) -> None:
        """Take in one pass.

        Args:
            gradients: the metric's gradient where the trace has a value.
            weight: of this pass in the mean over passes.
        """
        dtype = self.weights.dtype
        linears = len(self.weights.parts.blocks[0].qkv)
        for layer in range(self.weights.graph.shape.layers):
            norm = self.weights.norms_attention[layer]
            normalized, scale = norm.standardized(trace.attention_streams[layer])
            scale = scale * weight
            outputs, found = (
                torch.cat(parts, -2) if linears > 1 else parts[0]
                for parts in (
                    [
                        self.layout.by_destination(one.projections[layer, i]).detach().to(dtype)
                        for i in range(linears)
                    ]
                    for one in (trace, gradients)
                )
            )
            if not self.frozen_scale:
                share = torch.linalg.vecdot(outputs - self.weights.constants[layer], found)
                share *= scale / normalized.shape[-1]
                self.corrections.setdefault(layer, []).append((share, normalized))
            if layer in self.heads:
                self.heads[layer].addcmul_(found, scale[..., None])
            else:
                self.heads[layer] = found * scale[..., None]
            whole = self.weights.norms_mlp[layer].transposed(
                trace.mlp_streams[layer], gradients.normed[layer], self.frozen_scale
            )
            if layer in self.mlps:
                self.mlps[layer].add_(whole, alpha=weight)
            else:
                self.mlps[layer] = whole.mul_(weight)
        assert gradients.final is not None
        final = gradients.final.to(dtype) * weight
        self.final = final if self.final is None else self.final + final

    @torch.no_grad()
    def scores(self, written: Tensor, kinds: Tensor | None, spans: int) -> tuple[Tensor, Tensor]:
        """Edge scores of each row.

        Args:
            written: `differences`, [sources, B, T, width].
            kinds: [B, T] the span of each position, or None.
            spans: how many there are.

        Returns:
            [B, sources, destinations], and by span [B, spans, sources, destinations].
        """
        graph = self.weights.graph
        size = graph.shape
        rows, sources, destinations = written.shape[1], len(graph.sources), len(graph.destinations)
        found = written.new_zeros((rows, sources, destinations))
        by_span = written.new_zeros((rows, spans, sources, destinations))
        widest = 1 + size.heads + 2 * graph.key_value_destinations
        room = written.new_empty((widest, *written.shape[1:]))
        for layer in range(size.layers + 1):
            last = layer == size.layers
            # an MLP and the queries, keys and values of the layer above are neighbours in the graph
            first = graph.mlp_destination(layer - 1) if layer else 0
            columns = slice(first, destinations if last else graph.mlp_destination(layer))
            reads = sources if last else graph.attention_reads(layer)
            gradient = self._gradient(layer, room[: columns.stop - columns.start])
            for row in range(rows):
                one, other = written[:reads, row], gradient[:, row]
                if kinds is None:
                    torch.mm(one.flatten(1), other.flatten(1).T, out=found[row, :reads, columns])
                    continue
                for kind in kinds[row].unique().tolist():
                    here = (kinds[row] == kind).nonzero()[:, 0]
                    part = one[:, here].flatten(1) @ other[:, here].flatten(1).T
                    found[row, :reads, columns] += part
                    if kind >= 0:
                        by_span[row, kind, :reads, columns] = part
        exists = torch.from_numpy(graph.exists).to(found.device)
        return found.mul_(exists), by_span.mul_(exists)

    def _gradient(self, layer: int, found: Tensor) -> Tensor:
        """At the residual stream before the norms, [columns, B, T, width], written to `found`."""
        first = 1 if layer else 0
        if layer:
            found[0] = self.mlps[layer - 1]
        if layer == self.weights.graph.shape.layers:
            assert self.final is not None
            found[1] = self.final
            return found
        narrow = self.heads[layer].flatten(0, 1).transpose(0, 1)
        rows = found[first:].flatten(1, 2)
        torch.bmm(narrow, self.weights.destinations(layer), out=rows)
        if layer in self.corrections:
            shares, streams = zip(*self.corrections[layer], strict=True)
            share = torch.stack(shares, -1).flatten(0, 1)  # [tokens, destinations, steps]
            stream = torch.stack(streams, -2).flatten(0, 1)  # [tokens, steps, width]
            rows.transpose(0, 1).baddbmm_(share, stream, alpha=-1)
        return found
