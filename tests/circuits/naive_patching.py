"""Edges patched one by one in the plainest way: a difference is added to what one head reads.

An oracle of its own for attribution and for `exact`: the norm is written out, every head's
projection is applied alone, and values can be differentiated by what is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.inputs.pair_batches import EmbeddedPairs
from sumcirc.models.activations.attention_weights import AttentionWeights


def patched_values(
    reader: AttributionPasses,
    weights: AttentionWeights,
    batch: EmbeddedPairs,
    columns: Tensor,
    added: Tensor,
    reference: Tensor | None,
) -> Tensor:
    """The metric of the clean run with one destination's input changed in each row, [R].

    Args:
        batch: of one item.
        columns: [R] the destination of each row.
        added: [R, T, width] what is added to what it reads.
        reference: of the clean run, [n, vocabulary], where the metric needs one.
    """
    count = len(columns)
    items = batch.items.expand(count)
    with _patched(weights, reader, columns.tolist(), added):
        hidden, _ = reader.run(batch.clean.expand(count, -1, -1), batch.mask.expand(count, -1))
    logits = reader.logits(hidden, items, batch.columns)
    repeated = None if reference is None else reference.repeat(count, 1)
    return reader.metric.values(logits, items, repeated)


@contextmanager
def _patched(
    weights: AttentionWeights, reader: AttributionPasses, columns: list[int], added: Tensor
) -> Iterator[None]:
    graph, parts = reader.graph, reader.model
    bare = parts.model.config.model_type == "olmo2"  # without norms before attention and MLP
    streams: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            streams[layer] = arguments[0] if arguments else options["hidden_states"]

        return hook

    def add_to_input(rows: list[int]) -> Callable[..., tuple[Any, ...]]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            stream = arguments[0]
            change = torch.zeros_like(stream).index_put(
                (torch.tensor(rows),), added[rows].to(stream)
            )
            return (stream + change, *arguments[1:])

        return hook

    def project(layer: int, linear: int, rows: dict[int, int]) -> Callable[..., Tensor]:
        """Rows with the head of this layer's that they change."""
        # before the hook is there: reading a weight applies the linear
        found = parts.head_weights(layer, graph.expand_groups)
        weight, bias = found.weight.to(weights.dtype), found.bias.to(weights.dtype)

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            heads = parts.by_head(output)
            first = 0 if linear == 0 else graph.shape.heads
            first += graph.key_value_destinations if linear == 2 else 0
            for row, head in rows.items():
                if not first <= head < first + heads.shape[-2]:
                    continue
                stream = streams[layer][row].to(added) + added[row]
                norm = weights.norms_attention[layer]
                centred = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
                sigma = (centred.square().mean(-1, keepdim=True) + norm.epsilon).sqrt()
                normed = stream if bare else centred / sigma * norm.weight + norm.bias
                changed = (normed @ weight[head] + bias[head]).to(output)
                mask = torch.zeros_like(heads, dtype=torch.bool)
                mask[row, :, head - first] = True
                heads = heads.masked_scatter(mask, changed)
            return parts.joined(heads)

        return hook

    with ExitStack() as stack:
        for layer, block in enumerate(parts.blocks):
            first = graph.query_columns(layer).start
            mlp = graph.mlp_destination(layer)
            heads = {row: c - first for row, c in enumerate(columns) if first <= c < mlp}
            if heads:
                norm = block.attention if bare else block.norm_attention
                handle = norm.register_forward_pre_hook(keep(layer), with_kwargs=True)
                stack.callback(handle.remove)
                hooks = [project(layer, i, heads) for i in range(len(block.qkv))]
                for linear, hook in zip(block.qkv, hooks, strict=True):
                    stack.callback(linear.register_forward_hook(hook).remove)
            rows = [row for row, c in enumerate(columns) if c == mlp]
            if rows:
                hook = add_to_input(rows)
                second = block.mlp if bare else block.norm_mlp
                stack.callback(second.register_forward_pre_hook(hook).remove)
        rows = [row for row, c in enumerate(columns) if c == len(graph.destinations) - 1]
        if rows:
            hook = add_to_input(rows)
            stack.callback(parts.final_norm.register_forward_pre_hook(hook).remove)
        yield
