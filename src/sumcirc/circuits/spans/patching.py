"""Runs a live model as a circuit by span: an edge may be kept at some spans and cut at others.

A query, an MLP or the logits at a position of span s reads

    x_v = sum of a_u over units (u, v, s, s) kept + sum of p_u over those cut + biases and positions

with a_u and p_u as in `patching.patched_run`. A key or value of a token of span s has such an input
for every span t, from units (u, v, s, t), and queries of span t attend to the keys and values made
from it. Patching a unit (s, t) thus changes k or v at s for queries in t alone.

Each layer's attention runs once per span t, with the keys and values for it, and of each position
the output with those of its own span is taken. The rest of the model runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.circuits.patching.evaluator import Evaluator
from sumcirc.circuits.patching.patched_pass import PatchedPass, Workspace
from sumcirc.circuits.patching.patched_run import ALL, Circuit, PatchedRun, slice_of
from sumcirc.circuits.spans.units import SpanPairs, crossing
from sumcirc.models.activations.activation_cache import ActivationKey, HookPoint
from sumcirc.models.modes import inference


class SpanPass(PatchedPass):
    """One forward pass of some documents through one circuit by span.

    Args:
        run: provides the model, the documents, their spans and the patches.
        terms: [spans s, spans t, sources, destinations] true where a difference is added to, or
            subtracted from, what a destination reads at s for queries in t; for a destination that
            is no key or value the same for every t.
        from_corrupted: as of `PatchedPass`.
        documents: range of the run's documents to process.
    """

    def __init__(
        self, run: SpanRun, terms: NDArray[np.bool_], from_corrupted: bool, documents: slice
    ) -> None:
        anywhere = np.logical_or.reduce(terms, axis=(0, 1))
        super().__init__(run, anywhere[None], from_corrupted, documents)
        self.by_span = terms[:, :, self.rows]
        self.labels = run.labels[documents].to(self.ids.device)
        self.places = [(self.labels.flatten() == s).nonzero()[:, 0] for s in range(len(terms))]
        self.reading = 0  # the span t whose keys and values are made
        self.inner: list[Tensor] | None = None  # heads' outputs of the runs of attention for it
        self.calls: dict[int, tuple[Any, Any]] = {}

    def run(self) -> Tensor:
        """Return the residual stream after the final norm, [1, documents, positions, width]."""
        handles = [
            block.attention.register_forward_pre_hook(partial(self._note, layer), with_kwargs=True)
            for layer, block in enumerate(self.model.blocks)
        ]
        try:
            return super().run()
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: int, module: Any, arguments: Any, options: Any) -> None:
        self.calls[layer] = arguments, options

    def _head_hooks(
        self, layer: int
    ) -> Iterator[tuple[ActivationKey, Callable[[Tensor], Tensor | None]]]:
        yield (HookPoint.HEAD_OUTPUTS, layer), partial(self._by_query_span, layer)
        yield from super()._head_hooks(layer)

    def _by_query_span(self, layer: int, heads: Tensor) -> Tensor | None:
        """Return the outputs of the heads, each position's with the keys and values for its span.

        This is called within the model's own run of the layer's attention, with those for span 0.
        """
        if self.inner is not None:
            self.inner.append(heads)
            return None
        merged, module = heads.clone(), self.model.blocks[layer].attention
        arguments, options = self.calls[layer]
        for t in range(1, len(self.places)):
            if not len(self.places[t]):
                continue
            self.reading, self.inner = t, []
            module.forward(*arguments, **options)  # bypasses the hooks on attention as a whole
            merged = torch.where((self.labels == t)[..., None], self.inner[0], merged)
            self.inner = None
        self.reading = 0
        return merged

    def _write_heads(self, layer: int, z: Tensor) -> None:
        if self.inner is None:
            super()._write_heads(layer, z)

    def _is_dense(self, columns: NDArray[np.intp]) -> bool:
        return len(columns) > 0

    def _read(
        self,
        reference: Tensor,
        columns: NDArray[np.intp],
        tokens: slice = slice(None),
        workspace: Workspace | None = None,
    ) -> Tensor:
        """Return the residual streams of destinations, [1, columns, tokens, width]."""
        wanted = self.by_span[:, self.reading][:, :, columns]
        used = np.flatnonzero(wanted.any(axis=(0, 2)))
        last = int(used[-1]) + 1 if len(used) else 0  # later sources haven't written yet
        streams = self._copies(reference, len(columns), tokens, workspace)
        sign, first = (1 if self.from_corrupted else -1), tokens.start or 0
        for s, places in enumerate(self.places):
            terms = wanted[s, :last]
            stop = self.tokens if tokens.stop is None else tokens.stop
            here = places[(places >= first) & (places < stop)]
            if not terms.any() or not len(here):
                continue
            factors = torch.from_numpy(terms.T).to(streams.device, streams.dtype)
            added = factors @ self.differences[0, :last, here].flatten(1)
            streams[0].index_add_(
                1, here - first, added.view(len(columns), len(here), -1), alpha=sign
            )
        return streams


class SpanRun(PatchedRun):
    """Runs clean documents through a model as circuits by span.

    Args:
        units: the pairs of spans.
        labels: [documents, positions] index of each position's span, negative at padding.
        given: the arguments of `PatchedRun`.
    """

    def __init__(self, units: SpanPairs, labels: Tensor, *given: Any) -> None:
        super().__init__(*given)
        self.units, self.labels = units, labels

    def hidden(self, kept: Circuit, documents: slice = ALL) -> Tensor:
        """Return the residual stream after the final norm, [documents, positions, width].

        Args:
            kept: one circuit [sources, destinations], whose edges are kept at all spans; or one
                circuit by span, [pairs, sources, destinations].
            documents: the documents to run; by default all.
        """
        if kept.ndim == 2:
            return super().hidden(kept, documents)
        circuit, exists = np.asarray(kept, dtype=bool), self.units.exists(self.graph)
        if circuit.shape != exists.shape:
            raise ValueError(f"kept: shape {circuit.shape}, the units have {exists.shape}")
        with inference(self.model.model):
            return self._by_span(circuit & exists, exists & ~circuit, documents)

    def _by_span(self, kept: NDArray[np.bool_], cut: NDArray[np.bool_], documents: slice) -> Tensor:
        chosen, from_corrupted = self._terms(kept, cut)
        if not chosen.any():
            return self._without_terms(from_corrupted)[documents]
        terms = self._spread(chosen)
        places = range(len(self.clean_ids))[documents]
        at_once = max(1, self.memory // self._bytes(int(terms.any(axis=(0, 1, 3)).sum())))
        return torch.cat(
            [
                SpanPass(self, terms, from_corrupted, slice_of(places, start, at_once)).run()[0]
                for start in range(0, len(places), at_once)
            ]
        )

    def _spread(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the terms of `SpanPass` from units, [pairs, sources, destinations]."""
        count, shared = len(self.units.names), crossing(self.graph)
        terms = np.zeros((count, count, *self.graph.exists.shape), dtype=bool)
        for number, (s, t) in enumerate(self.units.pairs):
            terms[s, t] |= chosen[number] & shared
            if s == t:
                terms[s] |= chosen[number] & ~shared
        return terms


class SpanEvaluator(Evaluator):
    """Runs circuits by span on pairs, and plain circuits, as `Evaluator` does.

    Args:
        units: the pairs of spans.
        given, named: the arguments of `Evaluator`.
    """

    def __init__(self, units: SpanPairs, *given: Any, **named: Any) -> None:
        self.units = units
        super().__init__(*given, **named)

    def _patched(self, items: Tensor) -> SpanRun:
        labels = self.pairs.clean.labels(self.units.names).masked_fill(
            ~self.pairs.attention_mask, -1
        )
        labels = labels[items][:, self.pairs.columns(items)]
        return SpanRun(self.units, labels, self.model, *self._patching(items))
