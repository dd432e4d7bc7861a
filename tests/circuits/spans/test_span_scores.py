"""Scores by span: they add up to plain scores, and are derivatives of patching unit by unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.metrics import Divergence
from sumcirc.circuits.spans import gradients, scores
from sumcirc.circuits.spans.scores import attribute_spans, cancelled, cancelled_share
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.schema import CircuitOptions
from sumcirc.statistics import Bootstrap
from tests.circuits.attribution_cases import relative
from tests.circuits.cases import difference_metric, family_model
from tests.circuits.spans.naive_spans import divided_pairs, sources_of, unchanged, unit_value

FORMS = ["gpt2", "llama", "gpt_neox + lora", "qwen3 + lora", "phi3", "olmo2", "gemma2"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("left", [False, True])
def test_the_sum_over_pairs_of_spans_is_the_plain_score(form: str, left: bool) -> None:
    model, pairs = family_model(form), divided_pairs(left)
    metric, units = Divergence(pairs.attention_mask), SpanPairs.of(pairs)
    found = attribute_spans(model, pairs, metric, units, batch_size=2)
    plain = attribute(model, pairs, metric, batch_size=3)
    assert relative(found.documents.sum(1), plain.documents) < 1e-6
    edges = found.edges
    assert relative(edges.documents, plain.documents) < 1e-6
    assert edges.spans is not None
    assert plain.spans is not None
    assert relative(edges.spans, plain.spans) < 1e-6
    exists = torch.from_numpy(units.exists(found.graph))
    assert (found.documents[:, ~exists] == 0).all()
    assert edges.ids == ["one", "two", "three"]


@pytest.mark.parametrize("form", FORMS)
def test_eap_by_span_is_the_derivative_of_patching_each_unit(form: str) -> None:
    model, pairs = family_model(form), divided_pairs()
    metric, units, hooked = difference_metric(pairs), SpanPairs.of(pairs), HookedModel(model)
    graph, settings = Graph(hooked.shape), AttributionSettings(method="eap")
    found = attribute_spans(model, pairs, metric, units, settings)
    reader = AttributionPasses(hooked, graph, metric, pairs)
    places = np.argwhere(units.exists(graph))
    some = places[np.random.default_rng(0).permutation(len(places))[:40]]
    close = 1e-9 if form == "gpt2" else 1e-4  # transformers keeps some parts in float32
    with frozen(hooked.model):
        weights = AttentionWeights(hooked, dtype=torch.float64)
        for batch in batches(hooked, pairs, torch.arange(3).split(1)):
            written = sources_of(reader, weights, batch)
            assert batch.labels is not None
            expected = []
            for number, row, column in some:
                size = torch.ones((), dtype=torch.float64, requires_grad=True)
                inside = tuple(batch.labels[0] == span for span in units.pairs[number])
                added = (size - 1) * written[row]
                value = unit_value(reader, weights, batch, column, added, inside)
                (slope,) = torch.autograd.grad(value, size, allow_unused=True)
                expected.append(0.0 if slope is None else float(slope))
            scores = found.documents[int(batch.items)][tuple(some.T)]
            largest = found.documents[int(batch.items)].abs().max()
            assert (
                scores - torch.tensor(expected, dtype=torch.float64)
            ).abs().max() < close * largest
            assert max(map(abs, expected)) > 1e-4


def test_neither_batches_nor_blocks_nor_padding_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("llama")

    def found(left: bool, size: int) -> Any:
        pairs = divided_pairs(left)
        metric = difference_metric(pairs)
        return attribute_spans(model, pairs, metric, SpanPairs.of(pairs), batch_size=size).documents

    expected = found(False, 1)
    assert relative(found(True, 3), expected) < 1e-6
    monkeypatch.setattr(gradients, "BLOCK", 1)
    assert relative(found(False, 3), expected) < 1e-6


@pytest.mark.parametrize("method", ["eap", "eap_ig_inputs", "clean_corrupted"])
def test_the_model_is_left_as_it_was(method: str) -> None:
    model, pairs = family_model("qwen3 + lora").float().train(), divided_pairs()
    metric, settings = difference_metric(pairs), AttributionSettings(method=method, steps=2)
    with unchanged(model):
        found = attribute_spans(model, pairs, metric, SpanPairs.of(pairs), settings)
    plain = attribute(model, pairs, metric, settings)
    assert relative(found.documents.sum(1), plain.documents) < 1e-3


def test_what_is_refused() -> None:
    model, pairs = family_model("gpt2"), divided_pairs()
    metric, units = Divergence(pairs.attention_mask), SpanPairs.of(pairs)
    for method in ("relp", "exact", "random", "eap_ig_activations"):
        with pytest.raises(UserError, match="can't be divided by the span"):
            CircuitOptions(method=method, metric="nll", by_span=True)
        with pytest.raises(UserError, match="can't be divided by the span"):
            attribute_spans(model, pairs, metric, units, AttributionSettings(method=method))
    with pytest.raises(UserError, match="every score would be 0"):
        attribute_spans(model, pairs, metric, units, AttributionSettings(method="eap"))
    with pytest.raises(UserError, match=r"memory_budget=0.0001: the scores of 3 pairs by \d+"):
        attribute_spans(model, pairs, metric, units, memory=100_000)
    bare = replace(pairs, clean=replace(pairs.clean, spans={}))
    with pytest.raises(UserError, match=r"circuit.by_span=true: `one` has no spans"):
        SpanPairs.of(bare)
    holes = {name: inside for name, inside in pairs.clean.spans.items() if name != "second"}
    with pytest.raises(UserError, match=r"`one` has tokens of no span"):
        SpanPairs.of(replace(pairs, clean=replace(pairs.clean, spans=holes)))


def test_an_item_too_large_for_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = family_model("gpt2"), divided_pairs()
    metric, units = Divergence(pairs.attention_mask), SpanPairs.of(pairs)
    fixed: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(scores, "_require_room", lambda number, *rest: fixed.append(number))
        attribute_spans(model, pairs, metric, units, memory=10**12)
    with pytest.raises(UserError, match=r"memory_budget=.*item `one` of 8 tokens needs"):
        attribute_spans(model, pairs, metric, units, memory=fixed[0] + 1)


def test_pairs_are_those_in_which_a_token_can_be_read() -> None:
    pairs = divided_pairs()
    units = SpanPairs.of(pairs)
    assert units.names == ("first", "second", "third")
    assert len(units) == 8  # no token of the first span comes after one of the third
    spans = {str(number): np.array([0, 0, 1, 2]) == number for number in range(3)}
    last = TokenPairs.of([ExamplePair.of("last", "own", (range(4), range(4)), spans)])
    assert SpanPairs.of(last).pairs == ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def test_the_cancelled_share() -> None:
    assert cancelled_share(np.array([[1.0, 2.0], [-1.0, 1.0]])) == pytest.approx(1 - 3 / 5)
    assert cancelled_share(np.array([[1.0, 2.0], [1.0, 1.0]])) == 0
    assert np.isnan(cancelled_share(np.zeros((2, 3))))
    model, pairs = family_model("gpt2"), divided_pairs()
    metric = difference_metric(pairs)
    found = attribute_spans(model, pairs, metric, SpanPairs.of(pairs))
    whole, each = cancelled(found, Bootstrap(50))
    mean = found.documents.mean(0).numpy()
    net = sum(abs(sum(mean[:, row, column])) for row, column in np.ndindex(mean.shape[1:]))
    naive = 1 - net / sum(map(abs, mean.flatten()))
    assert whole == pytest.approx(naive)
    assert each.n == 3
    assert 0 < whole < 1
    assert 0 < each.mean < 1
