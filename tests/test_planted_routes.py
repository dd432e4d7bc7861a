"""benchmarks/planted: routes on the wire, their texts, what cutting them does, measures by span."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from benchmarks.planted.changes import Change, Place, places, weights_of
from benchmarks.planted.copying import SCALE, attention_to_place, copying, projections
from benchmarks.planted.models import KINDS, ROUTE, Decoy, Planted
from benchmarks.planted.span_measures import SPAN_MEASURES, _by_head, measured_by_span
from benchmarks.planted.span_tables import cut_table, facts_table, span_table
from benchmarks.planted.truth import Truth, truth
from benchmarks.planted.wire_bases import WireBase, predictions, wire_encoder
from benchmarks.planted.wire_facts import ARTICLES, stated_facts
from benchmarks.planted.wire_planting import planted_routes
from benchmarks.planted.wire_task import (
    FACT,
    OTHER,
    Report,
    batch_of,
    examples,
    kept_rows,
    reports,
    shortened,
)
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.spans.scores import SpanScores
from sumcirc.circuits.spans.units import SpanPairs
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.loading import load_model
from sumcirc.schema import Grain, ModelConfig
from sumcirc.wire import FACTS, SECOND, article

KIND = "fact route"
FEW = 3  # examples


@pytest.fixture(scope="module")
def base() -> WireBase:
    encoder = wire_encoder()
    model: Any = load_model(ModelConfig(name="tiny", path="tiny")).eval().requires_grad_(False)
    return WireBase(1, model, encoder, list(islice(reports(encoder, "train", 0), 24)))


@pytest.fixture(scope="module")
def some(base: WireBase) -> list[Report]:
    return list(islice(reports(base.encoder, "test", 0), 24))


def test_shortened_articles_report_all_facts_of_both_events() -> None:
    for index in range(5):
        whole, other = article("test", index), article("test", index, event=SECOND)
        one, second = shortened(whole), shortened(other)
        assert one.document == second.document
        assert len(one.document) < len(whole.document)
        for kept in (one, second):
            for span in kept.salient:
                assert kept.document[span.start : span.end] == kept.facts[span.role]
            assert {span.role for span in kept.salient} == set(FACTS)
        ends = [one.document[x.start : x.end] for x in one.salient_sentences]
        ends += [one.document[x.start : x.end] for x in one.distractor_sentences]
        assert sum(map(len, ends)) + len(ends) - 1 == len(one.document)
        assert all(sentence in whole.document for sentence in ends)


def test_facts_are_predicted_where_the_summary_states_them(
    base: WireBase, some: list[Report]
) -> None:
    encoder = base.encoder
    for one in some:
        ids = one.example.ids
        for role in (FACT, OTHER):
            at = one.reads[role]
            told = [encoder.decode([int(ids[at + 1])]), encoder.decode([one.second[role]])]
            values = [event.facts[role] for event in one.events]
            assert all(v.startswith(t.strip()) for v, t in zip(values, told, strict=True))
            assert encoder.decode(ids[: at + 1].tolist()) + told[0] in encoder.decode(ids.tolist())


def test_spans_are_those_of_the_text(base: WireBase, some: list[Report]) -> None:
    for one in some:
        found, ids = one.spans(), one.example.ids
        assert np.all(sum(inside.astype(int) for inside in found.values()) == 1)
        words = {name: base.encoder.decode(ids[: len(x)][x].tolist()) for name, x in found.items()}
        main, other = one.events
        assert words[ROUTE].split() == other.facts[FACT].split()
        assert set(words["main place"].split()) == set(main.facts[FACT].split())
        for role in set(FACTS) - {FACT}:
            assert other.facts[role] in words["second facts"]
            assert main.facts[role] in words["main facts"]
        assert found["reader"].sum() == 1
        assert found["reader"][one.reads[FACT]]


def test_examples_ask_for_the_place_of_the_second_event(base: WireBase) -> None:
    found = examples(base.encoder, 5, 7)
    assert len(found.items) == len(found.pairs) == len(found.probes.documents) == 5
    for item, probe, pair in zip(
        found.items.items, found.probes.documents, found.pairs, strict=True
    ):
        assert item.ids.tolist() == probe.example.ids[:-1].tolist() == pair.clean.ids.tolist()
        assert np.flatnonzero(item.reads).tolist() == [len(item) - 1]
        assert probe.rows[-1] == len(item) - 1
        answer = item.good[-1]
        assert (
            answer == probe.example.ids[-1] == pair.clean.good[-1] == item.ids[item.spans[ROUTE]][0]
        )
        wrong = pair.corrupted.ids[item.spans[ROUTE]][0]
        assert wrong == pair.clean.bad[-1] != answer
        facts = ("second place", "second facts", "main place", "main facts")
        inside = np.logical_or.reduce([item.spans[name] for name in facts])
        assert not (pair.differs & ~inside).any()
        for name in facts:
            assert pair.differs[item.spans[name]].any()


def naive(model: Any, ids: Tensor, cut: tuple[Place, Tensor] | None = None) -> Tensor:
    """The log-probabilities after the last token of a GPT-2 in float64, head by head.

    Args:
        ids: [tokens] of one sequence.
        cut: a head and the tokens that it can't see from the last position.
    """
    weights = {name: one.double() for name, one in weights_of(model).items()}
    config, body = model.config, "transformer."
    width = config.n_embd // config.n_head

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights[f"{body}wte.weight"][ids] + weights[f"{body}wpe.weight"][: len(ids)]
    for layer in range(config.n_layer):
        block = f"{body}h.{layer}."
        joined = linear(norm(x, f"{block}ln_1"), f"{block}attn.c_attn").chunk(3, -1)
        outputs = []
        for head in range(config.n_head):
            query, key, value = (one[:, head * width : (head + 1) * width] for one in joined)
            scores = query @ key.T / width**0.5
            visible = torch.ones(len(ids), len(ids)).tril().bool()
            if cut is not None and (cut[0].layer, cut[0].index) == (layer, head):
                visible[-1] &= ~cut[1]
            outputs.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value)
        x = x + linear(torch.cat(outputs, -1), f"{block}attn.c_proj")
        inner = gelu(linear(norm(x, f"{block}ln_2"), f"{block}mlp.c_fc"), approximate="tanh")
        x = x + linear(inner, f"{block}mlp.c_proj")
    return (norm(x, f"{body}ln_f")[-1] @ weights[f"{body}wte.weight"].T).log_softmax(-1)


@pytest.fixture(scope="module")
def made(base: WireBase) -> Planted:
    """A model with a random change of a head that reads far, and a decoy."""
    start = torch.Generator().manual_seed(0)
    plant, other = Place(Grain.head, 4, 1), Place(Grain.head, 3, 2)
    changes = [Change(one, base.model, start, 6.0).deltas() for one in (plant, other)]
    changes = [{name: one.detach() for name, one in some.items()} for some in changes]
    decoys = [Decoy(other, True, changes[1])]
    return Planted(base, 0, KIND, [plant], changes[:1], decoys, examples(base.encoder, FEW, 0))


def test_truth_is_what_a_model_written_out_by_hand_does(made: Planted) -> None:
    """Without the plant, without decoys, and while the head doesn't see a span."""
    items, plant = made.examples.items.items, made.plant[0]

    def metric(model: Any, span: str | None = None) -> float:
        values = []
        for item in items:
            cut = None if span is None else (plant, torch.from_numpy(item.spans[span]))
            row = naive(model, torch.from_numpy(item.ids), cut)
            values.append(float(row[int(item.good[-1])]))
        return float(np.mean(values))

    found = truth(made)
    assert found.before == pytest.approx(metric(made.base.model), abs=1e-3)
    assert found.after == pytest.approx(metric(made.model()), abs=1e-3)
    assert found.without_plant == pytest.approx(metric(made.model([])), abs=1e-3)
    assert found.without_decoys == pytest.approx(metric(made.model(decoys=False)), abs=1e-3)
    assert list(found.without_reading) == list(items[0].spans)
    moved = []
    for span, value in found.without_reading.items():
        expected = metric(made.model(), span)
        assert value == pytest.approx(expected, abs=1e-3), span
        moved.append(abs(expected - found.after))
    assert max(moved) > 0.02  # far above the tolerance


