"""Runs by span against a GPT-2 written out by hand, plain runs, and units patched one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.patching.patched_run import PatchedRun, source_means
from sumcirc.circuits.spans.patching import SpanEvaluator, SpanPass, SpanRun
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from tests.circuits.cases import difference_metric, family_model
from tests.circuits.naive_intervention import gpt2_by_hand, random_circuit, shaken
from tests.circuits.spans.naive_spans import (
    divided_pairs,
    gpt2_by_span,
    random_units,
    sources_of,
    unchanged,
    unit_value,
)

FAMILIES = ["gpt2", "llama", "gpt_neox", "phi3", "olmo2", "gemma2"]


def run_of(model: Any, left: bool = False, **named: Any) -> tuple[SpanRun, Any]:
    pairs = divided_pairs(left)
    units = SpanPairs.of(pairs)
    labels = pairs.clean.labels().masked_fill(~pairs.attention_mask, -1)
    clean, corrupted = pairs.clean.input_ids, pairs.corrupted.input_ids
    given = [named.get(name) for name in ("graph", "ablation", "means")]
    given[1] = given[1] or "interchange"
    return SpanRun(units, labels, model, clean, corrupted, pairs.attention_mask, *given), pairs


@pytest.mark.parametrize("ablation", ["interchange", "zero", "mean"])
@torch.no_grad()
def test_a_gpt2_written_out_by_hand(ablation: Any) -> None:
    model = shaken("gpt2")
    pairs = divided_pairs()
    graph = Graph(HookedModel(model).shape)
    means = source_means(model, pairs.clean.input_ids, pairs.attention_mask)
    run, _ = run_of(model, ablation=ablation, means=means)
    for density in (0.05, 0.4, 0.7, 0.97):
        kept = random_units(run.units, graph, density, seed=1)
        found = run.logits(kept)
        for item, real in enumerate(pairs.attention_mask):
            clean, corrupted = (one.input_ids[item][real] for one in (pairs.clean, pairs.corrupted))
            everything, zero = torch.ones_like(clean)[None], torch.zeros(99, 1)
            _, patched = gpt2_by_hand(model, corrupted[None], everything, graph.exists, zero)
            patched = patched[:, 0]
            if ablation == "zero":
                patched = torch.zeros_like(patched)
            elif ablation == "mean":
                patched = means[:, None].expand_as(patched)
            labels = pairs.clean.labels()[item][real]
            expected = gpt2_by_span(model, clean, labels, kept, run.units, patched)
            torch.testing.assert_close(found[item, real], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_an_edge_kept_at_all_spans_is_a_kept_edge(family: str) -> None:
    model = family_model(family)
    for left in (False, True):
        run, pairs = run_of(model, left)
        plain = PatchedRun(
            model, pairs.clean.input_ids, pairs.corrupted.input_ids, pairs.attention_mask
        )
        exists = run.units.exists(run.graph)
        for density in (0.0, 0.1, 0.6, 1.0):
            kept = random_circuit(run.graph, density)
            found, expected = run.logits(kept & exists), plain.logits(kept)
            real = pairs.attention_mask
            torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-5)
            torch.testing.assert_close(run.logits(kept)[real], expected[real], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("form", "expand"), [*((f, False) for f in FAMILIES), ("qwen3 + lora", True)]
)
def test_cutting_one_unit_changes_k_or_v_for_its_queries_alone(form: str, expand: bool) -> None:
    model, pairs = family_model(form), divided_pairs()
    metric, hooked = difference_metric(pairs), HookedModel(model)
    graph = Graph(hooked.shape, expand)
    units = SpanPairs.of(pairs)
    judge = SpanEvaluator(units, model, pairs, metric, graph)
    exists = units.exists(graph)
    places = np.argwhere(exists)
    some = places[np.random.default_rng(3).permutation(len(places))[:24]]
    circuits = np.repeat(exists[None], len(some), 0)
    circuits[np.arange(len(some)), *some.T] = False
    found = np.array([one.metric for one in judge.run(list(circuits))])
    reader = AttributionPasses(hooked, graph, metric, pairs)
    with frozen(hooked.model), torch.no_grad():
        weights = AttentionWeights(hooked, expand, torch.float64)
        for batch in batches(hooked, pairs, torch.arange(3).split(1)):
            written = sources_of(reader, weights, batch)
            assert batch.labels is not None
            item = int(batch.items)
            for mine, (number, row, column) in zip(found[:, item], some, strict=True):
                inside = tuple(batch.labels[0] == span for span in units.pairs[number])
                value = unit_value(reader, weights, batch, column, written[row], inside)
                assert mine == pytest.approx(float(value), abs=2e-5)
    assert np.abs(found - judge.full.metric).max() > 1e-3


@torch.no_grad()
def test_nothing_and_everything() -> None:
    model, pairs = family_model("llama"), divided_pairs()
    judge = SpanEvaluator(SpanPairs.of(pairs), model, pairs, difference_metric(pairs), batch=2)
    whole = judge.units.exists(judge.graph)
    empty, full = judge.run([np.zeros_like(whole), whole])
    np.testing.assert_array_equal(empty.metric, judge.empty.metric)
    np.testing.assert_array_equal(full.metric, judge.full.metric)
    with pytest.raises(ValueError, match="the units have"):
        judge.run([whole[1:]])


def test_neither_batches_nor_memory_matter_and_the_model_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, pairs = family_model("qwen3 + lora").train(), divided_pairs()
    metric, units = difference_metric(pairs), SpanPairs.of(pairs)
    found = []
    with unchanged(model):
        for batch in (1, 3):
            judge = SpanEvaluator(units, model, pairs, metric, batch=batch)
            kept = random_units(units, judge.graph, 0.5, seed=2)
            found.append(judge.run([kept])[0].metric)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
    run, _ = run_of(model)
    whole = run.hidden(kept)
    run.memory = 1
    torch.testing.assert_close(run.hidden(kept), whole, rtol=0, atol=1e-6)
    blocks, all_blocks = [], SpanPass._blocks

    def narrow(self: SpanPass, columns: Any) -> Any:
        self.streams_at_once = 0.0  # one token at a time
        blocks.extend(tokens for _, tokens in all_blocks(self, columns))
        return all_blocks(self, columns)

    monkeypatch.setattr(SpanPass, "_blocks", narrow)
    torch.testing.assert_close(run.hidden(kept), whole, rtol=0, atol=1e-6)
    assert {one.stop - one.start for one in blocks} == {1}
