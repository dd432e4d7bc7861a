"""Attention between spans beside whole attention matrices and plain sums."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare import span_attention as attention
from sumcirc.compare.span_attention import default_pairs, span_attention
from sumcirc.data.examples import TokenExample
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.unwrapping import base_model
from tests.compare.spanned_items import some_items
from tests.support.small_models import adapted, scrambled

PAIRS = [
    *(("early", "later"), ("later", "last"), ("early", "read"), ("read", "read")),
    *(("all", "all"), ("later", "early"), ("last", "last")),
]


@cache
def model_of(family: str, with_adapter: bool, **changes: Any) -> Any:
    model = scrambled(family, **changes)
    return (adapted(model) if with_adapter else model).double().eval()


def places(item: TokenExample, name: str) -> list[int]:
    read = np.flatnonzero(item.reads).tolist()
    known = {"read": read, "last": read[-1:], "all": list(range(len(item.ids)))}
    return known[name] if name in known else np.flatnonzero(item.spans.get(name, [])).tolist()


def by_hand(model: Any, item: TokenExample) -> np.ndarray:
    """[pairs, layers, heads] from the eager model's matrices of the item alone."""
    model = base_model(model)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.from_numpy(item.ids)[None], output_attentions=True)
    model.set_attn_implementation(before)
    found = np.empty((len(PAIRS), len(out.attentions), out.attentions[0].shape[1]))
    for number, (source, destination) in enumerate(PAIRS):
        keys, rows = places(item, source), places(item, destination)
        for layer, matrices in enumerate(out.attentions):
            for head, matrix in enumerate(matrices[0].numpy()):
                sums = [sum(matrix[t, s] for s in keys if s <= t) for t in rows]
                found[number, layer, head] = np.mean(sums) if keys and rows else np.nan
    return found


@pytest.mark.parametrize("with_adapter", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_all_pairs_as_summed_by_hand(
    family: str, with_adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK", 2 * 4 * 14 * 3)  # three rows at once of two items
    model, items = model_of(family, with_adapter), some_items(False)
    done: list[int] = []
    found = span_attention(HookedModel(model), items, PAIRS, 2, done.append)
    assert sum(done) == len(items)
    assert found.pairs == PAIRS
    expected = np.stack([by_hand(model, item) for item in items.items], -1)
    # elsewhere transformers' eager softmax is in float32
    close = 1e-9 if family == "gpt2" else 1e-6
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=close)
    assert np.isnan(found.values[0, ..., 2]).all()  # that text lacks the span `later`
    assert np.isfinite(found.values[0, ..., [0, 1, 3, 4]]).all()
    np.testing.assert_allclose(found.values[4], 1.0, atol=1e-12)
    assert (found.values[5][..., [0, 1, 3, 4]] == 0).all()  # what comes later is not seen


def test_a_sliding_window_hides_keys() -> None:
    model, items = model_of("mistral", False, sliding_window=4), some_items(True)
    found = span_attention(HookedModel(model), items, PAIRS, 5)
    expected = np.stack([by_hand(model, item) for item in items.items], -1)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    wide = span_attention(HookedModel(model_of("mistral", False)), items, PAIRS, 5)
    assert np.nanmax(np.abs(wide.values - found.values)) > 1e-2


def test_single_precision_is_near_and_the_model_is_left_as_it_was() -> None:
    model, items = scrambled("llama"), some_items(False)
    model.train()
    before = model.config._attn_implementation
    found = span_attention(HookedModel(model), items, PAIRS, 2)
    assert model.training
    assert model.config._attn_implementation == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    exact = span_attention(HookedModel(model_of("llama", False)), items, PAIRS, 5)
    np.testing.assert_allclose(found.values, exact.values, atol=1e-5)


def test_the_pairs_asked_without_being_told() -> None:
    assert default_pairs(some_items(True)) == [("early", "last"), ("later", "last")]
    assert default_pairs(some_items(False)) == [("early", "read"), ("later", "read")]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [([], "pairs=\\[\\]: no attention"), ([("early", "there")], "pairs=there: choose from last")],
)
def test_pairs_that_cannot_be_measured(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        span_attention(HookedModel(model_of("gpt2", False)), some_items(False), pairs, 2)
