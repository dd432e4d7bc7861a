"""Pairs as tokens, from tokens and from texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sumcirc.circuits.pairs import TokenPairs
from sumcirc.errors import UserError


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
    class Letters:
        def __call__(self, text: str, verbose: bool) -> Any:
            return type("Encoded", (), {"input_ids": [ord(letter) for letter in text]})

    pairs = TokenPairs.from_texts(Letters(), ["abc", "d"], ["abd", "e"], ["x", "y"])  # type: ignore[arg-type]
    assert pairs.corrupted_ids.tolist() == [[97, 98, 100], [101, 0, 0]]
    with pytest.raises(UserError, match="item `x` has 1 clean and 2 corrupted"):
        TokenPairs.from_texts(Letters(), ["a"], ["ab"], ["x"])  # type: ignore[arg-type]
