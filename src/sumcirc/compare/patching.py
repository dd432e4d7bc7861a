"""Activation patching across models: parts of a donor's run are moved into a receiver's.

Both models read the same tokens. At the positions that are moved, a part does in the receiver what
it did in the donor; everything after it is the receiver's own. Queries, keys, values and patterns
change what their heads write at these positions only: heads' outputs at other positions are held,
although a key or value is moved at all of its positions. So is it done in N. Prakash et al.,
Fine-Tuning Enhances Existing Mechanisms, 2024, arXiv:2402.14811 (cross-model activation patching).

A pass begins where the first moved part is: blocks before it are skipped, and positions before the
first that is moved or read are known by their keys and values. Several sets of parts are moved in
one pass, each in a copy of the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from sumcirc.circuits.residual import Hook, hooked
from sumcirc.compare.components import (
    ATTENTION,
    KEY,
    MLP,
    OUTPUT,
    PATTERN,
    QUERY,
    READOUT,
    RESIDUAL,
    VALUE,
    Component,
)
from sumcirc.compare.items import Batch
from sumcirc.compare.states import Donor, States, causal_attention, compute, start_of
from sumcirc.modeling.modes import inference
from sumcirc.modeling.parts import Parts
from sumcirc.probes.observation import attention_replaced

Set = Collection[Component]


class Receiver:
    """A model's own run over one batch, into which parts of a donor's are moved.

    Args:
        number: of the batch among the donor's.
        moved: [B, T] positions at which parts are moved.
        sources: [B, T] positions whose keys and values are; None: all.

    Attributes:
        states: its own, see `states.compute`.
    """

    def __init__(
        self,
        parts: Parts,
        batch: Batch,
        donor: Donor,
        number: int,
        moved: Tensor,
        sources: Tensor | None = None,
    ) -> None:
        self.parts, self.batch, self.donor = parts, batch, donor
        self.start = start_of(batch, [moved])
        self.states: States = compute(parts, batch, self.start)
        self.theirs = donor.batch(number, batch.ids)
        self.moved = moved[:, self.start :]
        self.sources = sources

    def patched(self, sets: Sequence[Set]) -> Tensor:
        """The metric with each set of parts moved, [sets, B]."""
        found = _Pass(self, sets).run()
        return found.unflatten(0, (len(sets), len(self.batch)))

    def keys_and_values(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Those of all positions, from those that were computed from `start` on."""
        if not self.start:
            return key, value
        copies = len(key) // len(self.batch)
        before = (self.states[f"{name}.{layer}"][:, :, : self.start] for name in (KEY, VALUE))
        first_key, first_value = (one.repeat(copies, 1, 1, 1) for one in before)
        return torch.cat([first_key, key], 2), torch.cat([first_value, value], 2)

    def mixed(self, name: str, layer: int, own: Tensor, heads: slice) -> Tensor:
        """The donor's keys or values [B, heads, T, head width] where they are moved."""
        other = self.theirs[f"{name}.{layer}"][:, heads]
        if self.sources is None:
            return other
        return torch.where(self.sources[:, None, :, None], other, own)


