"""What a loss reads of a pair, by answers that are known, and where they part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.inputs.example import NOTHING, Pair, changed_pairs, pair_metric, token_pairs
from sumcirc.errors import UserError

PROMPTS = [1, 2, 3], [1, 9, 3]


def pair(good: list[int], bad: list[int], id: str = "a") -> Pair:
    kinds = [0] * (3 + max(0, len(good) - 1))
    return Pair.of(id, "own", PROMPTS, kinds, good, bad)


def test_the_answer_is_fed_but_for_its_last_token() -> None:
    one = pair([4, 5, 6], [4, 7, 6])
    assert one.clean.tolist() == [1, 2, 3, 4, 5]
    assert one.corrupted.tolist() == [1, 9, 3, 4, 5]
    assert one.good.tolist() == [NOTHING, NOTHING, 4, 5, 6]
    assert one.bad.tolist() == [NOTHING, NOTHING, 4, 7, 6]
    assert one.prompt_length == 3
    assert one.reads.tolist() == [False, False, True, True, True]
    assert pair([4], [7]).clean.tolist() == [1, 2, 3]


def test_without_an_answer_the_last_token_is_read() -> None:
    one = pair([], [])
    assert one.prompt_length == 3
    assert one.reads.tolist() == [False, False, True]
    assert not one.told.any()


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ([4], [7], [2]),
        ([4, 5, 6, 8], [4, 7, 7, 8], [3]),  # the second of two in a row follows from the first
        ([4, 5, 6, 8], [9, 5, 7, 8], [2, 4]),
        ([4, 5, 6], [4, 7], [3]),  # behind the first difference nothing is comparable
        ([4, 5, 6], [9, 5, 6, 7], [2]),
        ([4, 5], [4, 5], []),
        ([4, 5], [], []),
    ],
)
def test_where_answers_part(good: list[int], bad: list[int], told: list[int]) -> None:
    assert np.flatnonzero(pair(good, bad).told).tolist() == told


def test_metrics_read_the_answer() -> None:
    """Values of hand-made logits, against the formula written out."""
    pairs = [pair([4, 5, 6], [4, 7, 6]), pair([8], [9], "b")]
    tokens = token_pairs(pairs)
    assert tokens.clean_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]]
    logits = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    items = torch.arange(2)
    log_p = logits.log_softmax(-1)

    nll: Any = pair_metric("nll", pairs, tokens)
    found = nll.values(logits[nll.positions], items)
    expected = [-(log_p[0, 2, 4] + log_p[0, 3, 5] + log_p[0, 4, 6]) / 3, -log_p[1, 2, 8]]
    torch.testing.assert_close(found, torch.stack(expected))

    difference: Any = pair_metric("logit_difference", pairs, tokens)
    found = difference.values(logits[difference.positions], items)
    expected = [logits[0, 3, 7] - logits[0, 3, 5], logits[1, 2, 9] - logits[1, 2, 8]]
    torch.testing.assert_close(found, torch.stack(expected))

    divergence: Any = pair_metric("kl", pairs, tokens)
    assert divergence.positions.tolist() == nll.positions.tolist()


def test_metrics_that_do_not_fit_are_refused() -> None:
    pairs = [pair([4, 5], [7, 5]), pair([4, 5], [], "second"), pair([], [], "third")]
    tokens = token_pairs(pairs)
    with pytest.raises(UserError, match="no other answer is known for `second`"):
        pair_metric("logit_difference", pairs, tokens)
    with pytest.raises(UserError, match="no answer is known for `third`"):
        pair_metric("nll", pairs, tokens)
    with pytest.raises(UserError, match=r"circuit\.metric=bleu: choose from kl"):
        pair_metric("bleu", pairs, tokens)


def test_pairs_on_which_corruption_does_nothing_are_left_out() -> None:
    pairs = [pair([4], [7], id) for id in "abc"]
    kept, dropped = changed_pairs(pairs, np.array([1.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.5]))
    assert ([one.id for one in kept], dropped) == (["a"], 2)
