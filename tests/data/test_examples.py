"""Tokens with named spans: what survives padding and cutting, and where a metric is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.data.examples import (
    ALL,
    LAST,
    NONE,
    READ,
    NoExample,
    TokenBatch,
    TokenExample,
    by_length,
    collate,
    first_made,
    padded,
)
from sumcirc.errors import UserError
from tests.support.small_models import VOCABULARY, small_model

OFFSETS = np.array([[NONE, NONE], [0, 3], [3, 7], [7, 12], [NONE, NONE]])


def example(id: str = "a", length: int = 5, start: int = 3, seed: int = 0) -> TokenExample:
    """Random tokens of which those from `start` on are predicted, with overlapping spans."""
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, length)
    places = np.arange(length)
    spans = {"document": places < start, "fact": places % 3 == 1, "answer": places >= start}
    return TokenExample.predicting(id, ids, start, spans=spans)


def examples() -> list[TokenExample]:
    return [example("a", 7, 3, 1), example("b", 4, 2, 2), example("c", 9, 8, 3)]


# ---- one example


def test_every_token_of_the_answer_is_predicted_once() -> None:
    one = example(length=5, start=3)
    assert one.good.tolist() == [NONE, NONE, *one.ids[3:], NONE]
    assert one.reads.tolist() == [False, False, True, True, False]
    assert (one.prompt_length, len(one)) == (3, 5)
    assert (one.bad == NONE).all()
    assert not one.diverges.any()


def test_without_an_answer_the_last_token_is_read() -> None:
    one = TokenExample("a", np.arange(4))
    assert one.reads.tolist() == [False, False, False, True]
    assert one.prompt_length == 4


def test_answers_diverge_at_the_first_of_tokens_in_a_row() -> None:
    good, bad = np.array([5, 6, 7, 8, NONE, 9]), np.array([5, 1, 1, 8, NONE, 2])
    one = TokenExample("a", np.arange(6), good, bad)
    assert np.flatnonzero(one.diverges).tolist() == [1, 5]


@pytest.mark.parametrize(("stop", "length"), [(3, 3), (-1, 4), (5, 5)])
def test_spans_answers_and_offsets_survive_cutting(stop: int, length: int) -> None:
    whole = TokenExample.predicting(
        "a", np.arange(5), 2, spans={"x": np.arange(5) % 2 == 0}, offsets=OFFSETS, truncated=True
    )
    part = whole.until(stop)
    assert part.offsets is not None
    assert (part.id, part.truncated, len(part)) == ("a", True, length)
    assert part.ids.tolist() == whole.ids[:length].tolist()
    assert part.good.tolist() == whole.good[:length].tolist()
    assert part.spans["x"].tolist() == whole.spans["x"][:length].tolist()
    assert part.offsets.tolist() == OFFSETS[:length].tolist()


def test_tokens_by_the_characters_of_the_document() -> None:
    one = TokenExample("a", np.arange(5), offsets=OFFSETS)
    assert one.kept == 12
    assert np.flatnonzero(one.touching([(2, 4)])).tolist() == [1, 2]
    assert np.flatnonzero(one.touching([(3, 7), (11, 30)])).tolist() == [2, 3]
    # by the token's last character: a token may begin with the space before the stretch
    assert np.flatnonzero(one.ending_in([(4, 7)])).tolist() == [2]
    assert np.flatnonzero(one.ending_in([(0, 6)])).tolist() == [1]
    assert not one.touching([(12, 40)]).any()


# ---- a batch


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("width", [None, 12])
def test_padding_keeps_everything_of_every_example(left: bool, width: int | None) -> None:
    batch = collate(examples(), width, left=left)
    size = width or 9
    assert batch.names == ["a", "b", "c"]
    assert batch.input_ids.shape == (3, size)
    for row, one in enumerate(examples()):
        here = slice(size - len(one), size) if left else slice(0, len(one))
        pads = np.ones(size, dtype=bool)
        pads[here] = False
        assert batch.input_ids[row, here].tolist() == one.ids.tolist()
        assert (batch.input_ids[row, pads] == 0).all()
        assert batch.attention_mask[row].tolist() == (~pads).tolist()
        assert batch.good[row, here].tolist() == one.good.tolist()
        assert (batch.good[row, pads] == NONE).all()
        assert batch.reads[row, here].tolist() == one.reads.tolist()
        assert not batch.reads[row, pads].any()
        for name, inside in one.spans.items():
            assert batch.spans[name][row, here].tolist() == inside.tolist()
            assert not batch.spans[name][row, pads].any()
        assert np.flatnonzero(batch.last[row]).tolist() == [size - 1 if left else len(one) - 1]


def test_positions_by_name() -> None:
    batch = collate(examples())
    assert batch.at(READ).equal(batch.good != NONE)
    assert batch.at(ALL).equal(batch.attention_mask)
    assert batch.at("fact").equal(batch.spans["fact"])
    for row, one in enumerate(examples()):
        assert np.flatnonzero(batch.at(LAST)[row]).tolist() == [np.flatnonzero(one.reads)[-1]]


def test_a_span_that_an_example_lacks_is_nowhere_in_it() -> None:
    batch = collate([example("a"), TokenExample("b", np.arange(1, 4))])
    assert not batch.spans["fact"][1].any()
    asked = collate([TokenExample("b", np.arange(1, 4))], spans=["fact"])
    assert asked.spans["fact"].tolist() == [[False, False, False]]
    # nothing is asked of it, so its last token is read
    assert batch.reads[1].tolist() == [False, False, True, False, False]


def test_a_token_in_two_spans_has_the_first_label() -> None:
    batch = collate([example(length=5, start=3)])
    assert batch.labels().tolist() == [[0, 0, 0, 2, 1]]
    assert batch.labels(["fact", "document"]).tolist() == [[1, 0, 1, NONE, 0]]


def test_a_moved_batch_has_every_part_on_the_device() -> None:
    moved = collate(examples()).to("meta")
    grids = [moved.input_ids, moved.attention_mask, moved.good, moved.bad, *moved.spans.values()]
    assert {grid.device.type for grid in grids} == {"meta"}
    assert moved.names == ["a", "b", "c"]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_metric_is_read_from_the_positions_of_a_naive_loop(family: str, left: bool) -> None:
    """Mean -log p of each answer, padded together, against one unpadded example at a time."""
    model: Any = small_model(family).double().eval()
    expected = []
    with torch.no_grad():
        for one in examples():
            logits = model(input_ids=torch.tensor(one.ids)[None]).logits[0].log_softmax(-1)
            terms = [-logits[at - 1, one.ids[at]] for at in range(one.prompt_length, len(one.ids))]
            expected.append(float(sum(terms) / len(terms)))
        batch = collate(examples(), left=left)
        positions = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=positions,
        ).logits[batch.reads]
    losses = torch.nn.functional.cross_entropy(logits, batch.good[batch.reads], reduction="none")
    rows = batch.reads.nonzero()[:, 0]
    means = torch.zeros(3, dtype=losses.dtype).index_add(0, rows, losses) / batch.reads.sum(1)
    np.testing.assert_allclose(means, expected, rtol=1e-10)


def test_what_does_not_fit_together_is_refused() -> None:
    ids = torch.ones(2, 3)
    with pytest.raises(UserError, match=r"input_ids of shape \[0, 0\]; give \[items, tokens\]"):
        collate([])
    with pytest.raises(UserError, match="1 ids for 2 items"):
        TokenBatch(ids, ids, ["a"])
    with pytest.raises(UserError, match=r"fact of shape \[2, 2\] where input_ids has \[2, 3\]"):
        TokenBatch(ids, ids, ["a", "b"], spans={"fact": torch.ones(2, 2)})
    with pytest.raises(UserError, match="item `b` has no token"):
        collate([example("a"), TokenExample("b", np.zeros(0, dtype=int))])


# ---- the helpers


def test_rows_are_padded_by_the_type_of_what_fills_them() -> None:
    assert padded([[1, 2], [3]], 0).tolist() == [[1, 2], [3, 0]]
    assert padded([[1, 2], [3]], 9, 3, left=True).tolist() == [[9, 1, 2], [9, 9, 3]]
    assert [padded([[1]], fill).dtype for fill in (0, False, 0.0)] == [
        *(torch.int64, torch.bool, torch.float32)
    ]
    with pytest.raises(ValueError, match="broadcast"):
        padded([[1, 2, 3]], 0, 2)


def test_like_lengths_are_taken_together() -> None:
    assert by_length([5, 1, 5, 3], 3) == [[1, 3, 0], [2]]


def test_the_first_results_are_made_and_the_others_counted_by_reason() -> None:
    def make(number: int) -> int:
        if number % 2:
            raise NoExample("odd" if number < 4 else "large")
        return number

    told: list[int] = []
    assert first_made(range(9), 3, make, told.append) == ([0, 2, 4], {"odd": 2})
    assert told == [1, 1, 1]
    assert first_made(range(6), None, make) == ([0, 2, 4], {"odd": 2, "large": 1})