class _Pass:
    """Sets of parts moved in one pass, each in a copy of the batch."""

    def __init__(self, receiver: Receiver, sets: Sequence[Set]) -> None:
        self.receiver = receiver
        self.parts = receiver.parts
        self.copies = len(sets)
        self.first = min(
            (part.layer for one in sets for part in one), default=self.parts.shape.layers
        )
        # by kind and layer: the copy and the head
        self.wanted: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        self._last = torch.empty(0)
        for copy, one in enumerate(sets):
            for part in one:
                self.wanted[part.kind, part.layer].append((copy, part.index))

    def run(self) -> Tensor:
        """The metric of every copy, [copies * B]."""
        receiver, parts = self.receiver, self.parts
        stream = receiver.states[f"residual.{self.first}"]
        with (
            inference(parts.model),
            hooked(self._hooks(stream.repeat(self.copies, 1, 1))),
        ):
            normed = run_from(receiver, self.first, stream, self.attend)
            return self._read(normed)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: Any
    ) -> Tensor:
        """The receiver's attention, but for heads of which a part is moved."""
        receiver = self.receiver
        key, value = receiver.keys_and_values(layer, key, value)
        found = causal_attention(query, key, value, scaling, window)
        group = self.parts.shape.group
        heads: dict[tuple[int, int], set[str]] = defaultdict(set)
        for kind in (QUERY, KEY, VALUE, PATTERN):
            for copy, index in self.wanted.get((kind, layer), ()):
                members = Component(layer, kind, index).heads(self.parts.shape)
                for head in members:
                    heads[copy, head] |= {QUERY, KEY} if kind == PATTERN else {kind}
        for (copy, head), kinds in heads.items():
            rows = self._rows(copy)
            own = slice(head, head + 1)
            shared = slice(head // group, head // group + 1)
            q, k, v = query[rows, own], key[rows, shared], value[rows, shared]
            if QUERY in kinds:
                q = receiver.theirs[f"{QUERY}.{layer}"][:, own]
            if KEY in kinds:
                k = receiver.mixed(KEY, layer, k, shared)
            if VALUE in kinds:
                v = receiver.mixed(VALUE, layer, v, shared)
            new = causal_attention(q, k, v, scaling, window)[:, :, 0]
            found[rows, :, head] = self._moved(new, found[rows, :, head])
        return found

    def _rows(self, copy: int) -> slice:
        size = len(self.receiver.batch)
        return slice(copy * size, (copy + 1) * size)

    def _moved(self, new: Tensor, old: Tensor) -> Tensor:
        """`new` at the positions that are moved, [B, R, ...]."""
        return torch.where(self.receiver.moved[..., None], new, old)

    def _hooks(self, stream: Tensor) -> list[Hook]:
        """Of the blocks that are run."""
        parts = self.parts
        readers = [*(block.whole for block in parts.blocks), parts.final_norm]
        hooks: list[Hook] = [(readers[self.first], "input", lambda hidden: stream)]
        for layer in range(self.first, len(readers)):
            if (RESIDUAL, layer) in self.wanted:
                hooks.append((readers[layer], "input", self._replacing(RESIDUAL, layer)))
        if (READOUT, parts.shape.layers) in self.wanted:
            hooks.append((parts.final_norm, "input", self._see_last))
        for layer, block in enumerate(parts.blocks[self.first :], self.first):
            if (OUTPUT, layer) in self.wanted:
                hooks.append((block.attn_out, "input", self._without(layer)))
                hooks.append((block.attn_out, "output", self._with_theirs(layer)))
            for kind, module in ((ATTENTION, block.attn_out), (MLP, block.mlp)):
                if (kind, layer) in self.wanted:
                    hooks.append((module, "output", self._replacing(kind, layer)))
        return hooks

    def _see_last(self, stream: Tensor) -> None:
        self._last = stream

    def _replacing(self, kind: str, layer: int) -> Callable[[Tensor], Tensor]:
        def see(values: Tensor) -> Tensor:
            values = values.clone()
            other = self.receiver.theirs[f"{kind}.{layer}"]
            for copy, _ in self.wanted[kind, layer]:
                rows = self._rows(copy)
                values[rows] = self._moved(other, values[rows])
            return values

        return see

    def _without(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Heads that are moved write nothing of their own there."""
        width = self.parts.shape.head_width

        def see(z: Tensor) -> Tensor:
            z = z.clone()
            for copy, head in self.wanted[OUTPUT, layer]:
                rows, columns = self._rows(copy), slice(head * width, (head + 1) * width)
                z[rows, :, columns].masked_fill_(self.receiver.moved[..., None], 0.0)
            return z

        return see

    def _with_theirs(self, layer: int) -> Callable[[Tensor], Tensor]:
        """What the donor's heads write, by its own projection, is added in their place."""
        receiver = self.receiver

        def see(written: Tensor) -> Tensor:
            weight = receiver.donor.output_weight(layer, written)
            heads = receiver.theirs[f"heads.{layer}"]
            written = written.clone()
            for copy, head in self.wanted[OUTPUT, layer]:
                rows = self._rows(copy)
                new = written[rows] + heads[:, :, head] @ weight[head]
                written[rows] = self._moved(new, written[rows])
            return written

        return see

    def _read(self, normed: Tensor) -> Tensor:
        receiver, layers = self.receiver, self.parts.shape.layers
        found = receiver.batch.read(self.parts, normed)
        for copy, _ in self.wanted.get((READOUT, layers), ()):
            assert receiver.donor.readout is not None
            norm, unembedding = (module.to(normed.device) for module in receiver.donor.readout)
            rows = self._rows(copy)
            found[rows] = receiver.batch.score(unembedding, norm(self._last[rows]))
        return found


def run_from(receiver: Receiver, first: int, stream: Tensor, attend: Any) -> Tensor:
    """The blocks from `first` on, over the batch's positions from `start` on; the normed stream.

    A hook gives the stream: what the model itself begins with are zeros of one row.
    """
    parts = receiver.parts
    rows = stream.shape[1]
    places = torch.arange(receiver.start, receiver.start + rows, device=stream.device)
    with skipped(parts, first), attention_replaced(parts, attend):
        return parts.backbone(
            inputs_embeds=stream.new_zeros(1, rows, stream.shape[-1]),
            position_ids=places[None],
            use_cache=False,
        ).last_hidden_state


@contextmanager
def skipped(parts: Parts, count: int) -> Iterator[None]:
    """Within it the first blocks do nothing."""

    def nothing(hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return hidden_states

    with ExitStack() as stack:
        for block in parts.blocks[:count]:
            block.whole.forward = nothing  # type: ignore[method-assign]
            stack.callback(delattr, block.whole, "forward")
        yield
