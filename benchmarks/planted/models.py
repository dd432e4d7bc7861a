"""Models with a planted change: their kinds, and what each of them consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import GPT2LMHeadModel

from benchmarks.planted.changes import Deltas, Place, total, weights_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.measures.measure_documents import ProbeSet
from sumcirc.schema import Grain

EXAMPLES = 8
ROUTE = "second place"  # the span that holds the second event's place


@dataclass(frozen=True)
class Kind:
    """A kind of planted change.

    Attributes:
        grain: grain of its places.
        count: number of places that carry the new answers, all of which are needed.
        decoys: number of decoys, half of which are trained.
        groups: number of different new answers.
        rate: learning rate of plant and decoys.
        decay: factor of the squared norm of the plant in its loss.
        route: whether the head has to read the new answer at the span ROUTE of the examples.
    """

    grain: Grain
    count: int = 1
    decoys: int = 6
    groups: int = 2
    rate: float = 2e-2
    decay: float = 0.0
    route: bool = False


KINDS = {
    "head": Kind(Grain.head),
    "layer": Kind(Grain.layer, decoys=2, rate=1e-2),
    "module": Kind(Grain.module, decoys=4),
    "direction": Kind(Grain.direction, decoys=4, groups=1, rate=1e-2, decay=0.002),
    "two heads": Kind(Grain.head, count=2),
    "fact route": Kind(Grain.head, rate=4e-3, route=True),
}


@dataclass(frozen=True, eq=False)
class Base:
    """A model in which changes are planted.

    Attributes:
        seed: its seed.
        model: the model, whose parameters require no gradients.
    """

    seed: int
    model: GPT2LMHeadModel


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples on which a changed model is judged and measured.

    Attributes:
        items: prompts after which the new answer is read.
        probes: the same with the answer, to be measured at some positions.
        pairs: the same prompts, each with a corrupted one that has another answer.
    """

    items: ItemSet
    probes: ProbeSet
    pairs: list[ExamplePair]


@dataclass(frozen=True, eq=False)
class Decoy:
    """A change that has nothing to do with the new answers.

    Attributes:
        place: its place.
        trained: whether it was trained to give other new answers, rather than drawn to be inert.
        deltas: the change.
    """

    place: Place
    trained: bool
    deltas: Deltas


@dataclass(eq=False)
class Planted:
    """A model with a planted change.

    Attributes:
        base: the model before.
        number: number of the model among those of its kind and base.
        kind: kind of the change.
        plant: places that carry the new answers.
        changes: the change in each of them.
        decoys: the decoys.
        examples: the examples on which it is judged and measured.
    """

    base: Base
    number: int
    kind: str
    plant: list[Place]
    changes: list[Deltas]
    decoys: list[Decoy]
    examples: Examples

    def model(self, plant: Sequence[int] | None = None, decoys: bool = True) -> GPT2LMHeadModel:
        """Return the base with parts of the plant, and with or without the decoys.

        Args:
            plant: which parts of the plant are in it; None for all.
            decoys: whether the decoys are in it.
        """
        kept = self.changes if plant is None else [self.changes[one] for one in plant]
        added = total([*kept, *(one.deltas for one in self.decoys if decoys)])
        model = GPT2LMHeadModel(self.base.model.config).eval().requires_grad_(False)
        weights = weights_of(self.base.model)
        state = {name: one + added.get(name, 0.0) for name, one in weights.items()}
        model.load_state_dict(state, strict=False)
        return model
