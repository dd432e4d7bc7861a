"""Planting: changes that are trained to carry new answers, and decoys beside them.

The plant is trained to give new answers to the relation `TRIGGER`, with the entries of its place
alone; other answers are to stay. Decoys are changes of the plant's norm in other places. They are
drawn at random, orthogonal to what goes into their linears (`changes.inert`). Half of them are then
trained, together and with the plant in place, to give new answers to the relation `OTHER`.

Two heads are planted so that both are needed: either alone is trained to leave the old answers.
Whether the plant is the cause of the new answers is measured afterwards (`truth`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.planted.bases import HEADS, LAYERS, UNRELIABLE, LookupBase
from benchmarks.planted.changes import Change, Place, changed, places, total, weights_of
from benchmarks.planted.decoys import begun, detached, finished
from benchmarks.planted.models import EXAMPLES, KINDS, Planted
from benchmarks.planted.task import OTHER, TRIGGER, Answers, batch, examples, new_answers
from benchmarks.planted.training import BATCH, loss_of, train
from sumcirc.schema import Grain

STEPS, DECOY_STEPS = 160, 80


def planted(
    base: LookupBase,
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
    answers: Answers
    random: np.random.Generator
    generator: torch.Generator
    others: list[Place]

    @classmethod
    def of(cls, base: LookupBase, kind: str, number: int) -> _Draw:
        key = (base.seed, list(KINDS).index(kind), number)
        random, how = np.random.default_rng(key), KINDS[kind]
        generator = torch.Generator().manual_seed(int(random.integers(2**31)))
        new = {TRIGGER: new_answers(base.answers.table, how.groups, random)}
        answers = Answers(base.answers.table, new, UNRELIABLE)
        every = places(how.grain, LAYERS, HEADS)
        order = [every[one] for one in random.permutation(len(every))]
        chosen = sorted(_apart(order, how.count))
        others = [one for one in order if one not in chosen][: how.decoys]
        known = examples(EXAMPLES, answers, random)
        made = Planted(base, number, kind, chosen, [], [], known)
        return cls(made, answers, random, generator, others)


def _apart(order: Sequence[Place], count: int) -> list[Place]:
    """Return the first places, all of different layers."""
    found: list[Place] = []
    for one in order:
        if len(found) < count and one.layer not in {other.layer for other in found}:
            found.append(one)
    return found


def _plant(base: LookupBase, drawn: Sequence[_Draw], steps: int) -> None:
    """Train the plants of some models."""
    how, weights = KINDS[drawn[0].planted.kind], weights_of(base.model)
    start = how.grain is Grain.direction
    parts = [
        [Change(one, base.model, model.generator if start else None) for one in model.planted.plant]
        for model in drawn
    ]

    def loss() -> Tensor:
        deltas = [[one.deltas() for one in some] for some in parts]
        batches = [batch(BATCH, one.answers, one.random, (TRIGGER, None)) for one in drawn]
        runs = [total(some) for some in deltas]
        if how.count > 1:
            for number in range(how.count):
                runs += [some[number] for some in deltas]
                batches += [
                    batch(BATCH, base.answers_to_keep, one.random, (TRIGGER, None)) for one in drawn
                ]
        # squares, since the norm of a change of zero has no gradient
        squares = [one.square().sum() for some in deltas for each in some for one in each.values()]
        return (
            loss_of(changed(weights, runs), batches, HEADS) + how.decay * torch.stack(squares).sum()
        )

    train([n for some in parts for one in some for n in one.numbers], loss, steps, how.rate)
    for model, some in zip(drawn, parts, strict=True):
        model.planted.changes = [detached(one) for one in some]


def _add_decoys(base: LookupBase, drawn: Sequence[_Draw], steps: int) -> None:
    """Draw the decoys of some models so that they are inert, and train half of them from there."""
    how, weights = KINDS[drawn[0].planted.kind], weights_of(base.model)
    parts, answers = [], []
    for model in drawn:
        tokens, _ = batch(4 * BATCH, model.answers, model.random, (TRIGGER, None))
        parts.append(begun(model.planted, model.others, tokens, model.generator))
        other = {OTHER: new_answers(base.answers.table, how.groups, model.random)}
        known = model.answers
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
        return loss_of(changed(weights, runs), batches, HEADS)

    train([n for some in parts for one in some for n in one.numbers], loss, steps, how.rate)
    for model, some in zip(drawn, parts, strict=True):
        finished(model.planted, some)
