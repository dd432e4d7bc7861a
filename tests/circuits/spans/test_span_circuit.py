"""Units chosen, pruned and matched; circuits by span beside plain ones; the file of scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sumcirc.circuits.discovery import judge, score_edges
from sumcirc.circuits.edge_selection import prune
from sumcirc.circuits.edge_sums import DESTINATION_KINDS, destination_kinds, edge_groups
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.division import covered
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.patching.evaluator import share_of
from sumcirc.circuits.spans.circuit import find_units, unit_runs
from sumcirc.circuits.spans.files import read_span_scores, write_span_scores
from sumcirc.circuits.spans.patching import SpanEvaluator
from sumcirc.circuits.spans.scores import SpanScores
from sumcirc.circuits.spans.units import SpanPairs, matched_units, prune_units, top_units
from sumcirc.circuits.tasks import make_tasks
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.reporting.views.circuit_spans import span_tables, spans_said, spans_view
from sumcirc.schema import CircuitOptions
from sumcirc.storage.reading import RecordError, fitted
from sumcirc.tracking.shapes.span_shapes import SpansFile
from tests.circuits.spans.naive_spans import random_units
from tests.support.small_models import VOCABULARY, small_model

UNITS = SpanPairs(("first", "second"), ((0, 0), (0, 1), (1, 1)))
GRAPH = Graph(Shape(2, 2, 1, 4, 8, 16, 10, False))


def alive(kept: Any, units: SpanPairs, graph: Graph) -> set[tuple[int, int, int]]:
    """Units on a path from the embedding to the logits, by walking single steps both ways."""

    def nodes(column: int) -> list[str]:
        name = graph.destinations[column].split("<")[0]
        if ".g" not in name:
            return [name]
        layer, group = name[1:].split(".g")
        size = graph.shape.heads // graph.shape.key_value_heads
        return [f"a{layer}.h{int(group) * size + i}" for i in range(size)]

    steps = [
        ((graph.sources[row], units.pairs[number][0]), (node, units.pairs[number][1]), unit)
        for unit in map(tuple, np.argwhere(kept))
        for number, row, column in [unit]
        for node in nodes(column)
    ]
    forward = {("input", span) for span in range(len(units.names))}
    backward = {("logits", span) for span in range(len(units.names))}
    for _ in steps:
        forward |= {end for start, end, _ in steps if start in forward}
        backward |= {start for start, end, _ in steps if end in backward}
    return {unit for start, end, unit in steps if start in forward and end in backward}


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5])
def test_pruned_units_lie_on_a_path(density: float) -> None:
    for seed in range(4):
        kept = random_units(UNITS, GRAPH, density, seed)
        found = prune_units(kept, UNITS, GRAPH)
        assert set(map(tuple, np.argwhere(found))) == alive(kept, UNITS, GRAPH)


def test_with_one_span_units_are_edges() -> None:
    one = SpanPairs(("all",), ((0, 0),))
    kept = random_units(one, GRAPH, 0.3, seed=0)
    np.testing.assert_array_equal(prune_units(kept, one, GRAPH)[0], prune(kept[0], GRAPH))
    np.testing.assert_array_equal(one.exists(GRAPH)[0], GRAPH.exists)


def test_top_and_matched_units() -> None:
    exists = UNITS.exists(GRAPH)
    crossing = np.array([name.endswith(("<k>", "<v>")) for name in GRAPH.destinations])
    assert not exists[1][:, ~crossing].any()
    assert (exists[1] == (GRAPH.exists & crossing)).all()
    assert (exists[0] == GRAPH.exists).all()
    scores = np.random.default_rng(0).normal(size=exists.shape) * exists
    count = 60
    least = np.sort(np.abs(scores[exists]))[-count]
    expected = prune_units((np.abs(scores) >= least) & exists, UNITS, GRAPH)
    found = top_units(scores, UNITS, GRAPH, count)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(top_units(scores, UNITS, GRAPH, 10**6), exists)
    random = matched_units(np.random.default_rng(1).random(exists.shape), found, GRAPH)
    assert not (random & ~exists).any()
    assert (random != found).any()
    groups = edge_groups(GRAPH)
    for mine, theirs in zip(found, random, strict=True):
        np.testing.assert_array_equal(
            np.bincount(groups[mine], minlength=99), np.bincount(groups[theirs], minlength=99)
        )


def pairs_with_spans(count: int = 6) -> list[ExamplePair]:
    """Pairs of three lengths with two spans, and two tokens of none."""
    draw, found = np.random.default_rng(0), []
    for item in range(count):
        clean = draw.integers(1, VOCABULARY, 9 + item % 3)
        other = clean.copy()
        other[[1, 3]] = draw.integers(1, VOCABULARY, 2)
        place = np.arange(len(clean))
        spans = {"fact": (place == 1) | (place == 3), "rest": place > 4}
        found.append(ExamplePair.of(str(item), "own", (clean.tolist(), other.tolist()), spans))
    return found


@pytest.fixture(scope="module")
def found() -> Any:
    """A model, its task, options, and the circuit by span."""
    model = small_model("llama")
    options = CircuitOptions(
        sizes=[0.1, 0.4, 1.0], random_circuits=2, resamples=5, steps=2, by_span=True, size=0.3
    )
    split = make_tasks(model, covered(pairs_with_spans(), "circuit.by_span=true"), options)
    counts: list[int] = []

    class Counter:
        def __init__(self, label: str, total: int) -> None:
            counts.append(total)

        def __enter__(self) -> Any:
            return lambda done: counts.append(-done)

        def __exit__(self, *error: object) -> None:
            assert error[0] is None

    result = find_units(model, split.task, split.held_out, options, Counter)  # type: ignore[arg-type]
    assert sum(counts) == 0  # progress runs to its end
    return model, split, options, result


def test_the_plain_circuit_is_the_same_as_without_spans(found: Any) -> None:
    model, split, options, result = found
    plain = judge(
        split.task, score_edges(model, split.task, options), options, held_out=split.held_out
    )
    np.testing.assert_allclose(result.aggregated, plain.aggregated, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.circuit, plain.circuit)
    assert result.faithfulness.faithfulness == plain.faithfulness.faithfulness


def test_sizes_and_faithfulness_by_span(found: Any) -> None:
    _, split, options, result = found
    by_span, graph = result.by_span, result.scores.graph
    units = by_span.scores.units
    assert units.names == ("fact", "rest", "other")
    exists = units.exists(graph)
    assert by_span.point.edges == result.circuit.sum()
    assert by_span.point.allowed == (exists & result.circuit).sum()
    assert by_span.point.units == by_span.circuit.sum() <= by_span.point.allowed
    assert by_span.point.touched == by_span.circuit.any(0).sum()
    assert by_span.point.outside == (by_span.circuit.any(0) & ~result.circuit).sum()
    assert [point.fraction for point in by_span.points] == options.sizes
    for point, plain in zip(by_span.points, result.absolute.points, strict=True):
        assert point.plain == plain.faithfulness
    last = by_span.points[-1]
    assert last.units == exists.sum()
    assert last.faithfulness.mean == pytest.approx(1)
    assert last.control is not None
    assert unit_runs(split.held_out or split.task, options) > 0
    kinds = destination_kinds(graph)
    sizes = np.abs(by_span.aggregated)
    for number, kind in np.ndindex(by_span.shares.shape):
        share = sizes[number][:, kinds == kind].sum() / sizes.sum()
        assert by_span.shares[number, kind] == pytest.approx(share)
    assert by_span.shares.sum() == pytest.approx(1)
    largest = by_span.largest(3)
    assert abs(largest[0][-1]) == pytest.approx(sizes.max())
    assert by_span.tokens.sum() == pytest.approx(1)


def test_the_control_is_of_random_units_alone(found: Any) -> None:
    model, split, _, result = found
    judged, by_span = split.held_out, result.by_span
    point, graph, units = by_span.points[0], result.scores.graph, by_span.scores.units
    kept = top_units(by_span.aggregated, units, graph, point.allowed)
    evaluator = SpanEvaluator(units, model, judged.tokens, judged.metric)
    gain = whole = 0.0
    for seed in range(2):
        draws = np.random.default_rng(seed).random(kept.shape)
        drawn = matched_units(draws, kept, graph)
        part = share_of(seed, len(judged.pairs))
        gain += (evaluator.run([drawn])[0].metric - evaluator.empty.metric)[part].sum()
        whole += (evaluator.full.metric - evaluator.empty.metric)[part].sum()
    assert point.control.mean == pytest.approx(gain / whole, abs=1e-5)
    assert abs(point.control.mean - point.faithfulness.mean) > 1e-4


def test_the_record_its_tables_and_its_view(found: Any, tmp_path: Path) -> None:
    _, _, _, result = found
    text = json.dumps(result.by_span.as_json(), allow_nan=False)
    record = fitted(json.loads(text), tmp_path, SpansFile, "spans")
    tables = span_tables(record)
    assert [len(table.rows) for table in tables] == [3, 3, 15, 3]
    for table in tables:
        assert all(len(row) == len(table.headings) for row in table.rows)
    between = tables[1].rows
    assert between[1][1] == "-"  # no token of `rest` comes before one of `fact`
    view = spans_view(record)
    assert sum(row[-1] for row in view.rows if not np.isnan(row[-1])) == pytest.approx(100)
    said = spans_said(record)
    assert "of the scores by span cancels within edges" in said[0]
    assert f"{record['circuit']['units']:,} units" in said[1]
    assert record["reached"] is not None
    assert "faithfulness of 0.9 by span: reached by" in said[2]
    assert set(record["shares"][0]) == {"span", "reader", *DESTINATION_KINDS}
    nothing = {**record, "cancelled": None}
    assert spans_said(nothing) == ["all scores are 0"]


def test_the_file_of_scores(found: Any, tmp_path: Path) -> None:
    scores: SpanScores = found[-1].by_span.scores
    file = tmp_path / "span-scores.safetensors"
    write_span_scores(file, scores, "eap-ig-inputs", "kl", 2)
    back = read_span_scores(file)
    assert (back.units, back.ids, back.graph) == (scores.units, scores.ids, scores.graph)
    largest = scores.documents.abs().amax((1, 2, 3), keepdim=True)
    assert ((back.documents - scores.documents).abs() < 1e-3 * largest).all()
    exists = scores.units.exists(scores.graph)
    assert load_file(file)["units"].shape == (len(scores.ids), exists.sum())
    broken = replace(scores, documents=scores.documents * np.nan)
    with pytest.raises(UserError, match="NaN or infinite"):
        write_span_scores(file, broken, "eap", "nll", 1)
    (tmp_path / "other.safetensors").write_bytes(b"no")
    with pytest.raises(RecordError):
        read_span_scores(tmp_path / "other.safetensors")


def test_tokens_of_no_span_get_one_and_items_without_spans_are_refused() -> None:
    pairs = pairs_with_spans(2)
    found = covered(pairs, "circuit.by_span=true")
    for pair in found:
        times = np.sum(list(pair.clean.spans.values()), axis=0)
        assert times.tolist() == [1] * len(pair.clean)
    bare = replace(pairs[1], clean=replace(pairs[1].clean, spans={}))
    with pytest.raises(UserError, match=r"circuit.by_span=true: `1` has no spans"):
        covered([pairs[0], bare], "circuit.by_span=true")
