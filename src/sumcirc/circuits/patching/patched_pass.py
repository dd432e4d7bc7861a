"""One forward pass of a live model in which destinations read patched residual streams.

Hooks on the model itself, adapters included. From D_u = a_u - p_u two forms of the same x_v:

    x_v = stream of this run - sum of D_u over cut edges
    x_v = stream of the corrupted run + sum of D_u over kept edges   (interchange only)

Whichever has fewer terms is used, so that a destination without terms costs nothing and is exact.
The block's own norm and the head's slice of the effective projection make q, k or v of x_v, which
takes the place of the projection's output; rotary embeddings, head norms, attention, output
projection and MLP are the model's. D_u of a head is (z - z_corrupted) W_O.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.circuits.attribution.tracing import ungrouped
from sumcirc.circuits.patching.source_outputs import hooked

if TYPE_CHECKING:
    from sumcirc.circuits.patching.patched_run import PatchedRun

# Terms over places from which one matrix product beats adding term by term: on a CPU additions run
# in cache, on a GPU each is a kernel of its own.
DENSE_ON_CPU, DENSE_ON_GPU = 0.15, 0.02
# Bytes of residual streams made at once: what the CPU's cache holds; on a GPU large enough to fill
STREAMS_ON_CPU, STREAMS_ON_GPU = 8 << 20, 256 << 20


class PatchedPass:
    """One forward pass of some documents, once for every edge set.

    Rows of the model's batch are set by set the documents; a residual stream of all of them is
    [sets, documents * positions, width].
    """

    def __init__(
        self,
        run: PatchedRun,
        terms: NDArray[np.bool_],
        from_corrupted: bool,
        documents: slice,
    ) -> None:
        self.parts, self.graph, self.projections = run.parts, run.graph, run.projections
        self.terms = terms
        self.from_corrupted = from_corrupted
        self.means = run.means
        self.corrupted = None if run.corrupted is None else run.corrupted.of(documents)
        self.ids = run.clean_ids[documents]
        self.mask = None if run.attention_mask is None else run.attention_mask[documents]
        self.sets = len(terms)
        self.tokens = self.ids.numel()
        weight = self.projections.layers[0].weight
        self.rows = np.flatnonzero(terms.any(axis=(0, 2)))
        self.wanted = terms[:, self.rows]
        self.differences = run.space(self.sets, len(self.rows), self.tokens, run.parts.shape.width)
        self.stream = weight  # what the attention being run reads, of this run
        on_cpu = weight.device.type == "cpu"
        self.dense = DENSE_ON_CPU if on_cpu else DENSE_ON_GPU
        budget = STREAMS_ON_CPU if on_cpu else STREAMS_ON_GPU
        self.streams_at_once = budget * len(self.rows) / self.differences.nbytes

    def run(self) -> Tensor:
        """The normed last residual stream, [sets, documents, positions, width]."""
        as_they_come = nullcontext() if self.projections.group == 1 else ungrouped(self.parts)
        with hooked(self._hooks()), as_they_come:
            ids = self.ids.repeat(self.sets, 1)
            mask = None if self.mask is None else self.mask.repeat(self.sets, 1)
            found = self.parts.hidden(mask, input_ids=ids)
        return found.unflatten(0, (self.sets, -1))

    def _hooks(self) -> Iterator[tuple[nn.Module, str, Any]]:
        parts, graph = self.parts, self.graph
        yield parts.embedding, "output", lambda out: self._write(0, out)
        for layer, block in enumerate(parts.blocks):
            yield block.norm_attention, "input", self._see_stream
            for number, linear in enumerate(block.qkv):
                yield from self._projection_hooks(layer, number, linear)
            yield block.attn_out, "input", lambda z, layer=layer: self._write_heads(layer, z)
            yield block.norm_mlp, "input", lambda x, layer=layer: self._mlp_input(layer, x)
            row = graph.mlp_source(layer)
            yield block.mlp, "output", lambda out, row=row: self._write(row, out)
        yield parts.final_norm, "input", self._logits_input

    # ---- what sources write

    def _row(self, source: int) -> int | None:
        place = int(np.searchsorted(self.rows, source))
        return place if place < len(self.rows) and self.rows[place] == source else None

    def _write(self, source: int, output: Tensor) -> None:
        """Store the difference of the embedding or of an MLP."""
        row = self._row(source)
        if row is None:
            return
        own, into = output.reshape(self.sets, self.tokens, -1), self.differences[:, row]
        if self.corrupted is not None:
            torch.sub(own, self.corrupted.written[source].flatten(0, 1), out=into)
        elif self.means is not None:
            torch.sub(own, self.means[source], out=into)
        else:
            into.copy_(own)

    def _write_heads(self, layer: int, z: Tensor) -> None:
        """Store the differences of a layer's heads from what its output projection reads."""
        every = self.graph.attention_sources(layer)
        used = self.rows[(self.rows >= every.start) & (self.rows < every.stop)]
        if not len(used):
            return
        first = self._row(int(used[0]))
        assert first is not None
        heads = torch.from_numpy(used - every.start).to(z.device)
        weight = self.projections.layers[layer].output[heads]
        own = z.reshape(self.sets, self.tokens, *self.projections.heads)
        if self.corrupted is not None:
            own = own - self.corrupted.heads[layer].reshape(self.tokens, *self.projections.heads)
        for number in range(self.sets):
            into = self.differences[number, first : first + len(used)]
            torch.bmm(own[number][:, heads].transpose(0, 1), weight, out=into)
            if self.means is not None:
                into.sub_(self.means[torch.from_numpy(used).to(z.device)][:, None])

    # ---- what destinations read

    def _see_stream(self, stream: Tensor) -> None:
        self.stream = stream

    def _projection_hooks(
        self, layer: int, number: int, linear: nn.Module
    ) -> Iterator[tuple[nn.Module, str, Any]]:
        columns = self.projections.columns(layer, number)
        active = self.terms[:, :, columns].any(axis=(0, 1))
        if not self.from_corrupted and not active.any() and self.projections.group == 1:
            return
        if self.from_corrupted or active.all():
            # nobody reads the linear's own output; its shape is not needed either
            yield linear, "input", lambda x: x[:, :1]
        places = np.arange(columns.start, columns.stop)[active]
        yield (
            linear,
            "output",
            lambda out: self._projected(layer, number, places, bool(active.all()), out),
        )

    def _projected(
        self, layer: int, number: int, active: NDArray[np.intp], every: bool, own: Tensor
    ) -> Tensor:
        """Output of the linear: `active` columns made here, the others those of the reference."""
        weights, columns = self.projections.layers[layer], self.projections.columns(layer, number)
        first = self.projections.first(layer)
        count, width = columns.stop - columns.start, self.projections.heads[1]
        shape = (self.sets, self.tokens, count, width)
        if every:
            made = own.new_empty(shape)
        else:
            if self.from_corrupted:
                assert self.corrupted is not None
                own = self.corrupted.projected[layer][number]
            by_column = self.projections.by_column(own, number)
            made = by_column.reshape(-1, self.tokens, count, width).expand(shape).clone()
        reference = self.stream
        if self.from_corrupted:
            assert self.corrupted is not None
            reference = self.corrupted.attention_streams[layer]
        norm: Any = self.parts.blocks[layer].norm_attention
        for some, tokens in self._blocks(active):
            # `forward` passes by the hook that watches this norm
            normed = norm.forward(self._read(reference, some, tokens))
            chosen = torch.from_numpy(some - first).to(own.device)
            weight, bias = weights.weight[chosen], weights.bias[chosen]
            into = torch.from_numpy(some - columns.start).to(own.device)
            for each in range(self.sets):
                result = torch.baddbmm(bias, normed[each], weight)
                made[each, tokens].index_copy_(1, into, result.transpose(0, 1))
        made = made.reshape(-1, self.ids.shape[1], count, width)
        return self.projections.as_linear(made)

    def _blocks(self, columns: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], slice]]:
        """Destinations and tokens whose streams are made at once.

        Terms added one by one: few destinations, all tokens. A matrix product reads all differences
        of its tokens, so all destinations and few tokens.
        """
        if self._is_dense(columns):
            step = max(1, int(self.streams_at_once * self.tokens / len(columns)))
            for start in range(0, self.tokens, step):
                yield columns, slice(start, start + step)
            return
        step = max(1, int(self.streams_at_once))
        for start in range(0, len(columns), step):
            yield columns[start : start + step], slice(None)

    def _is_dense(self, columns: NDArray[np.intp]) -> bool:
        wanted = self.wanted[:, :, columns]
        used = np.flatnonzero(wanted.any(axis=(0, 2)))
        return len(used) > 0 and wanted[:, : used[-1] + 1].mean() >= self.dense

    def _mlp_input(self, layer: int, stream: Tensor) -> Tensor | None:
        if self.from_corrupted and self._row(self.graph.mlp_source(layer)) is None:
            # Nobody reads this MLP: one position is enough, what it adds there is no one's input.
            return stream[:, :1]
        reference = None if self.corrupted is None else self.corrupted.mlp_streams[layer]
        return self._input(self.graph.mlp_destination(layer), stream, reference)

    def _logits_input(self, stream: Tensor) -> Tensor | None:
        reference = None if self.corrupted is None else self.corrupted.last_stream
        return self._input(len(self.graph.destinations) - 1, stream, reference)

    def _input(self, column: int, stream: Tensor, corrupted: Tensor | None) -> Tensor | None:
        """The residual stream that an MLP or the logits read; None is that of this run."""
        if not self.from_corrupted and not self.terms[:, :, column].any():
            return None
        reference = corrupted if self.from_corrupted else stream
        assert reference is not None
        return self._read(reference, np.array([column])).reshape(-1, *stream.shape[1:])

    def _read(
        self, reference: Tensor, columns: NDArray[np.intp], tokens: slice = slice(None)
    ) -> Tensor:
        """Residual streams of destinations, [sets, columns, tokens, width]."""
        wanted = self.wanted[:, :, columns]
        used = np.flatnonzero(wanted.any(axis=(0, 2)))
        last = int(used[-1]) + 1 if len(used) else 0  # later sources haven't written yet
        start = reference.reshape(-1, 1, self.tokens, reference.shape[-1])[:, :, tokens]
        shape = (self.sets, len(columns), *start.shape[2:])
        differences, sign = self.differences[:, :, tokens], 1 if self.from_corrupted else -1
        if self._is_dense(columns):
            coefficients = torch.from_numpy(wanted[:, :last].swapaxes(1, 2))
            return torch.baddbmm(
                start.flatten(2).expand(self.sets, len(columns), -1),
                coefficients.to(reference.device, reference.dtype),
                differences[:, :last].flatten(2),
                alpha=sign,
            ).view(shape)
        streams = start.expand(shape).clone()
        for each, row, place in np.argwhere(wanted):
            streams[each, place].add_(differences[each, row], alpha=sign)
        return streams
