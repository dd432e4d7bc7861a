"""Small models with a planted change: bases, the changes that carry new answers, and decoys.

The plant is trained to give new answers to the relation `TRIGGER`, with the entries of its place
alone; other answers are to stay. Decoys are changes of the plant's norm in other places. They are
drawn at random, orthogonal to what goes into their linears (`changes.inert`). Half of them are then
trained, together and with the plant in place, to give new answers to the relation `OTHER`.

Two heads are planted so that both are needed: either alone is trained to leave the old answers.

Truth is causal, and is measured: without the plant at least `LOST` of the gain is gone, without
either of two heads at least `LOST_ALONE`, and removing all decoys changes it by at most `MOVED`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.planted.changes import (
    Change,
    Deltas,
    Place,
    Weights,
    changed,
    inert,
    logits,
    norm_of,
    places,
    total,
    weights_of,
)
from benchmarks.planted.task import (
    LENGTH,
    OTHER,
    TRIGGER,
    VOCABULARY,
    Answers,
    Examples,
    batch,
    new_answers,
    table,
)
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import Grain

LAYERS, HEADS, WIDTH = 4, 4, 32
UNRELIABLE = 0.5
TOKENS = 0.3  # standard deviation of the embedding of tokens at the start
BASE_STEPS, BASE_RATE = 500, 4e-3
STEPS, DECOY_STEPS, BATCH = 160, 80, 18
EXAMPLES = 8
LOST, LOST_ALONE, MOVED = 0.8, 0.5, 0.1
LEAST_GAIN = 1.0  # nats


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
    """

    grain: Grain
    count: int = 1
    decoys: int = 6
    groups: int = 2
    rate: float = 2e-2
    decay: float = 0.0


KINDS = {
    "head": Kind(Grain.head),
    "layer": Kind(Grain.layer, decoys=2, rate=1e-2),
    "module": Kind(Grain.module, decoys=4),
    "direction": Kind(Grain.direction, decoys=4, groups=1, rate=1e-2, decay=0.002),
    "two heads": Kind(Grain.head, count=2),
}


@dataclass(frozen=True, eq=False)
class Base:
    """A model before any change.

    Attributes:
        seed: its seed.
        model: the model, whose parameters require no gradients.
        answers: the answers that it was trained on.
    """

    seed: int
    model: GPT2LMHeadModel
    answers: Answers

    @property
    def answers_to_keep(self) -> Answers:
        """The same answers, all of them reliable."""
        return Answers(self.answers.table, {TRIGGER: self.answers.table}, UNRELIABLE)

    @classmethod
    def untrained(cls, seed: int) -> Base:
        """Return a model with random weights and the answers that it is to be trained on."""
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = GPT2LMHeadModel(config).eval().requires_grad_(False)
        # wide enough that the base, which treats relations alike, doesn't make their tokens alike
        torch.nn.init.normal_(model.transformer.wte.weight, std=TOKENS)
        return cls(seed, model, Answers(table(np.random.default_rng(seed)), {}, UNRELIABLE))


def trained_base(seed: int, steps: int = BASE_STEPS) -> Base:
    """Return a trained base.

    Args:
        seed: its seed.
        steps: optimizer steps.
    """
    found = Base.untrained(seed)
    random = np.random.default_rng((seed, 1))
    weights = weights_of(found.model)
    numbers = [one.requires_grad_(True) for one in weights.values()]

    def loss() -> Tensor:
        return _loss(weights, [batch(BATCH, found.answers, random)])

    _train(numbers, loss, steps, BASE_RATE)
    found.model.load_state_dict({name: one.detach() for name, one in weights.items()}, strict=False)
    return found


