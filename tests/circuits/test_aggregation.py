"""How edges' scores on pairs become one: against sums pair by pair, edge by edge, on families."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.circuits.aggregation import aggregated, per_document, signed_scores
from sumcirc.circuits.attribution.methods import AttributionSettings, attribute
from sumcirc.circuits.discovery import circuit_of, judge, score_edges, selection_of
from sumcirc.circuits.eap_ig_format import read_circuit
from sumcirc.circuits.edge_selection import prune
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.stability import jaccard
from sumcirc.circuits.tasks import make_task
from sumcirc.schema import Aggregation, CircuitMetric, CircuitOptions
from tests.circuits.cases import family_model
from tests.support.small_models import VOCABULARY

SIZES = [0.1, 0.3, 1.0]


def pairs() -> list[ExamplePair]:
    """Four pairs of unequal length; each continues differently, so that effects differ in sign."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for number, length in enumerate((9, 6, 8, 7)):
        clean = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        other = list(clean)
        other[1], other[3] = (other[1] + 7) % VOCABULARY, (other[3] + 50) % VOCABULARY
        answers = ([3 + number], [20 + number])
        found.append(ExamplePair.of(f"p{number}", "own", (clean, other), {}, *answers))
    return found


def options(aggregation: Aggregation) -> CircuitOptions:
    return CircuitOptions(
        aggregation=aggregation,
        metric=CircuitMetric.logit_difference,
        size=0.3,
        sizes=SIZES,
        random_circuits=1,
        resamples=20,
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox", "llama + lora"])
def test_edges_are_ranked_by_what_pairs_add_up_to(family: str, tmp_path: Path) -> None:
    """Every pair is attributed alone, and the sums are made in plain Python."""
    model, some = family_model(family), pairs()
    alone = []
    for pair in some:
        tokens = TokenPairs.of([pair])
        one = attribute(model, tokens, pair_metric("logit_difference", tokens))
        alone.append(one.documents[0].numpy())
    graph = one.graph
    places = [(row, column) for _, row, column in graph.edge_names()]
    opposed = sum(len({scores[place] > 0 for scores in alone}) == 2 for place in places)
    assert opposed > len(places) / 4
    circuits = {}
    for aggregation in Aggregation:
        absolute = aggregation is Aggregation.mean_absolute
        chosen = options(aggregation)
        task = make_task(model, some, chosen, keep_all=True)
        found = judge(task, score_edges(model, task, chosen), chosen)
        expected, shown = {}, 0.0
        for place in places:
            values = [float(scores[place]) for scores in alone]
            expected[place] = sum(abs(x) if absolute else x for x in values) / len(values)
            assert found.aggregated[place] == pytest.approx(expected[place], rel=1e-6, abs=1e-12)
            shown += math.copysign(expected[place], sum(values))
        ranked = sorted(places, key=lambda place: (-abs(expected[place]), place))
        for size, point in zip(SIZES, found.absolute.points, strict=True):
            kept = np.zeros(graph.exists.shape, dtype=bool)
            kept[tuple(zip(*ranked[: int(size * graph.edges)], strict=True))] = True
            (value,) = task.evaluator.run([prune(kept, graph)])
            assert point.metric == pytest.approx(value.metric.tolist())
        kept = np.zeros(graph.exists.shape, dtype=bool)
        kept[tuple(zip(*ranked[: int(0.3 * graph.edges)], strict=True))] = True
        assert np.array_equal(found.circuit, prune(kept, graph))
        circuits[aggregation] = found
        found.save(tmp_path / "circuit.json")
        written = read_circuit(tmp_path / "circuit.json").scores
        assert written.sum() == pytest.approx(shown)
        assert written.min() < 0 < written.max()
        largest = sorted(places, key=lambda place: (-abs(expected[place]), place))
        assert [abs(score) for *_, score in found.largest_edges(3)] == pytest.approx(
            [abs(expected[place]) for place in largest if found.circuit[place]][:3]
        )
    mean, size = circuits[Aggregation.mean], circuits[Aggregation.mean_absolute]
    assert not np.array_equal(mean.circuit, size.circuit)
    # CPR ranks by the mean of the signed scores, whatever selects the circuit
    assert [one.edges for one in mean.signed.points] == [one.edges for one in size.signed.points]
    assert mean.signed.cpr == size.signed.cpr
    assert mean.absolute.cmd != size.absolute.cmd


def test_a_circuit_is_as_large_as_its_curve_says_at_that_size() -> None:
    model, chosen = family_model("gpt2"), options(Aggregation.mean)
    task = make_task(model, pairs(), chosen, keep_all=True)
    scores = score_edges(model, task, chosen)
    sizes = [1e-4, *(n / 40 for n in range(1, 41))]
    found = judge(task, scores, replace(chosen, sizes=sizes))
    for size, point in zip(sizes, found.absolute.points, strict=True):
        kept = circuit_of(found.aggregated, scores.graph, replace(chosen, size=size))
        assert kept.sum() == point.edges, size


def test_circuits_of_resamples_are_those_of_their_own_sums() -> None:
    model, chosen = family_model("gpt2"), options(Aggregation.mean_absolute)
    task = make_task(model, pairs(), chosen, keep_all=True)
    scores = score_edges(model, task, chosen)
    found = judge(task, scores, chosen).stability
    assert found is not None
    documents, graph = scores.documents.float().numpy(), scores.graph
    drawn = np.random.default_rng(0).multinomial(4, [1 / 4] * 4, chosen.resamples)
    kept = [
        prune(
            selection_of(chosen)(
                np.abs(np.repeat(documents, times, axis=0)).astype(float).mean(0),
                graph,
                int(chosen.size * graph.edges),
            ),
            graph,
        )
        for times in drawn
    ]
    overlaps = [jaccard(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :]]
    assert found.jaccard.mean == pytest.approx(np.mean(overlaps))
    assert found.frequency == pytest.approx(np.mean(kept, axis=0))


def test_opposite_effects_cancel_in_the_mean_alone() -> None:
    scores = np.array([[[1.0, -2.0]], [[-1.0, -4.0]]])
    assert aggregated(scores, Aggregation.mean).tolist() == [[0, -3]]
    assert aggregated(scores, Aggregation.mean_absolute).tolist() == [[1, 3]]
    assert signed_scores(scores, Aggregation.mean).tolist() == [[0, -3]]
    assert signed_scores(scores, Aggregation.mean_absolute).tolist() == [[1, -3]]
    assert per_document(scores, Aggregation.mean_absolute).tolist() == [[[1, 2]], [[1, 4]]]


def test_attribution_itself_does_not_depend_on_it() -> None:
    model, scores = family_model("gpt2"), []
    for aggregation in Aggregation:
        chosen = options(aggregation)
        task = make_task(model, pairs(), chosen, keep_all=True)
        scores.append(score_edges(model, task, chosen).documents)
    assert torch.equal(*scores)
    tokens = TokenPairs.of(pairs())
    settings: Any = AttributionSettings()
    direct = attribute(model, tokens, pair_metric("logit_difference", tokens), settings)
    assert torch.allclose(direct.documents, scores[0])