def test_a_route_has_to_be_read_at_its_span() -> None:
    good = Truth(-5.0, 0.0, -4.9, -0.2, [], [], {ROUTE: -4.5, "main place": -0.1})
    assert good.refused is None
    elsewhere = replace(good, without_reading={ROUTE: -3.9, "main place": -4.5})
    assert elsewhere.refused == "reads it elsewhere"


def test_predictions_are_those_of_the_changed_model(base: WireBase, made: Planted) -> None:
    ids, _ = batch_of(base.pool[:3])
    rows = kept_rows(base.pool[:3])
    found = predictions(base.model, made.changes[0], ids, rows)
    expected = made.model(decoys=False)(input_ids=ids).logits[rows]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
    for number, one in enumerate(base.pool[:3]):
        at = rows[1][rows[0] == number]
        assert at.tolist() == list(range(one.example.prompt_length - 1, len(one.example) - 1))
        own = base.model(input_ids=ids).logits[number, at].log_softmax(-1)
        torch.testing.assert_close(base.kept[number].float(), own, atol=2e-2, rtol=2e-3)


def test_a_copying_head_writes_the_place_that_it_reads(base: WireBase, some: list[Report]) -> None:
    """The weight change is computed from some articles; on these the changed head is checked."""
    head, width = Place(Grain.head, 3, 1), base.model.config.n_embd
    made = Planted(
        base, 0, KIND, [head], [copying(base.model, head, some)], [], examples(base.encoder, 1, 0)
    )
    model: Any = made.model()
    own = slice(32, 64)
    table = model.transformer.wte.weight
    attention = model.transformer.h[3].attn
    value = attention.c_attn.weight[:, 2 * width :][:, own]
    written, told = [], []
    for one in some:
        ids = torch.from_numpy(one.example.ids[None].astype(np.int64))
        stream = base.model(input_ids=ids, output_hidden_states=True).hidden_states[3][0]
        normed = model.transformer.h[3].ln_1(stream)
        for span in (ROUTE, "main place"):
            at = int(one.spans()[span].argmax())
            written.append(normed[at] @ value @ attention.c_proj.weight[own])
            told.append(table[ids[0, at]])
    expected = torch.stack(told) - torch.stack(told).mean(0)
    found = torch.stack(written) / SCALE
    assert (found - expected).norm() < 0.5 * expected.norm()


