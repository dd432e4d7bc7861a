"""One forward pass of a live model in which destinations read patched residual streams.

It uses hooks on the model itself, adapters included. With D_u = a_u - p_u (own minus patched output
of source u) there are two forms of the same input x_v of destination v:

    x_v = stream of this run - sum of D_u over cut edges
    x_v = stream of the corrupted run + sum of D_u over kept edges   (interchange only)

The one with fewer terms is used, so that a destination without terms costs nothing and is exact.
The head's slice of the effective projection, with the norm's weight folded in, computes q, k or v
from x_v and the scale of its norm, which replaces the projection's output; rotary embeddings, head
norms, attention and MLP are the model's. D_u of a head is (z - z_corrupted) W_O. Where inputs start
from the corrupted run's stream, nobody reads the model's own projections, which are then not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.models.activations.activation_cache import ActivationKey, HookPoint

if TYPE_CHECKING:
    from sumcirc.circuits.patching.patched_run import PatchedRun

INPUTS = {
    HookPoint.QKV_PROJECTION: HookPoint.QKV_INPUT,
    HookPoint.QUERY_PROJECTION: HookPoint.QUERY_INPUT,
    HookPoint.KEY_PROJECTION: HookPoint.KEY_INPUT,
    HookPoint.VALUE_PROJECTION: HookPoint.VALUE_INPUT,
}
# Density of terms above which one matrix product is faster than adding term by term: on a CPU
# additions run in cache, on a GPU each is a separate kernel.
DENSE_ON_CPU, DENSE_ON_GPU = 0.15, 0.02
# Bytes of residual streams computed at once: fits the CPU's cache; on a GPU large enough to fill it
STREAMS_ON_CPU, STREAMS_ON_GPU = 2 << 20, 256 << 20


class Workspace:
    """Memory for one tensor at a time, used again because a CPU takes long to provide new memory.

    Args:
        like: tensor of the type and on the device that tensors are to have.
    """

    def __init__(self, like: Tensor) -> None:
        self._memory = like.new_empty(0)

    def empty(self, *shape: int) -> Tensor:
        """Return an uninitialized tensor of a shape, which is valid until the next call."""
        size = math.prod(shape)
        if self._memory.numel() < size:
            self._memory = self._memory.new_empty(0)  # freed before more is allocated
            self._memory = self._memory.new_empty(size)
        return self._memory[:size].view(shape)


class PatchedPass:
    """One forward pass of some documents through one or several circuits.

    The documents are repeated in the model's batch for every circuit: first all documents for the
    first circuit, then all for the second, and so on. A residual stream of all rows has the shape
    [sets, documents * positions, width], where a set is a circuit. D_u is defined at the top of the
    module.

    Args:
        run: provides the model, the documents and the patches.
        terms: [sets, sources, destinations] True where D_u is added to, or subtracted from, the
            input of a destination.
        from_corrupted: whether inputs start from the corrupted run's stream, to which D_u of kept
            edges is added, rather than from this run's, from which D_u of cut edges is subtracted.
        documents: range of the run's documents to process.
    """

    def __init__(
        self,
        run: PatchedRun,
        terms: NDArray[np.bool_],
        from_corrupted: bool,
        documents: slice,
    ) -> None:
        self.model, self.graph, self.weights = run.model, run.graph, run.weights
        self.terms = terms
        self.from_corrupted = from_corrupted
        self.means = run.means
        self.corrupted = None if run.corrupted is None else run.corrupted.documents(documents)
        self.ids = run.clean_ids[documents]
        self.mask = None if run.attention_mask is None else run.attention_mask[documents]
        self.sets = len(terms)
        self.tokens = self.ids.numel()
        self.rows = np.flatnonzero(terms.any(axis=(0, 2)))
        self.wanted = terms[:, self.rows]
        self.streams, shape = run.streams, (self.sets, len(self.rows), self.tokens)
        self.differences = run.differences.empty(*shape, run.model.shape.width)
        self.added = [each.unbind() for each in self.differences]  # views [tokens, width]
        self.stream = self.differences  # what the current attention layer reads, in this run
        on_cpu = self.differences.device.type == "cpu"
        self.dense = DENSE_ON_CPU if on_cpu else DENSE_ON_GPU
        budget = STREAMS_ON_CPU if on_cpu else STREAMS_ON_GPU
        self.streams_at_once = budget * len(self.rows) / self.differences.nbytes

    def run(self) -> Tensor:
        """Return the residual stream after the final norm, [sets, documents, positions, width]."""
        ungrouped = self.model.ungrouped(self.graph.expand_groups)
        with ungrouped, self.model.hooks(self._hooks()):
            ids = self.ids.repeat(self.sets, 1)
            mask = None if self.mask is None else self.mask.repeat(self.sets, 1)
            found = self.model.hidden(mask, input_ids=ids)
        return found.unflatten(0, (self.sets, -1))

    def _hooks(self) -> Iterator[tuple[ActivationKey, Callable[[Tensor], Tensor | None]]]:
        graph, last = self.graph, self.graph.shape.layers
        yield self._writes(HookPoint.EMBEDDING, 0, 0)
        for layer in range(last):
            yield (HookPoint.ATTENTION_INPUT, layer), self._see_stream
            for number, point in enumerate(self.model.projections):
                yield from self._projection_hooks(layer, number, point)
            yield from self._head_hooks(layer)
            yield (HookPoint.MLP_INPUT, layer), partial(self._mlp_input, layer)
            yield self._writes(HookPoint.MLP_OUTPUT, layer, graph.mlp_source(layer))
        column = len(graph.destinations) - 1
        yield (HookPoint.RESIDUAL, last), partial(self._input, column, (HookPoint.RESIDUAL, last))

    def _head_hooks(
        self, layer: int
    ) -> Iterator[tuple[ActivationKey, Callable[[Tensor], Tensor | None]]]:
        outputs, *scale = self.model.head_points
        if not scale:
            yield (outputs, layer), partial(self._heads, layer)
            return
        seen: dict[ActivationKey, Tensor] = {}
        yield (outputs, layer), partial(seen.__setitem__, (outputs, layer))

        def write(factor: Tensor) -> None:
            seen[scale[0], layer] = factor
            self._write_heads(layer, self.model.scaled_heads(seen, layer))

        yield (scale[0], layer), write

    def _writes(
        self, point: HookPoint, layer: int, source: int
    ) -> tuple[ActivationKey, Callable[[Tensor], None]]:
        return (point, layer), partial(self._write, source, (point, layer))

    # ---- what sources write

    def _row(self, source: int) -> int | None:
        place = int(np.searchsorted(self.rows, source))
        return place if place < len(self.rows) and self.rows[place] == source else None

    def _write(self, source: int, key: ActivationKey, output: Tensor) -> None:
        """Store the difference of the embedding or of an MLP."""
        row = self._row(source)
        if row is None:
            return
        own, into = output.reshape(self.sets, self.tokens, -1), self.differences[:, row]
        if self.corrupted is not None:
            torch.sub(own, self.corrupted[key].flatten(0, 1), out=into)
        elif self.means is not None:
            torch.sub(own, self.means[source], out=into)
        else:
            into.copy_(own)

    def _heads(self, layer: int, z: Tensor) -> Tensor | None:
        """Store what a layer's heads write; return what the output projection reads instead."""
        self._write_heads(layer, z)
        # from the corrupted run's stream, nobody reads the projection's output
        return z[:, :1] if self.from_corrupted else None

    def _write_heads(self, layer: int, z: Tensor) -> None:
        """Store the differences of a layer's heads, from `HookedModel.scaled_heads`."""
        every = self.graph.attention_sources(layer)
        used = self.rows[(self.rows >= every.start) & (self.rows < every.stop)]
        if not len(used):
            return
        first = self._row(int(used[0]))
        assert first is not None
        heads = _index(used - every.start, z.device)
        weight = self.weights.output(layer)
        own = z.reshape(self.sets, self.tokens, *weight.shape[:2])
        if self.corrupted is not None:
            corrupted = self.model.scaled_heads(self.corrupted, layer)
            own = own - corrupted.reshape(self.tokens, *weight.shape[:2])
        weight = weight[heads]
        for number in range(self.sets):
            into = self.differences[number, first : first + len(used)]
            torch.bmm(own[number][:, heads].transpose(0, 1), weight, out=into)
            if self.means is not None:
                into.sub_(self.means[torch.from_numpy(used).to(z.device)][:, None])

    # ---- what destinations read

    def _see_stream(self, stream: Tensor) -> None:
        self.stream = stream

    def _projection_hooks(
        self, layer: int, number: int, point: HookPoint
    ) -> Iterator[tuple[ActivationKey, Callable[[Tensor], Tensor]]]:
        columns = self._columns(layer, number)
        active = self.terms[:, :, columns].any(axis=(0, 1))
        if not self.from_corrupted and not active.any():
            return
        if self.from_corrupted or active.all():
            # the linear's output isn't used, nor its shape
            yield (INPUTS[point], layer), lambda x: x[:, :1]
        places = np.arange(columns.start, columns.stop)[active]
        yield (point, layer), partial(self._projected, (point, layer), columns, places)

    def _columns(self, layer: int, number: int) -> slice:
        """Return the graph's columns of a linear: queries, keys or values of a layer, or all."""
        graph = self.graph
        if len(self.model.projections) == 1:
            return slice(graph.query_columns(layer).start, graph.value_columns(layer).stop)
        return (graph.query_columns, graph.key_columns, graph.value_columns)[number](layer)

    def _projected(
        self, key: ActivationKey, columns: slice, active: NDArray[np.intp], own: Tensor
    ) -> Tensor:
        """Return the linear's output: `active` columns computed here, others from the reference."""
        layer = key[1]
        weights, constants = self.weights.folded(layer), self.weights.constant(layer)
        first = self.graph.query_columns(layer).start
        count, width = columns.stop - columns.start, self.model.shape.head_width
        shape = (self.sets, self.tokens, count, width)
        if len(active) == count:
            made = own.new_empty(shape)
        else:
            if self.from_corrupted:
                assert self.corrupted is not None
                own = self.corrupted[key]
            made = (
                self.model.by_head(own).reshape(-1, self.tokens, count, width).expand(shape).clone()
            )
        reference = self.stream
        if self.from_corrupted:
            assert self.corrupted is not None
            reference = self.corrupted[HookPoint.ATTENTION_INPUT, layer]
        norm = self.weights.norms_attention[layer]
        for some, tokens in self._blocks(active):
            streams = self._read(reference, some, tokens, self.streams)
            scale, chosen = norm.scale(streams), _index(some - first, own.device)
            projection, constant = weights[chosen].mT, constants[chosen, None].to(scale.dtype)
            into = _index(some - columns.start, own.device)
            for each in range(self.sets):
                result = torch.addcmul(constant, streams[each] @ projection, scale[each])
                made[each, tokens][:, into] = result.transpose(0, 1)
        made = made.reshape(-1, self.ids.shape[1], count, width)
        return self.model.joined(made)

    def _blocks(self, columns: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], slice]]:
        """Yield destinations and tokens whose streams are computed at once.

        When terms are added one by one: few destinations, all tokens. A matrix product reads all
        differences of its tokens, so: all destinations and few tokens.
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
            # Nobody reads this MLP's output, so one position is enough.
            return stream[:, :1]
        key = (HookPoint.MLP_INPUT, layer)
        return self._input(self.graph.mlp_destination(layer), key, stream)

    def _input(self, column: int, key: ActivationKey, stream: Tensor) -> Tensor | None:
        """Return the residual stream that an MLP or the logits read; None for that of this run."""
        if not self.from_corrupted and not self.terms[:, :, column].any():
            return None
        reference = stream
        if self.from_corrupted:
            assert self.corrupted is not None
            reference = self.corrupted[key]
        return self._read(reference, np.array([column])).reshape(-1, *stream.shape[1:])

    def _read(
        self,
        reference: Tensor,
        columns: NDArray[np.intp],
        tokens: slice = slice(None),
        workspace: Workspace | None = None,
    ) -> Tensor:
        """Return the residual streams of destinations, [sets, columns, tokens, width]."""
        wanted = self.wanted[:, :, columns]
        used = np.flatnonzero(wanted.any(axis=(0, 2)))
        last = int(used[-1]) + 1 if len(used) else 0  # later sources haven't written yet
        streams = self._copies(reference, len(columns), tokens, workspace)
        sign = 1 if self.from_corrupted else -1
        if self._is_dense(columns):
            coefficients = torch.from_numpy(wanted[:, :last].swapaxes(1, 2))
            streams.flatten(2).baddbmm_(
                coefficients.to(streams.device, streams.dtype),
                self.differences[:, :last, tokens].flatten(2),
                alpha=sign,
            )
            return streams
        places = [each.unbind() for each in streams]
        for each, row, place in np.argwhere(wanted).tolist():
            places[each][place].add_(self.added[each][row], alpha=sign)
        return streams

    def _copies(
        self, reference: Tensor, count: int, tokens: slice, workspace: Workspace | None
    ) -> Tensor:
        """Return copies of a stream, [sets, count, tokens, width], in a workspace if given."""
        start = reference.reshape(-1, 1, self.tokens, reference.shape[-1])[:, :, tokens]
        shape = (self.sets, count, *start.shape[2:])
        found = start.new_empty(shape) if workspace is None else workspace.empty(*shape)
        return found.copy_(start)


def _index(numbers: NDArray[np.intp], device: torch.device) -> slice | Tensor:
    """Return an index of ascending numbers, which is a slice if none in between is missing."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first + 1 == len(numbers):
        return slice(first, last + 1)
    return torch.from_numpy(numbers).to(device)
