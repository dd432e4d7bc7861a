"""Pairs as examples and as tensors: what a loss reads of them, and where two answers diverge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.filtering import changed_pairs
from sumcirc.data.examples import NONE, TokenExample, collate
from sumcirc.errors import UserError
from tests.support.small_tokenizers import small_tokenizer

PROMPTS = [1, 2, 3], [1, 9, 3]


def pair(good: list[int], bad: list[int], id: str = "a") -> ExamplePair:
    return ExamplePair.of(id, "own", PROMPTS, {}, good, bad)


def test_the_answer_is_fed_but_for_its_last_token() -> None:
    one = pair([4, 5, 6], [4, 7, 6])
    assert one.clean.ids.tolist() == [1, 2, 3, 4, 5]
    assert one.corrupted.ids.tolist() == [1, 9, 3, 4, 5]
    assert one.clean.good.tolist() == [NONE, NONE, 4, 5, 6]
    assert one.clean.bad.tolist() == [NONE, NONE, 4, 7, 6]
    assert one.clean.prompt_length == 3
    assert one.clean.reads.tolist() == [False, False, True, True, True]
    assert pair([4], [7]).clean.ids.tolist() == [1, 2, 3]


def test_without_an_answer_the_last_token_is_read() -> None:
    one = pair([], [])
    assert one.clean.prompt_length == 3
    assert one.clean.reads.tolist() == [False, False, True]
    assert not one.clean.diverges.any()


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
    assert np.flatnonzero(pair(good, bad).clean.diverges).tolist() == told


def test_metrics_read_the_answer() -> None:
    """Values of hand-made logits, against the formula written out."""
    pairs = [pair([4, 5, 6], [4, 7, 6]), pair([8], [9], "b")]
    tokens = TokenPairs.of(pairs)
    assert tokens.clean.input_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]]
    logits = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    items = torch.arange(2)
    log_p = logits.log_softmax(-1)

    nll: Any = pair_metric("nll", tokens)
    found = nll.values(logits[nll.positions], items)
    expected = [-(log_p[0, 2, 4] + log_p[0, 3, 5] + log_p[0, 4, 6]) / 3, -log_p[1, 2, 8]]
    torch.testing.assert_close(found, torch.stack(expected))

    difference: Any = pair_metric("logit_difference", tokens)
    found = difference.values(logits[difference.positions], items)
    expected = [logits[0, 3, 7] - logits[0, 3, 5], logits[1, 2, 9] - logits[1, 2, 8]]
    torch.testing.assert_close(found, torch.stack(expected))

    divergence: Any = pair_metric("kl", tokens)
    assert divergence.positions.tolist() == nll.positions.tolist()


def test_metrics_that_do_not_fit_are_refused() -> None:
    pairs = [pair([4, 5], [7, 5]), pair([4, 5], [], "second"), pair([], [], "third")]
    tokens = TokenPairs.of(pairs)
    with pytest.raises(UserError, match="no other answer is known for `second`"):
        pair_metric("logit_difference", tokens)
    with pytest.raises(UserError, match="no answer is known for `third`"):
        pair_metric("nll", tokens)
    with pytest.raises(UserError, match=r"circuit\.metric=bleu: choose from kl"):
        pair_metric("bleu", tokens)


def test_pairs_on_which_corruption_does_nothing_are_left_out() -> None:
    pairs = [pair([4], [7], id) for id in "abc"]
    kept, dropped = changed_pairs(pairs, np.array([1.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.5]))
    assert ([one.id for one in kept], dropped) == (["a"], 2)


# ---- as tensors


def test_inputs_of_different_length_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="item `b` has 2 clean and 3 corrupted tokens"):
        TokenPairs.from_tokens([[1, 2], [3, 4]], [[1, 2], [3, 4, 5]], ["a", "b"])
    with pytest.raises(UserError, match=r"attention_mask of shape \[1, 2\] where input_ids has"):
        TokenPairs.from_tensors(torch.ones(1, 2), torch.ones(1, 3), torch.ones(1, 2), ["a"])
    with pytest.raises(UserError, match="item `b` has no token"):
        TokenPairs.from_tokens([[1, 2], []], [[1, 2], []], ["a", "b"])
    with pytest.raises(UserError, match="2 ids for 1 items"):
        TokenPairs.from_tensors(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), ["a", "b"])
    with pytest.raises(UserError, match=r"corrupted inputs of shape \[1, 3\] where clean ones"):
        TokenPairs(*(collate([TokenExample("a", np.ones(length, int))]) for length in (2, 3)))
    with pytest.raises(UserError, match="1 corrupted for 2 clean"):
        TokenPairs.from_tokens([[1], [2]], [[1]])


@pytest.mark.parametrize("left", [False, True])
def test_pairs_from_tokens(left: bool) -> None:
    pairs = TokenPairs.from_tokens([[1, 2, 3], [4]], [[1, 9, 3], [5]], left=left)
    assert pairs.names == ["0", "1"]
    assert pairs.clean.input_ids.tolist() == [[1, 2, 3], [0, 0, 4] if left else [4, 0, 0]]
    assert pairs.corrupted.input_ids.tolist() == [[1, 9, 3], [0, 0, 5] if left else [5, 0, 0]]
    assert pairs.clean.last.int().tolist() == [[0, 0, 1], [0, 0, 1] if left else [1, 0, 0]]
    assert len(pairs) == 2


@pytest.mark.parametrize("left", [False, True])
def test_some_pairs_are_cut_to_their_own_length(left: bool) -> None:
    pairs = TokenPairs.from_tokens(
        [[1, 2, 3, 4], [5], [6, 7]], [[1, 9, 3, 4], [8], [6, 9]], left=left
    )
    clean, corrupted, mask = pairs.cut([1, 2], "cpu")
    assert pairs.columns([1, 2]) == (slice(2, 4) if left else slice(0, 2))
    assert clean.tolist() == [[0, 5] if left else [5, 0], [6, 7]]
    assert corrupted.tolist() == [[0, 8] if left else [8, 0], [6, 9]]
    assert mask.tolist() == [[False, True] if left else [True, False], [True, True]]


def test_pairs_from_texts() -> None:
    """Every text begins with one <s>; a special token that is written is special."""
    tokenizer = small_tokenizer("byte level")
    x, y, z = tokenizer.convert_tokens_to_ids(["x", "y", "z"])
    pairs = TokenPairs.from_texts(tokenizer, ["x</s>y", "<s>z"], ["x</s>z", "y"], ["a", "b"])
    assert pairs.clean.input_ids.tolist() == [[0, x, 1, y], [0, z, 0, 0]]
    assert pairs.corrupted.input_ids.tolist() == [[0, x, 1, z], [0, y, 0, 0]]
    with pytest.raises(UserError, match="item `a` has 2 clean and 3 corrupted"):
        TokenPairs.from_texts(tokenizer, ["x"], ["yz"], ["a"])
