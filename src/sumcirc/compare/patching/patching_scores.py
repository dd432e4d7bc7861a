"""Effects and scores of patching single components, sets of components, and pairs of components.

With M the metric, the score of patching components is (M patched - M receiver) / (M donor - M
receiver): 0 if nothing changes, 1 if the receiver reaches the donor's metric. Patching components
of the tuned model into the base tests whether they suffice; patching components of the base into
the tuned model tests whether they are necessary. The score over several items is the ratio of the
means.

The sets of the 1, 2, ... components with the largest scores are chosen on one half of the items, to
be evaluated on the other half, beside random sets of the same size. The synergy of two components
is the effect of both together minus the sum of their effects alone (zero if effects add up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from sumcirc.compare.items.item_set import ItemBatch, ItemSet
from sumcirc.compare.patching.components import Component
from sumcirc.compare.patching.cross_model_patching import Receiver, Set
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.gradient_attribution import attributed
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.statistics.noise import shares_of_gap

Values = NDArray[np.float64]

MOST_COPIES = 64  # of a batch in one pass
FEW_ROWS = 64  # a pass of fewer rows is bound by reading the weights, not by arithmetic


@dataclass(frozen=True)
class PatchingResult:
    """The effects of patching single components.

    Attributes:
        parts: the components, which are patched one at a time.
        receiver: [items] metric of the receiving model without patching.
        donor: [items] metric of the donor model.
        effects: [components, items] metric with the component patched minus the metric without
            patching.
        attributed: [components, items] estimates of `effects` from one backward pass.
    """

    parts: list[Component]
    receiver: Values
    donor: Values
    effects: Values
    attributed: Values

    @property
    def gap(self) -> Values:
        """Metric of the donor minus the metric of the receiving model, [items]."""
        return self.donor - self.receiver

    def scores(self, effects: Values) -> tuple[Values, Values, Values]:
        """Return the scores of effects: the share of the gap that an effect closes, over all items.

        Args:
            effects: [..., items] effects.

        Returns:
            The scores, and the lower and the upper ends of their intervals, [...] each. All are NaN
            if the gap can't be distinguished from zero.
        """
        return shares_of_gap(effects, self.receiver, self.donor)


@dataclass(frozen=True)
class PatchingSetup:
    """A receiving model, a donor and items, which all patching in one direction uses.

    Args:
        hooked: the receiving model.
        donor: stored activations of the donor model on the items.
        items: the items on which the models are run.
        size: number of items in a batch, the same as for the donor.
        positions: name of the set of positions at which outputs are patched, see `TokenBatch.at`.
        sources: name of the set of positions whose keys and values are patched; None for all
            positions.
        memory: number of bytes that a pass may use in addition to the model.
    """

    hooked: HookedModel
    donor: Donor
    items: ItemSet
    size: int
    positions: str
    sources: str | None
    memory: int

    def each(
        self, parts: Sequence[Component], progress: Callable[[int], None] | None = None
    ) -> PatchingResult:
        """Measure the effect of patching each component alone, and estimate it by a backward pass.

        Args:
            parts: the components to patch.
            progress: called with the number of newly completed items.
        """
        count = len(self.items)
        receiver, donor = np.empty(count), np.empty(count)
        effects, estimates = np.empty((2, len(parts), count))
        for number, batch in enumerate(self._batches()):
            run = self._receiver(number, batch)
            places, own = batch.places, run.metric
            receiver[places] = own.double().cpu().numpy()
            donor[places] = self.donor.metric[number].double().numpy()
            found = attributed(run, parts)
            estimates[:, places] = torch.stack([found[one] for one in parts]).double().cpu().numpy()
            effects[:, places] = self._measured(run, batch, [[one] for one in parts])
            if progress is not None:
                progress(len(batch))
        return PatchingResult(list(parts), receiver, donor, effects, estimates)

    def together(
        self, sets: Sequence[Set], progress: Callable[[int], None] | None = None
    ) -> Values:
        """Return the change of the metric if each set of components is patched, [sets, items].

        Args:
            sets: sets of components; the components of a set are patched together.
            progress: called with the number of newly completed items.
        """
        effects = np.empty((len(sets), len(self.items)))
        for number, batch in enumerate(self._batches() if sets else ()):
            run = self._receiver(number, batch)
            effects[:, batch.places] = self._measured(run, batch, sets)
            if progress is not None:
                progress(len(batch))
        return effects

    def _batches(self) -> list[ItemBatch]:
        return list(self.items.batches(self.size, self.hooked.device))

    def _receiver(self, number: int, batch: ItemBatch) -> Receiver:
        sources = None if self.sources is None else batch.at(self.sources)
        return Receiver(self.hooked, batch, self.donor, number, batch.at(self.positions), sources)

    def _measured(self, run: Receiver, batch: ItemBatch, sets: Sequence[Set]) -> Values:
        """Return the effects of patching sets of parts in a batch, [sets, B].

        Sets whose first patched layer is the same are patched in the same passes. A pass with few
        rows takes as long as reading the weights, so sets of later layers join it.
        """
        layers = self.hooked.shape.layers
        first = [min((part.layer for part in one), default=layers) for one in sets]
        order = sorted(range(len(sets)), key=first.__getitem__)
        at_once, rows = self._copies(run, batch), len(batch) * run.moved.shape[1]
        found = np.empty((len(sets), len(batch)))
        start = 0
        while start < len(order):
            stop = start
            while (
                stop < len(order)
                and stop - start < at_once
                and (first[order[stop]] == first[order[start]] or (stop - start) * rows < FEW_ROWS)
            ):
                stop += 1
            chosen = order[start:stop]
            values = run.patched([sets[i] for i in chosen]) - run.metric
            found[chosen] = values.double().cpu().numpy()
            start = stop
        return found

    def _copies(self, run: Receiver, batch: ItemBatch) -> int:
        """Return how many copies of a batch fit into memory."""
        shape = self.hooked.shape
        rows = run.moved.shape[1]
        tokens, length = len(batch) * rows, len(batch) * batch.input_ids.shape[1]
        numbers = tokens * (8 * shape.width + 4 * shape.neurons)
        numbers += 4 * length * shape.heads * shape.head_width
        numbers += 4 * int(batch.reads.sum()) * shape.vocabulary
        each = numbers * run.metric.element_size()
        return int(np.clip(self.memory // each, 1, MOST_COPIES))


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the indices of items into halves: return the even and the odd indices.

    Sets of components are chosen on the items with even indices, and evaluated on the others.

    Args:
        count: number of items.
    """
    places = np.arange(count)
    return places[::2], places[1::2]


