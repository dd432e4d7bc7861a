"""Random items of unequal lengths, of either metric."""

from __future__ import annotations

import numpy as np

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import NONE, TokenExample
from tests.support.small_models import VOCABULARY

LENGTHS = (9, 14, 6, 11, 14)


def some_items(two_answers: bool) -> ItemSet:
    """Documents with their last third read, or prompts read at the end; two spans.

    The item of 6 tokens lacks the span `later`.
    """
    rng = np.random.default_rng(5)
    items = []
    for number, length in enumerate(LENGTHS):
        ids = rng.integers(1, VOCABULARY, size=length)
        good, bad = np.full(length, NONE), np.full(length, NONE)
        if two_answers:
            good[-2:], bad[-2:] = rng.integers(1, VOCABULARY, size=(2, 2))
        else:
            start = 2 * length // 3
            good[start:] = rng.integers(1, VOCABULARY, size=length - start)
        spans = {"early": np.isin(np.arange(length), (1, 2))}
        if length != 6:
            spans["later"] = np.isin(np.arange(length), (4, 6, 7))
        items.append(TokenExample(f"text-{number}", ids, good, bad, spans))
    return ItemSet(items)
