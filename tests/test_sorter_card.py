"""The pairs and the card of `benchmarks/sorter_card.py`, on the trained sorter of the tests."""

from __future__ import annotations

import torch
from transformers import GPT2LMHeadModel

from benchmarks.sorter_card import NUMBERS, card, pairs
from sumcirc.circuits.card.lines import NOT_TESTED
from sumcirc.schema import CardOptions, CircuitMetric, CircuitOptions
from tests.support.trained_models import SORTER


def test_pairs_differ_in_one_number_and_in_the_next_sorted_one() -> None:
    own, stressed = pairs(12, lambda place: place > 0, "later", 0)
    assert len({pair.id for pair in own}) == 12
    assert [pair.id for pair in stressed] == [pair.id for pair in own]
    for pair, other in zip(own, stressed, strict=True):
        clean = pair.clean.ids.tolist()
        numbers, place = clean[:NUMBERS], len(clean) - NUMBERS
        assert place > 0
        assert clean[NUMBERS:] == sorted(numbers)[:place]
        assert other.clean.ids.tolist() == clean
        assert int(pair.differs.sum()) == 1
        for one in (pair, other):
            changed = sorted(one.corrupted.ids.tolist()[:NUMBERS])
            assert changed[:place] == sorted(numbers)[:place]
            assert int(one.clean.good[-1]) == sorted(numbers)[place]
            assert int(one.clean.bad[-1]) == changed[place] != sorted(numbers)[place]
    first, _ = pairs(3, lambda place: place == 0, "first", 1)
    assert all(len(pair.clean) == NUMBERS for pair in first)


def test_all_lines_of_a_sorter_are_tested() -> None:
    model = GPT2LMHeadModel.from_pretrained(SORTER, dtype=torch.float64).eval()
    options = CircuitOptions(
        metric=CircuitMetric.logit_difference,
        documents=24,
        size=0.4,
        sizes=[0.4],
        random_circuits=2,
        batch_size=64,
    )
    made = card(model, 24, options, CardOptions(lines=["full"], edges=3, exact_edges=10))
    assert NOT_TESTED not in {line.status for line in made.lines}
    for name in ("faithful", "ablation"):
        number = made[name].number
        assert number is not None
        assert number.mean > 0.5
