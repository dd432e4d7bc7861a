"""One forward pass in which every edge has a factor between 0 and 1, with gradients by the factors.

With the factor m_uv of edge u->v, D_u = a_u - p_u (output of source u in this run minus that in the
corrupted run) and x_v the input of destination v:

    x_v = stream of this run - sum over edges of (1 - m_uv) D_u

For factors 0 and 1 this is a circuit's run (`patching.patched_run`). Sources are computed in order,
so the gradient by a factor includes the effect that the edge has through all later edges.

All D_u lie in one buffer and their gradients in another: autograd would otherwise keep a copy of
all earlier sources for each read. `_Write` puts an output into the buffer, and `_Read` takes the
sum from it; each returns and takes an empty tensor, which makes autograd run a source's `_Write`
backward only after all later reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sumcirc.circuits.patching.patched_pass import INPUTS
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import ActivationKey, HookPoint
from sumcirc.models.activations.norms import Norm

Hook = tuple[ActivationKey, Callable[[Tensor], Tensor | None]]


@dataclass(frozen=True, eq=False)
class _Buffer:
    """Differences of all sources and their gradients, both [sources, tokens, width]."""

    values: Tensor
    gradients: Tensor


class _Write(torch.autograd.Function):
    """Copy differences of sources into the buffer; their gradient is what reads accumulated."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, order: Tensor, buffer: _Buffer, rows: slice) -> Tensor:
        ctx.buffer, ctx.rows = buffer, rows
        buffer.values[rows] = own
        return order.new_empty(0)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return ctx.buffer.gradients[ctx.rows].clone(), outputs[0].new_empty(0), None, None


class _Read(torch.autograd.Function):
    """Subtract (1 - factor) times the differences of earlier sources from the stream."""

    @staticmethod
    def forward(
        ctx: Any, stream: Tensor, cut: Tensor, order: Tensor, buffer: _Buffer
    ) -> tuple[Tensor, Tensor]:
        ctx.buffer = buffer
        ctx.save_for_backward(cut)
        earlier = buffer.values[: len(cut)].flatten(1)
        sums = stream.flatten().expand(cut.shape[1], -1)
        return (
            torch.addmm(sums, cut.T, earlier, alpha=-1).view(-1, *stream.shape),
            order.new_empty(0),
        )

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (cut,) = ctx.saved_tensors
        slope, last = outputs[0].flatten(1), outputs[1]
        rows = slice(0, len(cut))
        ctx.buffer.gradients[rows].flatten(1).addmm_(cut, slope, alpha=-1)
        by_factor = -(ctx.buffer.values[rows].flatten(1) @ slope.T)
        return outputs[0].sum(0), by_factor, last.new_empty(0), None