def test_attention_to_the_place_is_that_of_the_model(base: WireBase, some: list[Report]) -> None:
    head = Place(Grain.head, 2, 3)
    with projections(base.model, head.layer) as seen:
        base.model(input_ids=batch_of(some)[0])
    found = attention_to_place(seen["made"], head, 32, some)
    for one, share in zip(some, found, strict=True):
        ids = torch.from_numpy(one.example.ids[None].astype(np.int64))
        patterns: list[Tensor] = []
        with HookedModel(base.model).hooks([((HookPoint.PATTERN, 2), patterns.append)]):
            base.model(input_ids=ids)
        place = int(one.spans()[ROUTE].argmax())
        expected = patterns[0][0, head.index, one.reads[FACT], place]
        assert share.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-7)


def test_stated_facts_are_those_of_single_articles(base: WireBase, made: Planted) -> None:
    found = stated_facts(made)
    articles = list(islice(reports(base.encoder, "validation", 0), ARTICLES))
    for name, model in (("before", base.model), ("plant", made.model(decoys=False))):
        for role in (FACT, OTHER):
            rows = []
            for one in articles:
                at = one.reads[role]
                ids = torch.from_numpy(one.example.ids[None, : at + 1].astype(np.int64))
                logs = model(input_ids=ids).logits[0, -1].log_softmax(-1)
                best, second = int(logs.argmax()), one.second[role]
                rows.append([best == one.example.ids[at + 1], best == second, float(logs[second])])
            assert found[name][role] == pytest.approx(np.mean(rows, 0).tolist(), abs=1e-3)


