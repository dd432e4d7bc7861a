"""Division of path scores by edge: into which reader's input the change of each sender writes.

For a sender u (`written_changes`) and a destination v of the circuits' graph,

    write(u -> v) = integral from 0 to 1 of sum over positions < da_u, g_v > d lambda

where da_u is what the change of u's weights writes with u's input held, and g_v the gradient of the
metric at what v reads, before its norm, through v alone: the gradients of edge attribution
(`circuits.attribution.edge_scores`), of the metric instead of a loss and at W(lambda). The residual
stream is a sum, so the gradient at a_u is the sum of g_v over all v after u, and

    sum over v of write(u -> v) = path score of u

for every item and lambda. What has no row: norms and biases, which belong to no sender alone, and
the final norm and the unembedding, which write nothing to the stream. Their path scores complete
the sum to the gain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.circuits.attribution.edge_scores import Accumulator, at_once, view
from sumcirc.circuits.attribution.methods import KEPT
from sumcirc.circuits.attribution.tracing import gradient_keys, read_keys
from sumcirc.circuits.graph import Graph
from sumcirc.compare.deltas.deltas import EMBEDDING, FINAL, NORMS
from sumcirc.compare.items.item_set import ItemBatch
from sumcirc.compare.path.unit_change import UnitChange
from sumcirc.compare.path.units import BIASES, Unit
from sumcirc.compare.path.written_changes import Sender, WrittenChanges
from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel

Values = NDArray[np.float64]
UNDIVIDED = (NORMS, BIASES, FINAL)  # parts of which no edge is known


@dataclass(frozen=True, eq=False)
class EdgeWrites:
    """What the change wrote along each edge.

    Attributes:
        graph: the model's graph, whose destinations are the columns.
        senders: the sender of each row.
        values: [items, senders, destinations] writes, in the metric's unit; 0 where there is no
            edge.
        moved: [senders, destinations] change of the mean write between 3 and 7 nodes a panel.
        rest: [items] path scores of what is not divided by edge, by the unit's label: norms,
            biases, the last norm and the unembedding.
    """

    graph: Graph
    senders: list[Sender]
    values: Values
    moved: Values
    rest: dict[str, Values]

    @property
    def exists(self) -> NDArray[np.bool_]:
        """[senders, destinations] whether there is an edge."""
        return existing(self.graph, self.senders)

    @property
    def by_source(self) -> Values:
        """[items, sources, destinations] writes by the graph's sources, summed over senders."""
        found = np.zeros((len(self.values), *self.graph.exists.shape))
        for row, sender in enumerate(self.senders):
            found[:, sender.source] += self.values[:, row]
        return found


def existing(graph: Graph, senders: Sequence[Sender]) -> NDArray[np.bool_]:
    """Return which senders have an edge into which destinations, [senders, destinations]."""
    return graph.exists[[sender.source for sender in senders]]