class MaskedPass:
    """A forward pass of documents with a factor for every edge.

    Use it in the `with` block of `models.modes.frozen`; it can be run and differentiated once.

    Args:
        run: the documents with their corrupted run, made with the ablation `interchange`.
        factors: [sources, destinations] the factors, which may require gradients; entries where the
            graph has no edge are ignored.

    Raises:
        UserError: `run` was made with another ablation.
    """

    def __init__(self, run: PatchedRun, factors: Tensor) -> None:
        if run.corrupted is None:
            raise UserError("masks of edges: need a corrupted run; take the ablation `interchange`")
        self.model, self.graph, self.weights = run.model, run.graph, run.weights
        self.corrupted = run.corrupted
        self.ids, self.attention_mask = run.clean_ids, run.attention_mask
        exists = torch.from_numpy(run.graph.exists).to(factors)
        self.cut = (1 - factors) * exists
        shape = len(run.graph.sources), self.ids.numel(), run.model.shape.width
        space = self.weights.output(0)
        self.buffer = _Buffer(space.new_zeros(shape), space.new_zeros(shape))
        self.order = space.new_empty(0)
        self.written = 0
        self.stream = self.heads = self.order

    def logits(self, positions: Tensor) -> Tensor:
        """Return the logits at some positions, [selected positions, vocabulary] item by item.

        Args:
            positions: [documents, positions] True where logits are needed.
        """
        ungrouped = self.model.ungrouped(self.graph.expand_groups)
        with ungrouped, self.model.hooks(self._hooks()), self._scales():
            hidden = self.model.hidden(self.attention_mask, input_ids=self.ids)
        return self.model.unembedding(hidden[positions.bool()])

    def _hooks(self) -> Iterator[Hook]:
        graph, last = self.graph, self.graph.shape.layers
        yield self._writes(HookPoint.EMBEDDING, 0, 0)
        for layer in range(last):
            yield (HookPoint.ATTENTION_INPUT, layer), self._see_stream
            for number, point in enumerate(self.model.projections):
                # the linear's own output isn't used, nor its shape
                yield (INPUTS[point], layer), lambda x: x[:, :1]
                yield (point, layer), partial(self._projected, layer, number)
            yield from self._head_hooks(layer)
            column = graph.mlp_destination(layer)
            yield (HookPoint.MLP_INPUT, layer), partial(self._input, column)
            yield self._writes(HookPoint.MLP_OUTPUT, layer, graph.mlp_source(layer))
        yield (HookPoint.RESIDUAL, last), partial(self._input, len(graph.destinations) - 1)

    def _head_hooks(self, layer: int) -> Iterator[Hook]:
        outputs, *scale = self.model.head_points

        def write(heads: Tensor) -> None:
            if scale:  # `_scales` writes them, once the norm after attention is reached
                self.heads = heads
            else:
                self._write_heads(layer, heads)

        yield (outputs, layer), write

    @contextmanager
    def _scales(self) -> Iterator[None]:
        """Write the heads of models with a norm after attention, scaled as it scales them.

        `HookPoint.ATTENTION_SCALE` has no gradient.
        """
        with ExitStack() as stack:
            for layer, block in enumerate(self.model.blocks):
                module = block.norm_attention_output
                if len(self.model.head_points) == 1:
                    break
                norm = self.model.norm(module, None)

                def write(
                    _: Any, inputs: tuple[Any, ...], at: int = layer, by: Norm = norm
                ) -> None:
                    scaled = self.heads * by.scale(inputs[0]).to(self.heads.dtype)
                    self._write_heads(at, scaled)

                stack.callback(module.register_forward_pre_hook(write).remove)
            yield

    def _writes(self, point: HookPoint, layer: int, source: int) -> Hook:
        key = (point, layer)

        def write(output: Tensor) -> None:
            own = (output - self.corrupted[key]).flatten(0, 1)
            self._write(own[None], slice(source, source + 1))

        return key, write

    def _write_heads(self, layer: int, heads: Tensor) -> None:
        weight = self.weights.output(layer)
        own = (heads - self.model.scaled_heads(self.corrupted, layer)).flatten(0, 1)
        own = own.unflatten(-1, weight.shape[:2]).transpose(0, 1)
        self._write(torch.bmm(own, weight), self.graph.attention_sources(layer))

    def _write(self, own: Tensor, rows: slice) -> None:
        """Store the differences of sources, [sources, tokens, width]."""
        self.order = _Write.apply(own, self.order, self.buffer, rows)
        self.written = max(self.written, rows.stop)

    def _see_stream(self, stream: Tensor) -> None:
        self.stream = stream

    def _read(self, stream: Tensor, columns: slice) -> Tensor:
        """Return what destinations read, [columns, tokens, width]."""
        cut = self.cut[: self.written, columns].to(stream)
        found, self.order = _Read.apply(stream.flatten(0, 1), cut, self.order, self.buffer)
        return found

    def _input(self, column: int, stream: Tensor) -> Tensor:
        return self._read(stream, slice(column, column + 1))[0].view_as(stream)

    def _projected(self, layer: int, number: int, own: Tensor) -> Tensor:
        """Return the output of a linear: queries, keys or values of a layer, or all of them."""
        graph, first = self.graph, self.graph.query_columns(layer).start
        every = graph.query_columns(layer), graph.key_columns(layer), graph.value_columns(layer)
        columns = every[number]
        if len(self.model.projections) == 1:
            columns = slice(every[0].start, every[-1].stop)
        some = slice(columns.start - first, columns.stop - first)
        streams = self._read(self.stream, columns)
        scale = self.weights.norms_attention[layer].scale(streams)
        constant = self.weights.constant(layer)[some, None].to(scale.dtype)
        projected = streams @ self.weights.folded(layer)[some].mT
        made = torch.addcmul(constant, projected, scale).to(own.dtype)
        made = made.transpose(0, 1).reshape(-1, self.ids.shape[1], *made.shape[::2])
        return self.model.joined(made)