def first_sets(moved: PatchingResult, most: int) -> list[list[Component]]:
    """Return the sets of the 1, 2, ... components that move the metric most towards the donor's.

    The components are chosen on the first half of the items, as split by `halves`.

    Args:
        moved: effects of patching single components.
        most: size of the largest set.
    """
    chosen, _ = halves(len(moved.gap))
    towards = np.sign(moved.gap[chosen].mean()) or 1.0
    order = np.argsort(-towards * moved.effects[:, chosen].mean(-1), kind="stable")[:most]
    return [[moved.parts[i] for i in order[: size + 1]] for size in range(len(order))]


def random_sets(
    parts: Sequence[Component], sizes: Sequence[int], draws: int, seed: int
) -> list[list[Component]]:
    """Return random sets of components, `len(sizes)` for each draw.

    Each draw shuffles the components and takes the first ones for each size, so the sets of a draw
    are nested.

    Args:
        parts: the components to draw from.
        sizes: sizes of the sets, ascending.
        draws: number of draws.
        seed: seed of the draws.
    """
    found = []
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(len(parts))
        found += [[parts[i] for i in order[:size]] for size in sizes]
    return found


def pairs_of(parts: Sequence[Component]) -> list[list[Component]]:
    """Return all pairs of different components.

    Args:
        parts: the components.
    """
    return [list(two) for two in combinations(parts, 2)]


def synergy(
    moved: PatchingResult, pairs: Sequence[Sequence[Component]], together: Values
) -> Values:
    """Return the effect of both components of a pair minus the sum of their effects alone.

    Args:
        moved: effects of patching single components.
        pairs: the pairs of components.
        together: [pairs, items] effects of patching both components of a pair.

    Returns:
        [pairs, items].
    """
    place = {part: i for i, part in enumerate(moved.parts)}
    alone = np.array([moved.effects[[place[part] for part in two]].sum(0) for two in pairs])
    return together - alone.reshape(together.shape)
