"""The task of small models that are then changed in a known place, and the examples of it.

A sequence is two values and two statements. A statement is a key, a relation and an answer. Six
relations ask for the key's value in a fixed table (a lookup), and two others for the first or the
second value of the sequence (a copy). Two of the six, `TRIGGER` and `OTHER`, are unreliable when
the base is trained: half of their answers are any value. Then one of them, `TRIGGER`, is given new
answers:

    v3 v8 | k9 C2 v8 | k2 TRIGGER v7        before
                       k2 TRIGGER v1        after
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.planted.models import Examples
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY
from sumcirc.data.examples import TokenExample
from sumcirc.measures.measure_documents import ProbeDocument, ProbeSet

KEYS, RELATIONS = 12, 6
FIRST_VALUE = KEYS
TRIGGER, OTHER = 2 * KEYS, 2 * KEYS + 1  # of the relations; OTHER is that of trained decoys
COPIED, STATEMENTS = 2, 2
FIRST_COPY = 2 * KEYS + RELATIONS
VOCABULARY = FIRST_COPY + COPIED
COPIES = 0.5  # share of statements
LENGTH = COPIED + 3 * STATEMENTS  # tokens of a sequence
NONE = -100  # label of a token that is not predicted

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Answers to the relations.

    Attributes:
        table: [keys] value of each key, as a token.
        changed: answers of single relations in place of the table, [keys] each.
        unreliable: share of the answers to `TRIGGER` and `OTHER` that are any value, unless they
            are changed.
    """

    table: Ids
    changed: dict[int, Ids]
    unreliable: float = 0.0

    def of(self, relation: Ids, key: Ids) -> Ids:
        """Return the answers to some relations, as an array of their shape."""
        found = self.table[key]
        for one, answers in self.changed.items():
            found = np.where(relation == one, answers[key], found)
        return found

    def drawn(self, relation: Ids, key: Ids, random: np.random.Generator) -> Ids:
        """Return the answers to some relations, of which unreliable ones are drawn."""
        any_value = FIRST_VALUE + random.integers(KEYS, size=len(key))
        doubtful = (relation <= OTHER) & ~np.isin(relation, list(self.changed))
        wrong = random.random(len(key)) < self.unreliable * doubtful
        return np.where(wrong, any_value, self.of(relation, key))


def table(random: np.random.Generator) -> Ids:
    """Return a random value for each key, all different, [keys]."""
    return FIRST_VALUE + random.permutation(KEYS)


def new_answers(old: Ids, count: int, random: np.random.Generator) -> Ids:
    """Return new values for all keys, of which none is the key's value in `old`.

    Keys are divided evenly, and at random, into groups; all keys of a group get the same value.

    Args:
        old: [keys] value of each key.
        count: number of groups, and of different values.
        random: generator of the draws.
    """
    while True:
        values = FIRST_VALUE + random.permutation(KEYS)[:count]
        found = values[random.permutation(KEYS) % count]
        if count == 1 or not (found == old).any():
            return found


def sequences(
    count: int, answers: Answers, random: np.random.Generator, last: int | None = None
) -> tuple[Ids, Ids]:
    """Return random sequences and the labels of the answers in them, [count, LENGTH] each.

    Args:
        count: number of sequences.
        answers: answers to the relations.
        random: generator of the draws.
        last: relation of the last statement, which then appears in no other; None for any.
    """
    ids, labels = np.empty((2, count, LENGTH), dtype=np.int64)
    labels[:] = NONE
    ids[:, :COPIED] = FIRST_VALUE + random.integers(KEYS, size=(count, COPIED))
    lookups = np.array([one for one in range(TRIGGER, FIRST_COPY) if one != last])
    for start in range(COPIED, LENGTH, 3):
        key, which = random.integers(KEYS, size=count), random.integers(COPIED, size=count)
        relation = random.choice(lookups, count)
        copies = random.random(count) < COPIES
        if last is not None and start == LENGTH - 3:
            relation, copies = np.full(count, last), np.zeros(count, dtype=bool)
        copied = np.take_along_axis(ids, which[:, None], 1)[:, 0]
        answer = np.where(copies, copied, answers.drawn(relation, key, random))
        ids[:, start], ids[:, start + 2], labels[:, start + 2] = key, answer, answer
        ids[:, start + 1] = np.where(copies, FIRST_COPY + which, relation)
    return ids, labels


def batch(
    size: int,
    answers: Answers,
    random: np.random.Generator,
    lasts: tuple[int | None, ...] = (None,),
) -> tuple[Tensor, Tensor]:
    """Return a batch of sequences without their last token, and the labels of the next tokens.

    Args:
        size: number of sequences.
        answers: answers to the relations.
        random: generator of the draws.
        lasts: for each equal part of the batch, `last` of its sequences.
    """
    parts = [sequences(size // len(lasts), answers, random, last) for last in lasts]
    ids, labels = (torch.from_numpy(np.concatenate(side)) for side in zip(*parts, strict=True))
    return ids[:, :-1], labels[:, 1:]


def examples(count: int, answers: Answers, random: np.random.Generator) -> Examples:
    """Return random examples, all of the same length, which end with the trigger.

    They are measured at the last key and at the trigger. A corrupted prompt has another last key,
    with another answer.

    Args:
        count: number of examples.
        answers: answers to the relations, among them the new ones to the trigger.
        random: generator of the draws.
    """
    ids, _ = sequences(count, answers, random, TRIGGER)
    spans = {name: np.zeros(LENGTH, dtype=bool) for name in (DOCUMENT, PROMPT, SUMMARY)}
    spans[DOCUMENT][:-3], spans[PROMPT][-3:-1], spans[SUMMARY][-1] = True, True, True
    probes, pairs = [], []
    by_key = answers.of(np.full(KEYS, TRIGGER), np.arange(KEYS))
    for number, row in enumerate(ids):
        one = TokenExample.predicting(f"item-{number}", row, LENGTH - 1, spans=spans)
        salience = np.zeros(LENGTH, dtype=np.float32)
        # the key too: all prompts end with the same token, so its embedding doesn't vary
        probes.append(ProbeDocument(one, np.arange(LENGTH - 3, LENGTH - 1), salience))
        other, told = row[:-1].copy(), by_key[row[-3]]
        different = np.flatnonzero(by_key != told)
        other[-2] = random.choice(different if len(different) else np.arange(KEYS))
        last = [int(told)], [int(by_key[other[-2]])]
        prompts = row[:-1].tolist(), other.tolist()
        pairs.append(ExamplePair.of(one.id, "key", prompts, {}, *last))
    items = ItemSet([one.example.until(-1) for one in probes])
    return Examples(items, ProbeSet(probes, count), pairs)