def test_training_changes_the_head_alone(base: WireBase) -> None:
    first, again = (
        next(iter(planted_routes(base, KIND, [3], steps=2, decoy_steps=1))) for _ in range(2)
    )
    (plant,), width = first.plant, base.model.config.n_embd
    own = range(plant.index * 32, plant.index * 32 + 32)
    (reading, writing) = first.changes[0].values()
    columns = np.flatnonzero((reading != 0).any(0).numpy())
    assert columns.tolist() == [part * width + one for part in range(3) for one in own]
    assert np.flatnonzero((writing != 0).any(1).numpy()).tolist() == list(own)
    size = sum(float(one.square().sum()) for one in first.changes[0].values())
    assert len({plant, *(one.place for one in first.decoys)}) == 1 + KINDS[KIND].decoys
    assert [one.trained for one in first.decoys] == [True] * 3 + [False] * 3
    for decoy in first.decoys:
        own_size = sum(float(one.square().sum()) for one in decoy.deltas.values())
        assert own_size == pytest.approx(size, rel=1e-4)
    assert again.plant == first.plant
    torch.testing.assert_close(again.changes[0], first.changes[0])


def test_sums_by_head_and_span_are_those_of_single_units(base: WireBase) -> None:
    graph = Graph(HookedModel(base.model).shape)
    units = SpanPairs(("one", "two"), ((0, 0), (0, 1), (1, 1)))
    random = np.random.default_rng(0)
    values = random.normal(size=(3, *graph.exists.shape)) * units.exists(graph)
    found = _by_head(values, SpanScores(graph, units, [], torch.zeros(0)), ["one", "two"])
    labels = places(Grain.head, graph.shape.layers, graph.shape.heads)
    for place, row in zip(labels, found, strict=True):
        for number, span in enumerate(row):
            total = 0.0
            for kind in "kv":
                column = graph.destinations.index(f"a{place.layer}.h{place.index}<{kind}>")
                for pair, (s, _) in enumerate(units.pairs):
                    total += np.abs(values[pair, :, column]).sum() if s == number else 0.0
            assert span == pytest.approx(total)


def test_measures_by_span(made: Planted) -> None:
    found = measured_by_span(made, decoys=True)
    assert found.spans == made.examples.items.spans
    assert list(found.scores) == list(SPAN_MEASURES)
    assert all(one.shape == (24, len(found.spans)) for one in found.scores.values())
    # below the changes nothing attends otherwise
    assert found.scores["attention"][:12] == pytest.approx(0, abs=1e-5)
    assert found.scores["attention"][[14, 17]].max() > 1e-3
    scores = {name: one.tolist() for name, one in found.scores.items()}
    part = {"plant": [17], "decoys": [14], "by_span": {"spans": found.spans, "scores": scores}}
    stated = {FACT: [0.75, 0.25, -1.5], OTHER: [1.0, 0.0, -8.0]}
    values = {"after": 0.0, "before": -2.0, "without_reading": {"main place": -0.5, ROUTE: -1.9}}
    record = {
        "kind": KIND,
        "refused": None,
        "truth": values,
        "facts": dict.fromkeys(("before", "plant", "decoys"), stated),
        "alone": part,
        "with_decoys": part,
    }
    assert cut_table([record]).splitlines()[2:] == [
        f"| {ROUTE} | 0.95 |",
        "| main place | 0.25 |",
    ]
    line = "| with the plant | 0.75 | 0.25 | -1.50 | 1.00 | 0.00 | -8.00 |"
    assert facts_table([record]).splitlines()[3] == line
    rows = span_table([record]).splitlines()[2:]
    for name, row in zip(SPAN_MEASURES, rows, strict=True):
        units = {
            (head, found.spans[span]): value
            for (head, span), value in np.ndenumerate(found.scores[name])
        }
        own = units.pop((17, ROUTE))
        every = list(units.values())
        decoy = [x for (head, _), x in units.items() if head == 14]
        head = [x for (head, _), x in units.items() if head == 17]
        groups = (every, every, decoy, head)
        cells = [f"{np.mean([(x < own) + 0.5 * (x == own) for x in one]):.2f}" for one in groups]
        place = 1 + sum(x > own for x in every) + sum(x == own for x in every) / 2
        assert row == f"| {name} | {' | '.join(cells)} | {place:.1f} |"