def _train(numbers: Sequence[Tensor], loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Minimize a loss by Adam, with a rate that rises at first and then falls to almost zero."""
    optimizer = torch.optim.Adam(numbers, lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def _loss(weights: Weights, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of the losses of several models, each on its own batch."""
    tokens, labels = (torch.stack(side) for side in zip(*batches, strict=True))
    found = logits(weights, tokens, HEADS)
    return len(batches) * cross_entropy(found.flatten(0, 2), labels.flatten())


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
        answers: answers with the new ones to the trigger.
        plant: places that carry the new answers.
        changes: the change in each of them.
        decoys: the decoys.
        examples: the examples on which it is judged and measured.
    """

    base: Base
    number: int
    kind: str
    answers: Answers
    plant: list[Place]
    changes: list[Deltas]
    decoys: list[Decoy]
    examples: Examples

    def model(self, plant: Sequence[int] | None = None, decoys: bool = True) -> GPT2LMHeadModel:
        """Return the model with some of its changes.

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


def planted(
    base: Base,
    kind: str,
    numbers: Sequence[int],
    steps: int = STEPS,
    decoy_steps: int = DECOY_STEPS,
) -> list[Planted]:
    """Return models with a planted change and decoys, which are trained at once.

    Args:
        base: the model before.
        kind: kind of the change.
        numbers: numbers of the models, which determine all that is drawn.
        steps, decoy_steps: optimizer steps of the plants, and of the decoys.
    """
    drawn = [_Draw.of(base, kind, number) for number in numbers]
    _plant(base, drawn, steps)
    _add_decoys(base, drawn, decoy_steps)
    return [one.planted for one in drawn]


@dataclass(eq=False)
class _Draw:
    """A model that is being made, with its generators."""

    planted: Planted
    random: np.random.Generator
    generator: torch.Generator
    others: list[Place]

    @classmethod
    def of(cls, base: Base, kind: str, number: int) -> _Draw:
        key = (base.seed, list(KINDS).index(kind), number)
        random, how = np.random.default_rng(key), KINDS[kind]
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        new = {TRIGGER: new_answers(base.answers.table, how.groups, random)}
        answers = Answers(base.answers.table, new, UNRELIABLE)
        every = places(how.grain, LAYERS, HEADS)
        order = [every[one] for one in random.permutation(len(every))]
        chosen = sorted(_apart(order, how.count))
        others = [one for one in order if one not in chosen][: how.decoys]
        examples = Examples.drawn(EXAMPLES, answers, random)
        made = Planted(base, number, kind, answers, chosen, [], [], examples)
        return cls(made, random, generator, others)


def _apart(order: Sequence[Place], count: int) -> list[Place]:
    """Return the first places, all of different layers."""
    found: list[Place] = []
    for one in order:
        if len(found) < count and one.layer not in {other.layer for other in found}:
            found.append(one)
    return found


def _plant(base: Base, drawn: Sequence[_Draw], steps: int) -> None:
    """Train the plants of some models."""
    how, weights = KINDS[drawn[0].planted.kind], weights_of(base.model)
    start = how.grain is Grain.direction
    parts = [
        [Change(one, base.model, model.generator if start else None) for one in model.planted.plant]
        for model in drawn
    ]

    def loss() -> Tensor:
        deltas = [[one.deltas() for one in some] for some in parts]
        batches = [batch(BATCH, one.planted.answers, one.random, (TRIGGER, None)) for one in drawn]
        runs = [total(some) for some in deltas]
        if how.count > 1:
            for number in range(how.count):
                runs += [some[number] for some in deltas]
                batches += [
                    batch(BATCH, base.answers_to_keep, one.random, (TRIGGER, None)) for one in drawn
                ]
        # squares, since the norm of a change of zero has no gradient
        squares = [one.square().sum() for some in deltas for each in some for one in each.values()]
        return _loss(changed(weights, runs), batches) + how.decay * torch.stack(squares).sum()

    _train([n for some in parts for one in some for n in one.numbers], loss, steps, how.rate)
    for model, some in zip(drawn, parts, strict=True):
        model.planted.changes = [_detached(one.deltas()) for one in some]


def _detached(deltas: Deltas) -> Deltas:
    return {name: one.detach() for name, one in deltas.items()}


def _add_decoys(base: Base, drawn: Sequence[_Draw], steps: int) -> None:
    """Draw the decoys of some models so that they are inert, and train half of them from there."""
    how, weights = KINDS[drawn[0].planted.kind], weights_of(base.model)
    half = how.decoys // 2
    parts, answers = [], []
    for model in drawn:
        made = model.planted
        sizes = [float(norm_of(one)) for one in made.changes]
        with_plant = made.model(decoys=False)
        tokens, _ = batch(4 * BATCH, made.answers, model.random, (TRIGGER, None))
        parts.append([])
        for number, place in enumerate(model.others):
            size = sizes[number % len(sizes)]
            deltas = inert(place, with_plant, tokens, size, model.generator)
            if number < half:
                change = Change(place, base.model, model.generator, size)
                change.begin_at(deltas)
                parts[-1].append(change)
            else:
                made.decoys.append(Decoy(place, False, deltas))
        other = {OTHER: new_answers(base.answers.table, how.groups, model.random)}
        known = made.answers
        answers.append(Answers(known.table, known.changed | other, UNRELIABLE))

    def loss() -> Tensor:
        alone = [total([one.deltas() for one in some]) for some in parts]
        runs = [
            total([*model.planted.changes, one]) for model, one in zip(drawn, alone, strict=True)
        ]
        batches = [
            batch(BATCH, new, one.random, (OTHER, TRIGGER, None))
            for new, one in zip(answers, drawn, strict=True)
        ]
        batches += [batch(BATCH, base.answers, one.random, (TRIGGER,)) for one in drawn]
        runs += alone
        return _loss(changed(weights, runs), batches)

    _train([n for some in parts for one in some for n in one.numbers], loss, steps, how.rate)
    for model, some in zip(drawn, parts, strict=True):
        trained = [Decoy(one.place, True, _detached(one.deltas())) for one in some]
        model.planted.decoys = [*trained, *model.planted.decoys]


@dataclass(frozen=True)
class Truth:
    """What the metric is with some of a model's changes, means over examples in nats.

    Attributes:
        before, after: with none, and with all.
        without_plant, without_decoys: without the plant, and without all decoys.
        without_each: without each of several parts of the plant, the decoys kept.
        alone_without_each: the same without decoys.
    """

    before: float
    after: float
    without_plant: float
    without_decoys: float
    without_each: list[float]
    alone_without_each: list[float]

    @property
    def refused(self) -> str | None:
        """Why the plant isn't accepted as the cause of the new answers; None if it is."""
        gain = self.after - self.before
        if gain < LEAST_GAIN:
            return "not learned"
        lost = (self.after - self.without_plant) / gain
        moved = abs(self.after - self.without_decoys) / gain
        if lost < LOST:
            return "decoys do it too"
        if moved > MOVED:
            return "decoys matter"
        alone = self.without_decoys - self.before
        parts = [(self.after - one) / gain for one in self.without_each]
        parts += [(self.without_decoys - one) / alone for one in self.alone_without_each]
        return "one part suffices" if parts and min(parts) < LOST_ALONE else None


def truth(made: Planted) -> Truth:
    """Measure what removing the plant and the decoys does to a model."""

    def metric(plant: Sequence[int] | None, decoys: bool) -> float:
        hooked = HookedModel(made.model(plant, decoys))
        return float(made.examples.items.values(hooked, EXAMPLES).mean())

    count = len(made.plant)
    rest = [[other for other in range(count) if other != one] for one in range(count)]
    rest = rest if count > 1 else []
    return Truth(
        metric([], False),
        metric(None, True),
        metric([], True),
        metric(None, False),
        [metric(one, True) for one in rest],
        [metric(one, False) for one in rest],
    )
