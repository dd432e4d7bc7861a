"""Passes through a live model that see what its edges carry and take gradients there.

What a source writes is seen at the input of the attention's output projection (the heads) and at
the MLP's output; what a destination reads at the outputs of the query, key and value projections,
at the MLP's norm and at the final norm. Everything is seen by hooks, which are removed again; no
parameter is given a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sumcirc.circuits.graph import Graph
from sumcirc.models.architectures import Fused, anatomy
from sumcirc.models.hooked_model import Block, HookedModel


@dataclass
class Trace:
    """What one forward pass showed, layer by layer; B rows, T positions.

    Attributes:
        attention_streams, mlp_streams: [B, T, width] what the two norms of a block read.
        projections: outputs of the linears of query, key and value (with their groups expanded
            where the graph's are).
        heads: [B, T, heads * head width] the heads' outputs before the output projection.
        normed: [B, T, width] what the MLP reads.
        mlps: [B, T, width] what it writes.
        final: [B, T, width] the last residual stream.
    """

    attention_streams: dict[int, Tensor] = field(default_factory=dict)
    projections: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    heads: dict[int, Tensor] = field(default_factory=dict)
    mlp_streams: dict[int, Tensor] = field(default_factory=dict)
    normed: dict[int, Tensor] = field(default_factory=dict)
    mlps: dict[int, Tensor] = field(default_factory=dict)
    final: Tensor | None = None


class HeadLayout:
    """Between a linear's output and the query, key and value destinations of its layer."""

    def __init__(self, parts: HookedModel, graph: Graph) -> None:
        self.fused = anatomy(parts.model.config).fused
        self.width = parts.shape.head_width
        self.expands = graph.key_value_destinations != parts.shape.key_value_heads
        self.group = parts.shape.group

    def expand(self, output: Tensor, linear: int) -> Tensor:
        """The projection's output with keys and values copied for every query head."""
        if not self.expands or linear == 0:
            return output
        heads = output.unflatten(-1, (-1, self.width))
        return heads.repeat_interleave(self.group, -2).flatten(-2)

    def by_destination(self, output: Tensor) -> Tensor:
        """[..., destinations of this linear, head width] in the graph's order."""
        if self.fused is Fused.interleaved:
            return output.unflatten(-1, (-1, 3, self.width)).transpose(-2, -3).flatten(-3, -2)
        return output.unflatten(-1, (-1, self.width))

    def as_output(self, heads: Tensor) -> Tensor:
        """The opposite of `by_destination`."""
        if self.fused is Fused.interleaved:
            heads = heads.unflatten(-2, (3, -1)).transpose(-2, -3)
            return heads.flatten(-3)
        return heads.flatten(-2)


class Tracer:
    """Hooks of one model, made once and used for every pass within `watching`.

    Attributes:
        trace: of the newest pass.
        sources_only: see the heads and MLPs alone.
        instead: (module, value): what an MLP writes or an output projection reads, in place of
            what was computed.
    """

    def __init__(self, parts: HookedModel, graph: Graph) -> None:
        self.parts, self.graph = parts, graph
        self.layout = HeadLayout(parts, graph)
        self.trace = Trace()
        self.sources_only = False
        self.instead: tuple[nn.Module, Tensor] | None = None
        self._running = False  # a linear may also be applied alone, to read its weight

    def run(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """One pass from token embeddings [B, T, width] to the normed stream; see `trace`."""
        self.trace = Trace()
        self._running = True
        try:
            return self.parts.hidden(mask, inputs_embeds=embeddings)
        finally:
            self._running = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it every pass of the model is traced."""
        with ExitStack() as stack:
            for layer, block in enumerate(self.parts.blocks):
                for handle in self._hooks(layer, block):
                    stack.callback(handle.remove)
            if self.layout.expands:
                stack.enter_context(ungrouped(self.parts))

            def final(module: nn.Module, arguments: tuple[Any, ...]) -> None:
                if not self.sources_only:
                    self.trace.final = arguments[0]

            stack.callback(self.parts.final_norm.register_forward_pre_hook(final).remove)
            yield

    def _hooks(self, layer: int, block: Block) -> list[Any]:
        def reads(name: str) -> Any:
            def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
                if not self.sources_only:
                    getattr(self.trace, name)[layer] = arguments[0]

            return hook

        def projected(linear: int) -> Any:
            def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Any:
                if not self._running:
                    return None
                output = self.layout.expand(output, linear)
                if not self.sources_only:
                    self.trace.projections[layer, linear] = output
                return output

            return hook

        def normed(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            if not self.sources_only:
                self.trace.normed[layer] = output

        def heads(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not self._running:
                return None
            if self.instead is not None and self.instead[0] is module:
                return (self.instead[1],)
            self.trace.heads[layer] = arguments[0]
            return None

        def mlp(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if self.instead is not None and self.instead[0] is module:
                return self.instead[1]
            self.trace.mlps[layer] = output
            return None

        return [
            block.norm_attention.register_forward_pre_hook(reads("attention_streams")),
            *(linear.register_forward_hook(projected(i)) for i, linear in enumerate(block.qkv)),
            block.attn_out.register_forward_pre_hook(heads),
            block.norm_mlp.register_forward_pre_hook(reads("mlp_streams")),
            block.norm_mlp.register_forward_hook(normed),
            block.mlp.register_forward_hook(mlp),
        ]


@contextmanager
def ungrouped(parts: HookedModel) -> Iterator[None]:
    """Within it attention takes keys and values that come one per query head already."""
    attentions: list[Any] = [block.attention for block in parts.blocks]
    before = [attention.num_key_value_groups for attention in attentions]
    for attention in attentions:
        attention.num_key_value_groups = 1
    try:
        yield
    finally:
        for attention, groups in zip(attentions, before, strict=True):
            attention.num_key_value_groups = groups
