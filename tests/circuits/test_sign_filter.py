"""The filter of edges by sign: against loops over drawn documents, in circuits and resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.circuits.card.agreement import converged
from sumcirc.circuits.card.subject import Subject
from sumcirc.circuits.discovery import circuit_of, judge, score_edges
from sumcirc.circuits.edge_selection import greedy, prune, top_n
from sumcirc.circuits.evolution import evolution
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.sign_filter import SignFilter, candidate_count, ranking_scores
from sumcirc.circuits.stability import jaccard, stability
from sumcirc.circuits.tasks import make_task
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.schema import Aggregation, CardOptions, CircuitMetric, CircuitOptions
from tests.circuits.cases import family_model
from tests.circuits.test_aggregation import pairs

SMALL = Graph(Shape(2, 2, 2, 8, 16, 64, 100, False))
LEAST, RESAMPLES = 0.9, 40


def mixed(documents: int = 7, seed: int = 0) -> NDArray[np.float64]:
    """Scores of documents, many of which differ in sign."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=SMALL.exists.shape) + rng.normal(size=(documents, *SMALL.exists.shape))


def naive_ranks(
    scores: NDArray[np.float64], drawn_of: NDArray[np.int64] | None = None
) -> dict[tuple[int, int], int]:
    """Every document is repeated as often as drawn; signs are counted edge by edge."""
    count = len(scores)
    times = np.ones(count, dtype=int) if drawn_of is None else drawn_of
    own = np.repeat(scores, times, axis=0)
    draws = np.random.default_rng(0).multinomial(count, times / times.sum(), RESAMPLES)
    places = [(row, column) for _, row, column in SMALL.edge_names()]
    found = []
    for place in places:
        mean = own[(slice(None), *place)].mean()
        means = [np.repeat(scores[(slice(None), *place)], draw).mean() for draw in draws]
        same = sum(np.sign(one) == np.sign(mean) for one in means)
        candidate = mean != 0 and same >= LEAST * RESAMPLES
        found.append((not candidate, -abs(mean), place))
    return {place: len(found) - rank for rank, (_, _, place) in enumerate(sorted(found))}


def options(**settings: Any) -> CircuitOptions:
    return CircuitOptions(
        sign_filter=LEAST,
        aggregation=Aggregation.mean,
        metric=CircuitMetric.logit_difference,
        resamples=RESAMPLES,
        sizes=[0.1, 0.3, 1.0],
        random_circuits=1,
        size=0.3,
        **settings,
    )


def test_candidates_are_ranked_before_the_others() -> None:
    scores = mixed()
    scores[:, 0, 1] = 0  # no sign, so no candidate
    expected = naive_ranks(scores)
    found = ranking_scores(scores, SMALL, options())
    assert {place: int(found[place]) for place in expected} == expected
    assert found[~SMALL.exists].max() == 0
    filtered = candidate_count(scores, SMALL, options())
    assert filtered is not None
    assert SMALL.edges / 4 < filtered < SMALL.edges * 3 / 4
    # the order differs from that by |mean| alone
    plain = np.abs(scores.mean(0))[SMALL.exists]
    assert not np.array_equal(np.argsort(plain), np.argsort(found[SMALL.exists]))


def test_a_share_of_resamples_is_reached_exactly() -> None:
    """0.55 of 100 resamples are 55, though the product is 55.00000000000001."""
    scores = np.array([[[1.0, -1.0]]]).repeat(3, 0)
    edges = scores.reshape(3, 2)
    draws = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, 100) / 3

    def same(values: NDArray[np.float64]) -> int:
        return int((np.sign(draws @ values) == np.sign(values.mean())).sum())

    values = next(one for one in np.random.default_rng(1).normal(size=(9999, 3)) if same(one) == 55)
    edges = np.stack([values, -values], 1)
    assert SignFilter(0.55, 100).candidates(edges)[0].all()
    assert not SignFilter(0.56, 100).candidates(edges)[0].any()


@pytest.mark.parametrize("select", [top_n, greedy])
def test_every_resample_has_its_own_candidates(select: Any) -> None:
    scores = mixed()
    found = stability(
        scores, SMALL, 20, select, resamples=8, sign_filter=SignFilter(LEAST, RESAMPLES)
    )
    draws = np.random.default_rng(0).multinomial(7, [1 / 7] * 7, 8)
    circuits = []
    for draw in [None, *draws]:
        ranks = np.zeros(SMALL.exists.shape)
        for place, rank in naive_ranks(scores, draw).items():
            ranks[place] = rank
        circuits.append(prune(select(ranks, SMALL, 20), SMALL))
    assert np.array_equal(found.circuit, circuits[0])
    assert found.frequency == pytest.approx(np.mean(circuits[1:], axis=0))
    overlaps = [jaccard(a, b) for i, a in enumerate(circuits[1:]) for b in circuits[i + 2 :]]
    assert found.jaccard.mean == pytest.approx(np.mean(overlaps))
    # scores and their intervals are those of the means
    assert np.allclose(found.mean[SMALL.exists], scores.mean(0)[SMALL.exists])
    over = evolution(
        [(0, scores), (1, mixed(seed=1))],
        SMALL,
        20,
        select,
        resamples=8,
        sign_filter=SignFilter(LEAST, RESAMPLES),
    )
    assert np.array_equal(over.circuits[0], circuits[0])
    assert over.edges.within[0] == pytest.approx(np.mean(overlaps))


def test_the_circuit_its_curve_and_its_card_use_the_filter() -> None:
    model, chosen = family_model("llama"), options()
    task = make_task(model, pairs(), chosen, keep_all=True)
    scores = score_edges(model, task, chosen)
    found = judge(task, scores, chosen)
    ranking = ranking_scores(scores.documents.double().numpy(), scores.graph, chosen)
    assert np.array_equal(found.circuit, circuit_of(ranking, scores.graph, chosen))
    plain = judge(task, scores, CircuitOptions(**{**vars(chosen), "sign_filter": None}))
    assert not np.array_equal(found.circuit, plain.circuit)
    assert (plain.candidates, np.array_equal(found.aggregated, plain.aggregated)) == (None, True)
    assert found.candidates == candidate_count(
        scores.documents.double().numpy(), scores.graph, chosen
    )
    point = found.absolute.points[1]
    assert (point.edges, point.metric) == (found.circuit.sum(), found.faithfulness.metric)
    assert found.signed == plain.signed
    assert found.stability is not None
    assert np.array_equal(found.stability.circuit, found.circuit)
    subject = Subject(model, task, task, found, chosen, CardOptions())
    line = converged(subject)
    assert line.number is not None
    finer = CircuitOptions(**{**vars(chosen), "steps": 4 * chosen.steps})
    again = score_edges(model, task, finer).documents.double().numpy()
    other = circuit_of(ranking_scores(again, scores.graph, chosen), scores.graph, chosen)
    assert line.number.mean == pytest.approx(jaccard(found.circuit, other))


def test_a_single_pair_has_no_resamples() -> None:
    with pytest.raises(UserError, match=r"circuit.sign_filter=0.9: one pair can't be resampled"):
        ranking_scores(mixed(1), SMALL, options())
