"""What a patched run needs of a model: its projections by head, and all that one run writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sumcirc.circuits.attribution.tracing import HeadLayout
from sumcirc.circuits.graph import Graph
from sumcirc.models.architectures import Fused
from sumcirc.models.hooked_model import HeadWeights, HookedModel
from sumcirc.models.modes import inference

# (module, "input" or "output", what is shown the first argument or the output and may replace it)
Hook = tuple[nn.Module, str, Callable[[Tensor], Tensor | None]]


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Within it hooks see, and may replace, what modules read and write."""
    handles = []
    try:
        for module, place, see in hooks:
            if place == "input":
                handles.append(module.register_forward_pre_hook(partial(_see_input, see)))
            else:
                handles.append(module.register_forward_hook(partial(_see_output, see)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _see_input(
    see: Callable[[Tensor], Tensor | None], module: nn.Module, inputs: tuple[Any, ...]
) -> tuple[Any, ...] | None:
    found = see(inputs[0])
    return None if found is None else (found, *inputs[1:])


def _see_output(
    see: Callable[[Tensor], Tensor | None], module: nn.Module, inputs: Any, output: Tensor
) -> Tensor | None:
    return see(output)


@dataclass(frozen=True)
class LayerProjections:
    """Effective weights of one attention by destination and by head.

    Attributes:
        weight, bias: of query, key and value, [columns, width, head width] and [columns, 1, head
            width], columns in the order of the graph's.
        output: [heads, head width, width].
    """

    weight: Tensor
    bias: Tensor
    output: Tensor


def by_destination(parts: HookedModel, graph: Graph, layer: int) -> HeadWeights:
    """Effective weights of a layer's query, key and value destinations, in the graph's order."""
    found = parts.query_key_value(layer)
    group = graph.key_value_destinations // parts.shape.key_value_heads
    repeats = (1, group, group)
    weight, bias = (
        torch.cat([one.repeat_interleave(n, 0) for one, n in zip(tensors, repeats, strict=True)])
        for tensors in ([one.weight for one in found], [one.bias for one in found])
    )
    return HeadWeights(weight, bias)


class Projections:
    """Effective weights of every attention, and how its linears lay out their outputs.

    Attributes:
        heads: number of query heads, and the width of one.
        group: query heads for which each key and value is repeated: 1 unless the graph has keys and
            values of every query head of a model with grouped queries.
    """

    def __init__(self, parts: HookedModel, graph: Graph) -> None:
        size = parts.shape
        self.graph = graph
        self.heads = (size.heads, size.head_width)
        self.group = graph.key_value_destinations // size.key_value_heads
        self._layout = HeadLayout(parts, graph)
        self.layers = [self._layer(parts, layer) for layer in range(size.layers)]

    def _layer(self, parts: HookedModel, layer: int) -> LayerProjections:
        found = by_destination(parts, self.graph, layer)
        output = parts.attention_output(layer).weight
        return LayerProjections(found.weight, found.bias[:, None], output)

    def first(self, layer: int) -> int:
        """The graph's column that is a layer's first."""
        return self.graph.query_columns(layer).start

    def columns(self, layer: int, number: int) -> slice:
        """The graph's columns behind a linear: the layer's only one, or that of q, k or v."""
        graph = self.graph
        if self._layout.fused is not Fused.split:
            return slice(self.first(layer), graph.value_columns(layer).stop)
        return (graph.query_columns, graph.key_columns, graph.value_columns)[number](layer)

    def by_column(self, output: Tensor, number: int) -> Tensor:
        """A linear's output [..., out] as [..., columns, head width]."""
        return self._layout.by_destination(self._layout.expand(output, number))

    def as_linear(self, columns: Tensor) -> Tensor:
        """The other way round; expanded keys and values stay so."""
        return self._layout.as_output(columns)


@dataclass
class SourceOutputs:
    """What one run of a model writes and reads; every tensor [documents, positions, ...].

    Attributes:
        written: outputs of the embedding and of the MLPs, by source.
        heads: of each layer what its output projection reads, [..., heads * head width].
        projected: of each layer what its query, key and value linears give.
        attention_streams, mlp_streams: residual streams that each layer's two norms read.
        last_stream: what the final norm reads.
        normed: what it gives.
    """

    written: dict[int, Tensor] = field(default_factory=dict)
    heads: list[Tensor] = field(default_factory=list)
    projected: list[list[Tensor]] = field(default_factory=list)
    attention_streams: list[Tensor] = field(default_factory=list)
    mlp_streams: list[Tensor] = field(default_factory=list)
    last_stream: Tensor = field(default_factory=lambda: torch.empty(0))
    normed: Tensor = field(default_factory=lambda: torch.empty(0))

    def of(self, documents: slice) -> SourceOutputs:
        """Those of some documents."""
        return SourceOutputs(
            {source: written[documents] for source, written in self.written.items()},
            [z[documents] for z in self.heads],
            [[output[documents] for output in layer] for layer in self.projected],
            [stream[documents] for stream in self.attention_streams],
            [stream[documents] for stream in self.mlp_streams],
            self.last_stream[documents],
            self.normed[documents],
        )


def record(parts: HookedModel, ids: Tensor, attention_mask: Tensor | None) -> SourceOutputs:
    """Run a model in evaluation mode without gradients and keep what its sources write.

    Args:
        ids, attention_mask: [documents, positions].
    """
    seen = SourceOutputs()
    graph = Graph(parts.shape)

    def set_last(stream: Tensor) -> None:
        seen.last_stream = stream

    hooks: list[Hook] = [(parts.embedding, "output", partial(seen.written.__setitem__, 0))]
    for layer, block in enumerate(parts.blocks):
        seen.projected.append([])
        hooks += [
            (block.norm_attention, "input", seen.attention_streams.append),
            *((linear, "output", seen.projected[layer].append) for linear in block.qkv),
            (block.attn_out, "input", seen.heads.append),
            (block.norm_mlp, "input", seen.mlp_streams.append),
            (block.mlp, "output", partial(seen.written.__setitem__, graph.mlp_source(layer))),
        ]
    hooks.append((parts.final_norm, "input", set_last))
    with inference(parts.model), hooked(hooks):
        seen.normed = parts.hidden(attention_mask, input_ids=ids)
    return seen
