"""Pairs as tokens, from tokens and from texts."""

from __future__ import annotations

import pytest
import torch

from sumcirc.circuits.inputs.token_pairs import TokenPairs
from sumcirc.errors import UserError
from tests.support.small_tokenizers import small_tokenizer


def test_inputs_of_different_length_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="item `b` has 2 clean and 3 corrupted tokens"):
        TokenPairs.from_tokens([[1, 2], [3, 4]], [[1, 2], [3, 4, 5]], ["a", "b"])
    with pytest.raises(UserError, match=r"corrupted_ids of shape \[1, 3\]"):
        TokenPairs(torch.ones(1, 2), torch.ones(1, 3), torch.ones(1, 2), ["a"])
    with pytest.raises(UserError, match="item `b` has no token"):
        TokenPairs.from_tokens([[1, 2], []], [[1, 2], []], ["a", "b"])
    with pytest.raises(UserError, match="2 ids for 1 items"):
        TokenPairs(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), ["a", "b"])
    with pytest.raises(UserError, match="item `a` has 2 tokens, 1 kinds"):
        TokenPairs.from_tokens([[1, 2]], [[1, 2]], ["a"], [[0]])
    with pytest.raises(UserError, match="1 corrupted for 2 clean"):
        TokenPairs.from_tokens([[1], [2]], [[1]])


@pytest.mark.parametrize("left", [False, True])
def test_pairs_from_tokens(left: bool) -> None:
    pairs = TokenPairs.from_tokens([[1, 2, 3], [4]], [[1, 9, 3], [5]], kinds=[[0, 0, 1], [1]],
                                   pad=7, left=left)  # fmt: skip
    assert pairs.ids == ["0", "1"]
    assert pairs.clean_ids.tolist() == [[1, 2, 3], [7, 7, 4] if left else [4, 7, 7]]
    assert pairs.last().int().tolist() == [[0, 0, 1], [0, 0, 1] if left else [1, 0, 0]]
    assert pairs.kinds is not None
    assert pairs.kinds[1].tolist() == ([-1, -1, 1] if left else [1, -1, -1])
    assert (len(pairs), pairs.spans) == (2, 2)


def test_pairs_from_texts() -> None:
    """Every text begins with one <s>; a special token that is written is special."""
    tokenizer = small_tokenizer("byte level")
    x, y, z = tokenizer.convert_tokens_to_ids(["x", "y", "z"])
    pairs = TokenPairs.from_texts(tokenizer, ["x</s>y", "<s>z"], ["x</s>z", "y"], ["a", "b"])
    assert pairs.clean_ids.tolist() == [[0, x, 1, y], [0, z, 0, 0]]
    assert pairs.corrupted_ids.tolist() == [[0, x, 1, z], [0, y, 0, 0]]
    with pytest.raises(UserError, match="item `a` has 2 clean and 3 corrupted"):
        TokenPairs.from_texts(tokenizer, ["x"], ["yz"], ["a"])
