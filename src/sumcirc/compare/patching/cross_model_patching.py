"""Activation patching across models: activations of a donor are patched into a receiver.

Both models read the same tokens. At the patched positions, a component of the receiver outputs what
it output in the donor; everything after it is computed by the receiver. Queries, keys, values and
patterns change what their heads write at these positions only: the heads' outputs at other
positions are kept, although a key or value is patched at all of its positions. Where a norm follows
the output projection, a head's output is its share of what the norm returns: the receiver's share,
scaled by the norm in this pass, is replaced by the donor's, scaled by the norm in the donor's run;
the other heads' shares stay. This follows N.
Prakash et al., Fine-Tuning Enhances Existing Mechanisms, 2024, arXiv:2402.14811 (cross-model
activation patching).

A pass starts at the first patched layer: blocks before it are skipped, and keys and values of
positions before the first patched or read one are reused. Several sets of components are patched in
one pass, each in a copy of the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sumcirc.compare.items.item_set import ItemBatch
from sumcirc.compare.patching.components import (
    ATTENTION,
    HOOK_POINTS,
    KEY,
    MLP,
    OUTPUT,
    PATTERN,
    QUERY,
    RESIDUAL,
    UNEMBEDDING,
    VALUE,
    Component,
)
from sumcirc.compare.patching.donor_activations import Donor, compute, start_of
from sumcirc.models.activations.activation_cache import ActivationKey, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.modes import inference

Set = Collection[Component]


class Receiver:
    """Runs the receiving model on one batch with activations of the donor patched in.

    Args:
        hooked: the receiving model.
        batch: the batch, with B items of T positions.
        donor: the donor, with its stored activations on all batches.
        number: index of `batch` in `donor`.
        moved: [B, T] mask of the positions at which outputs are replaced.
        sources: [B, T] mask of the positions whose keys and values are replaced; None for all.

    Attributes:
        start: first position that is run, before which no output is replaced or read.
        states: activations of the receiving model without patching, see `compute`.
        metric: [B] metric of the receiving model without patching.
        theirs: the donor's activations on this batch.
        moved: [B, T - start] the argument `moved` from position `start` on.
    """

    def __init__(
        self,
        hooked: HookedModel,
        batch: ItemBatch,
        donor: Donor,
        number: int,
        moved: Tensor,
        sources: Tensor | None = None,
    ) -> None:
        self.hooked, self.batch, self.donor = hooked, batch, donor
        self.start = start_of(batch, [moved])
        self.states, self.metric = compute(hooked, batch, self.start)
        self.theirs = donor.batch(number, batch.input_ids.device)
        self.moved = moved[:, self.start :]
        self.sources = sources
        self._weights: dict[int, Tensor] = {}

    def output_weight(self, layer: int) -> Tensor:
        """Return the receiver's map from heads to the stream, [heads, head width, width]."""
        if layer not in self._weights:
            self._weights[layer] = self.hooked.attention_output(layer).weight
        return self._weights[layer]

    def patched(self, sets: Sequence[Set]) -> Tensor:
        """Return the receiver's metric for each set, with all of its components patched at once.

        Args:
            sets: the sets of components.

        Returns:
            [sets, B].
        """
        found = _Pass(self, sets).run()
        return found.unflatten(0, (len(sets), len(self.batch)))

    def from_start(self, layer: int, attention: AttentionInputs) -> AttentionInputs:
        """Return a layer's attention inputs, completed with the keys and values before `start`.

        These come from the run without patching.

        Args:
            layer: index of the layer.
            attention: inputs of the layer's attention from position `start` on.
        """
        if not self.start:
            return attention
        copies = len(attention.key) // len(self.batch)
        key, value = (
            torch.cat([before[:, :, : self.start].repeat(copies, 1, 1, 1), own], 2)
            for before, own in (
                (self.states[HookPoint.KEY, layer], attention.key),
                (self.states[HookPoint.VALUE, layer], attention.value),
            )
        )
        return replace(attention, key=key, value=value)

    def with_theirs(
        self, layer: int, moved: Collection[str], own: AttentionInputs, head: int | None = None
    ) -> AttentionInputs:
        """Return attention inputs in which queries, keys or values are replaced by the donor's.

        Args:
            layer: index of the layer.
            moved: the kinds of inputs to replace: one or more of QUERY, KEY and VALUE. Keys and
                values are replaced only at the positions `sources`.
            own: the receiving model's inputs, either of all heads, or of one head with its
                key/value head.
            head: index of the head whose inputs `own` contains; None if it contains those of all
                heads.
        """
        query = slice(None) if head is None else slice(head, head + 1)
        group = self.hooked.shape.group
        shared = query if head is None else slice(head // group, head // group + 1)
        found: dict[str, Tensor] = {}
        if QUERY in moved:
            found["query"] = self.theirs[HookPoint.QUERY, layer][:, query]
        for kind in {KEY, VALUE} & set(moved):
            other = self.theirs[HOOK_POINTS[kind], layer][:, shared]
            if self.sources is not None:
                other = torch.where(self.sources[:, None, :, None], other, getattr(own, kind))
            found[kind] = other
        return replace(own, **found)


class _Pass:
    """One pass of the receiving model that patches each set of components in its own batch copy."""

    def __init__(self, receiver: Receiver, sets: Sequence[Set]) -> None:
        self.receiver = receiver
        self.hooked = receiver.hooked
        self.copies = len(sets)
        self.first = min(
            (part.layer for one in sets for part in one), default=self.hooked.shape.layers
        )
        # copy and head by kind and layer
        self.wanted: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        for copy, one in enumerate(sets):
            for part in one:
                self.wanted[part.kind, part.layer].append((copy, part.index))

    def run(self) -> Tensor:
        """Return the metric of every copy, [copies * B]."""
        receiver, hooked = self.receiver, self.hooked
        stream = receiver.states[HookPoint.RESIDUAL, self.first].repeat(self.copies, 1, 1)
        last = (HookPoint.RESIDUAL, hooked.shape.layers)
        with (
            inference(hooked.model),
            hooked.hooks(self._hooks()),
            hooked.caching([last]) as seen,
        ):
            normed = hooked.hidden_from(self.first, stream, receiver.start)
            return self._read(normed, seen[last])

    def _attend(self, layer: int, attention: AttentionInputs) -> Tensor:
        """Return the heads' outputs in a layer, with the donor's parts in the patched heads."""
        receiver, shape = self.receiver, self.hooked.shape
        attention = receiver.from_start(layer, attention)
        found = attention.outputs()
        heads: dict[tuple[int, int], set[str]] = defaultdict(set)
        for kind in (QUERY, KEY, VALUE, PATTERN):
            for copy, index in self.wanted.get((kind, layer), ()):
                for head in Component(layer, kind, index).heads(shape):
                    heads[copy, head] |= {QUERY, KEY} if kind == PATTERN else {kind}
        for (copy, head), kinds in heads.items():
            rows = self._rows(copy)
            shared = slice(head // shape.group, head // shape.group + 1)
            own = replace(
                attention,
                query=attention.query[rows, head : head + 1],
                key=attention.key[rows, shared],
                value=attention.value[rows, shared],
            )
            new = receiver.with_theirs(layer, kinds, own, head).outputs()[:, :, 0]
            found[rows, :, head] = self._moved(new, found[rows, :, head])
        return found

    def _rows(self, copy: int) -> slice:
        size = len(self.receiver.batch)
        return slice(copy * size, (copy + 1) * size)

    def _moved(self, new: Tensor, old: Tensor) -> Tensor:
        """Return `new` at the patched positions and `old` elsewhere, [B, R, ...]."""
        return torch.where(self.receiver.moved[..., None], new, old)

    def _hooks(self) -> Iterator[tuple[ActivationKey, Callable[..., Any]]]:
        """Yield the hooks of the blocks that are run."""
        layers = self.hooked.shape.layers
        for layer in range(self.first, layers + 1):
            if layer < layers:
                yield (HookPoint.ATTENTION, layer), partial(self._attend, layer)
            if (OUTPUT, layer) in self.wanted:
                yield from self._head_hooks(layer)
            for kind in (RESIDUAL, ATTENTION, MLP):
                if (kind, layer) in self.wanted:
                    yield (HOOK_POINTS[kind], layer), partial(self._replaced, kind, layer)

    def _changed(
        self, kind: str, layer: int, values: Tensor, change: Callable[[Tensor, int], Tensor]
    ) -> Tensor:
        """Change values at the patched positions of every copy that patches a part of this kind.

        Args:
            values: [copies * B, R, ...].
            change: maps a copy's values [B, R, ...] and the part's head to the replacement.
        """
        values = values.clone()
        for copy, head in self.wanted[kind, layer]:
            rows = self._rows(copy)
            values[rows] = self._moved(change(values[rows], head), values[rows])
        return values

    def _replaced(self, kind: str, layer: int, values: Tensor) -> Tensor:
        theirs = self.receiver.theirs[HOOK_POINTS[kind], layer]
        return self._changed(kind, layer, values, lambda own, head: theirs)

    def _without(self, layer: int, z: Tensor) -> Tensor:
        """Set the output of patched heads to zero at the patched positions."""
        z, width = z.clone(), self.hooked.shape.head_width
        for copy, head in self.wanted[OUTPUT, layer]:
            rows, columns = self._rows(copy), slice(head * width, (head + 1) * width)
            z[rows, :, columns].masked_fill_(self.receiver.moved[..., None], 0.0)
        return z

    def _with_theirs(self, layer: int, written: Tensor) -> Tensor:
        """Add what the donor's heads write, computed with the donor's output projection."""
        weight = self.receiver.donor.output_weight(layer, written.device)
        theirs = self.hooked.scaled_heads(self.receiver.theirs, layer)
        z = theirs.unflatten(-1, weight.shape[:2])
        return self._changed(
            OUTPUT, layer, written, lambda own, head: own + z[:, :, head] @ weight[head]
        )

    def _head_hooks(self, layer: int) -> Iterator[tuple[ActivationKey, Callable[..., Any]]]:
        """Yield the hooks that replace what heads of a layer write by what the donor's write."""
        written = (HookPoint.ATTENTION_OUTPUT, layer)
        points = self.hooked.head_points
        if len(points) == 1:
            yield (HookPoint.HEAD_OUTPUTS, layer), partial(self._without, layer)
        else:
            # heads must stay in the projection, whose norm scales all of them by their sum
            weight = self.receiver.output_weight(layer)  # before hooks watch the projection
            seen: dict[ActivationKey, Tensor] = {}
            for key in [(point, layer) for point in points]:
                yield key, partial(seen.__setitem__, key)
            yield written, partial(self._without_share, layer, weight, seen)
        yield written, partial(self._with_theirs, layer)

    def _without_share(
        self, layer: int, weight: Tensor, seen: dict[ActivationKey, Tensor], written: Tensor
    ) -> Tensor:
        """Subtract what patched heads write at the patched positions."""
        z = self.hooked.scaled_heads(seen, layer).unflatten(-1, weight.shape[:2])
        written = written.clone()
        for copy, head in self.wanted[OUTPUT, layer]:
            rows = self._rows(copy)
            without = written[rows] - z[rows, :, head] @ weight[head]
            written[rows] = self._moved(without, written[rows])
        return written

    def _read(self, normed: Tensor, last: Tensor) -> Tensor:
        """Return the metric; a patched unembedding is applied to the last residual stream."""
        receiver, layers = self.receiver, self.hooked.shape.layers
        found = receiver.batch.read(self.hooked, normed)
        for copy, _ in self.wanted.get((UNEMBEDDING, layers), ()):
            assert receiver.donor.unembedding is not None
            norm, unembedding = (module.to(normed.device) for module in receiver.donor.unembedding)
            rows = self._rows(copy)
            found[rows] = receiver.batch.score(unembedding, norm(last[rows]))
        return found