class EdgePasses:
    """Passes of the live model that give the gradients of a change and its writes at one lambda.

    Args:
        hooked: the model.
        change: its change.

    Raises:
        UserError: the change can't be divided by sender; see `WrittenChanges`.
    """

    def __init__(self, hooked: HookedModel, change: UnitChange) -> None:
        self._hooked, self._change = hooked, change
        self._written = WrittenChanges(hooked, change)
        self.graph, self.senders = self._written.graph, self._written.senders
        self._exists = existing(self.graph, self.senders)
        self._gradient_keys = gradient_keys(hooked)
        self._keys = [*self._gradient_keys, *read_keys(hooked)]
        self._weights: AttentionWeights | None = None

    @property
    def size(self) -> int:
        """Number of edges."""
        return int(self._exists.sum())

    def read(self) -> None:
        """Read the effective weights again, after the change was scaled."""
        dtype = torch.promote_types(self._hooked.model.dtype, torch.float32)
        self._weights = AttentionWeights(self._hooked, False, dtype, KEPT)
        self._written.read()

    def differentiate(self, batch: ItemBatch) -> tuple[list[Tensor], Values]:
        """Run some items once, and differentiate their metrics.

        Args:
            batch: the items.

        Returns:
            The gradients of the summed metric with respect to the changed tensors, and [items,
            edges] the products of writes and gradients, edge by edge in the order of `unpacked`.
        """
        assert self._weights is not None
        parameters, keys = self._change.parameters, self._gradient_keys
        ask = [((HookPoint.EMBEDDING, 0), _ask)]
        with torch.enable_grad():
            with (
                self._hooked.hooks(ask),
                self._written.recording(),
                self._hooked.caching(self._keys) as cache,
            ):
                normed = batch.run(self._hooked)
            value = batch.read(self._hooked, normed).sum()
            found = torch.autograd.grad(
                value, [*parameters, *(cache[key] for key in keys)], allow_unused=True
            )
        of_weights, of_values = found[: len(parameters)], found[len(parameters) :]
        gradients = [
            torch.zeros_like(parameter) if one is None else one
            for parameter, one in zip(parameters, of_weights, strict=True)
        ]
        return gradients, self._products(
            batch, cache, ActivationCache(zip(keys, of_values, strict=True))
        )

    @torch.no_grad()
    def _products(
        self, batch: ItemBatch, values: ActivationCache, gradients: ActivationCache
    ) -> Values:
        weights = self._weights
        assert weights is not None
        sums = Accumulator(weights, self.graph, 1)
        sums.add(values, gradients, 1.0)
        mask = batch.attention_mask
        looked_up = self._written.looked_up(batch.input_ids, mask, weights.dtype)
        found = sums.final.new_zeros(len(mask), *self._exists.shape)
        sources = np.array([sender.source for sender in self.senders])
        for places, written, room in self._parts(sums):
            self._written.rows(looked_up, places, written)
            written.masked_fill_(~mask[:, places, None], 0)  # nothing is written at padding
            for reads, columns, gradient in sums.gradients(places, room):
                count = int(np.searchsorted(sources, reads))  # senders of layers before
                if count == 0:
                    continue
                for row in range(len(mask)):
                    one, other = written[:count, row], gradient[:, row]
                    found[row, :count, columns].addmm_(one.flatten(1), other.flatten(1).T)
        exists = torch.from_numpy(self._exists).to(found.device)
        return found[:, exists].double().cpu().numpy()

    def _parts(self, sums: Accumulator) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield ranges of positions, with room for writes and for gradients there."""
        rows, tokens, width = sums.final.shape
        senders, widest = len(self.senders), sums.widest
        each = (senders + widest) * rows * width * sums.final.element_size()
        step = min(tokens, max(1, at_once(sums.final.device) // each))
        written, room = (
            sums.final.new_empty(count * rows * step * width) for count in (senders, widest)
        )
        for start in range(0, tokens, step):
            places = slice(start, min(tokens, start + step))
            shape = (senders, rows, places.stop - start, width)
            yield places, view(written, shape), room

    def unpacked(self, values: Values) -> Values:
        """Return [..., edges] values as [..., senders, destinations], 0 where there is no edge."""
        found = np.zeros((*values.shape[:-1], *self._exists.shape))
        found[..., self._exists] = values
        return found

    def result(
        self, values: Values, moved: Values, units: Sequence[Unit], scores: Values
    ) -> EdgeWrites:
        """Return the integrals with the path scores of what is not divided.

        Args:
            values: [items, edges] integrals.
            moved: [edges] change of the mean integral between 3 and 7 nodes a panel.
            units: the units of the grain `module`.
            scores: [items, units] their path scores.
        """
        writes = self.unpacked(values)
        return EdgeWrites(
            self.graph,
            self.senders,
            writes,
            self.unpacked(moved),
            self._rest(writes, dict(zip(units, scores.T, strict=True))),
        )

    def _rest(self, writes: Values, scores: Mapping[Unit, Values]) -> dict[str, Values]:
        found = {unit.label: one for unit, one in scores.items() if unit.part in UNDIVIDED}
        for unit, one in scores.items():
            if unit.part != EMBEDDING:
                continue
            divided = [row for row, sender in enumerate(self.senders) if sender.source == 0]
            if not divided:
                found[unit.label] = one
            elif self._tied():
                found["unembedding"] = one - writes[:, divided].sum((1, 2))
        return found

    def _tied(self) -> bool:
        head = self._hooked.model.get_output_embeddings()
        table = self._hooked.model.get_input_embeddings()
        return getattr(head, "weight", None) is getattr(table, "weight", table)


def _ask(embedded: Tensor) -> None:
    """Ask for gradients from the first layer on, also if only later layers have a change."""
    if not embedded.requires_grad:
        embedded.requires_grad_()
