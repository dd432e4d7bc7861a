"""Does moving a part across carry the behaviour: every part, sets of parts, and pairs of them.

With M the metric, the score of moving parts is (M moved - M receiver) / (M donor - M receiver): 0
where nothing happens, 1 where the receiver becomes as the donor. Moving parts of the tuned model
into the base asks whether they suffice; moving the base's into the tuned model, whether they are
needed. A score of many items is the ratio of the means over items.

Sets that are made here (the first 1, 2, ... parts by score) are chosen on one half of the items and
to be judged on the other, beside as many parts drawn at random. The synergy of two parts is what
both do together less what each does alone (zero where effects add up).
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
from sumcirc.models.hooked_model import HookedModel
from sumcirc.statistics.noise import shares_of_gap

Values = NDArray[np.float64]

MOST_COPIES = 64  # of a batch in one pass


@dataclass(frozen=True)
class PatchingResult:
    """What moving single parts does.

    Attributes:
        parts: each alone.
        receiver, donor: [items] their own metric.
        effects: [parts, items] metric with the part moved less the receiver's.
        attributed: [parts, items] the same as one backward pass estimates it.
    """

    parts: list[Component]
    receiver: Values
    donor: Values
    effects: Values
    attributed: Values

    @property
    def gap(self) -> Values:
        """What moving everything does, [items]."""
        return self.donor - self.receiver

    def scores(self, effects: Values) -> tuple[Values, Values, Values]:
        """Scores with the ends of their intervals, [...] each, from effects [..., items].

        They are NaN where the gap can't be told from zero.
        """
        return shares_of_gap(effects, self.receiver, self.donor)


@dataclass(frozen=True)
class PatchingSetup:
    """How parts are moved between two models.

    Args:
        parts: of the receiver, live.
        donor: the other's states on the items.
        size: items in a batch, as the donor's.
        positions: where outputs are moved, see `TokenBatch.at`.
        sources: positions whose keys and values are moved; None: all.
        memory: bytes that a pass may take beside the model.
    """

    parts: HookedModel
    donor: Donor
    items: ItemSet
    size: int
    positions: str
    sources: str | None
    memory: int

    def each(
        self, parts: Sequence[Component], progress: Callable[[int], None] | None = None
    ) -> PatchingResult:
        """Move every part alone, and attribute all of them at once.

        Args:
            progress: called with the items that are done.
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
        """Effects of sets of parts, [sets, items]."""
        effects = np.empty((len(sets), len(self.items)))
        for number, batch in enumerate(self._batches() if sets else ()):
            run = self._receiver(number, batch)
            effects[:, batch.places] = self._measured(run, batch, sets)
            if progress is not None:
                progress(len(batch))
        return effects

    def _batches(self) -> list[ItemBatch]:
        device = self.parts.unembedding.weight.device
        return list(self.items.batches(self.size, device))  # type: ignore[arg-type]

    def _receiver(self, number: int, batch: ItemBatch) -> Receiver:
        sources = None if self.sources is None else batch.at(self.sources)
        return Receiver(self.parts, batch, self.donor, number, batch.at(self.positions), sources)

    def _measured(self, run: Receiver, batch: ItemBatch, sets: Sequence[Set]) -> Values:
        """Effects [sets, B]; sets that begin in one layer share passes."""
        layers = self.parts.shape.layers
        first = [min((part.layer for part in one), default=layers) for one in sets]
        order = sorted(range(len(sets)), key=first.__getitem__)
        at_once = self._copies(run, batch)
        found = np.empty((len(sets), len(batch)))
        start = 0
        while start < len(order):
            stop = start
            while (
                stop < len(order)
                and first[order[stop]] == first[order[start]]
                and stop - start < at_once
            ):
                stop += 1
            chosen = order[start:stop]
            values = run.patched([sets[i] for i in chosen]) - run.metric
            found[chosen] = values.double().cpu().numpy()
            start = stop
        return found

    def _copies(self, run: Receiver, batch: ItemBatch) -> int:
        """How many copies of a batch fit: streams and MLP, keys and values, logits."""
        shape = self.parts.shape
        rows = run.moved.shape[1]
        tokens, length = len(batch) * rows, len(batch) * batch.input_ids.shape[1]
        numbers = tokens * (8 * shape.width + 4 * shape.neurons)
        numbers += 4 * length * shape.heads * shape.head_width
        numbers += 4 * int(batch.reads.sum()) * shape.vocabulary
        each = numbers * run.metric.element_size()
        return int(np.clip(self.memory // each, 1, MOST_COPIES))


def halves(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items on which sets are chosen, and those on which they are judged."""
    places = np.arange(count)
    return places[::2], places[1::2]


def first_sets(moved: PatchingResult, most: int) -> list[list[Component]]:
    """The first 1, 2, ... parts by mean effect towards the donor on the half for choosing."""
    chosen, _ = halves(len(moved.gap))
    towards = np.sign(moved.gap[chosen].mean()) or 1.0
    order = np.argsort(-towards * moved.effects[:, chosen].mean(-1), kind="stable")[:most]
    return [[moved.parts[i] for i in order[: size + 1]] for size in range(len(order))]


def random_sets(
    parts: Sequence[Component], sizes: Sequence[int], draws: int, seed: int
) -> list[list[Component]]:
    """For each draw a row of nested sets of the sizes, one after another."""
    found = []
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(len(parts))
        found += [[parts[i] for i in order[:size]] for size in sizes]
    return found


def pairs_of(parts: Sequence[Component]) -> list[list[Component]]:
    """Every two of some parts."""
    return [list(two) for two in combinations(parts, 2)]


def synergy(
    moved: PatchingResult, pairs: Sequence[Sequence[Component]], together: Values
) -> Values:
    """What two parts do together less what each does alone, [pairs, items]."""
    place = {part: i for i, part in enumerate(moved.parts)}
    alone = np.array([moved.effects[[place[part] for part in two]].sum(0) for two in pairs])
    return together - alone.reshape(together.shape)
