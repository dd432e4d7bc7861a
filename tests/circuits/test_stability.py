"""Resampled circuits: against loops over resamples, scipy, enumeration, and planted truths."""

from __future__ import annotations

import tracemalloc
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sumcirc.circuits import resamples as resampling
from sumcirc.circuits import stability as module
from sumcirc.circuits.edge_selection import greedy, prune, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.stability import chance_jaccard, jaccard, stability
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape

SMALL = Graph(Shape(2, 2, 2, 8, 16, 64, 100, False))


def planted(noise: float, documents: int = 12, seed: int = 0) -> NDArray[np.float64]:
    """Scores of documents around one truth."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=SMALL.exists.shape) ** 3
    return truth + noise * rng.normal(size=(documents, *SMALL.exists.shape))


def naive_resamples(scores: NDArray[np.float64], resamples: int, seed: int) -> list[Any]:
    """Documents repeated as often as drawn, then averaged."""
    count = len(scores)
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, resamples)
    return [np.repeat(scores, times, axis=0).mean(axis=0) for times in drawn]


@pytest.mark.parametrize("chunk", [64, 1 << 22])
@pytest.mark.parametrize("select", [top_n, greedy])
@pytest.mark.parametrize("pruned", [True, False])
def test_against_a_loop(
    chunk: int, select: Any, pruned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (module, resampling):
        monkeypatch.setattr(one, "CHUNK", chunk)
    scores = planted(1.0)
    found = stability(scores, SMALL, 20, select, pruned, resamples=15, seed=3)
    means = naive_resamples(scores, 15, 3)
    circuits = [select(mean, SMALL, 20) for mean in means]
    if pruned:
        circuits = [prune(kept, SMALL) for kept in circuits]
    np.testing.assert_allclose(found.frequency, np.mean(circuits, axis=0))
    pairs = [
        ((a & b).sum() / (a | b).sum(), a.sum() * b.sum() / SMALL.edges, a.sum() + b.sum())
        for a, b in combinations(circuits, 2)
    ]
    values = [pair[0] for pair in pairs]
    low, high = np.quantile(values, [0.025, 0.975])
    np.testing.assert_allclose(
        [found.jaccard.mean, found.jaccard.low, found.jaccard.high], [np.mean(values), low, high]
    )
    assert found.jaccard.n == 12
    assert found.chance == pytest.approx(np.mean([x / (both - x) for _, x, both in pairs]))
    flat = [mean[SMALL.exists] for mean in means]
    correlations = [
        spearmanr(a, b).statistic  # type: ignore[attr-defined]
        for a, b in pairwise(flat)
    ]
    assert found.spearman.mean == pytest.approx(np.mean(correlations))
    assert found.spearman.high == pytest.approx(np.quantile(correlations, 0.975))
    mean = scores.mean(axis=0)
    agreeing = np.mean([np.sign(m) == np.sign(mean) for m in means], axis=0)
    np.testing.assert_allclose(found.same_sign[SMALL.exists], agreeing[SMALL.exists])
    np.testing.assert_allclose(found.mean, np.where(SMALL.exists, mean, 0))
    chosen = select(mean, SMALL, 20)
    assert (found.circuit == (prune(chosen, SMALL) if pruned else chosen)).all()


def test_without_noise_all_stays() -> None:
    found = stability(planted(0.0), SMALL, 20, resamples=10)
    assert (found.frequency == found.circuit).all()
    assert found.jaccard.low == found.jaccard.mean == 1.0
    assert found.spearman.mean == pytest.approx(1.0)
    np.testing.assert_allclose(found.low, found.high)


def test_the_more_noise_the_less_stays_down_to_chance() -> None:
    jaccards = [
        stability(planted(noise, 40), SMALL, 20, pruned=False, resamples=60).jaccard.mean
        for noise in (0.1, 2.0, 100.0)
    ]
    assert jaccards[0] > jaccards[1] > jaccards[2]
    # among two resamples of pure noise half of the variance is shared: above chance, far from 1
    assert chance_jaccard(20, 20, SMALL.edges) < jaccards[2] < 0.6


def test_intervals_cover_the_truth() -> None:
    truth = np.random.default_rng(0).normal(size=SMALL.exists.shape) ** 3
    found = stability(planted(1.0, 40), SMALL, 10, resamples=300)
    inside = (found.low <= truth) & (truth <= found.high)
    assert 0.85 < inside[SMALL.exists].mean() < 1.0
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()


def test_half_precision_scores() -> None:
    scores = planted(1.0).astype(np.float16)
    half, full = (stability(s, SMALL, 20, resamples=8) for s in (scores, scores.astype(float)))
    np.testing.assert_array_equal(half.frequency, full.frequency)
    np.testing.assert_array_equal(half.low, full.low)


def test_jaccard_and_its_value_by_chance() -> None:
    places = np.argwhere(SMALL.exists)
    first, second = np.zeros_like(SMALL.exists), np.zeros_like(SMALL.exists)
    first[tuple(places[:4].T)], second[tuple(places[2:5].T)] = True, True
    total = SMALL.edges
    assert jaccard(first, second) == 2 / 5
    assert chance_jaccard(4, 3, total) == pytest.approx((12 / total) / (7 - 12 / total))


def test_overlap_of_nothing() -> None:
    nothing = np.zeros_like(SMALL.exists)
    assert np.isnan([jaccard(nothing, nothing), chance_jaccard(0, 0, SMALL.edges)]).all()
    assert jaccard(nothing, SMALL.exists) == 0.0
    assert jaccard(SMALL.exists, SMALL.exists) == 1.0
    # nothing else could have been drawn
    assert np.isnan(chance_jaccard(SMALL.edges, SMALL.edges, SMALL.edges))


@pytest.mark.parametrize("size", [0, SMALL.edges])
def test_circuits_without_edges_or_with_all_have_no_overlap(size: int) -> None:
    found = stability(planted(1.0, 10), SMALL, size, pruned=False, resamples=5)
    told = [found.jaccard.mean, found.jaccard.low, found.jaccard.high, found.chance]
    assert np.isnan(told).all()
    assert np.isfinite(found.spearman.mean)

    some = stability(planted(1.0, 10), SMALL, SMALL.edges - 1, pruned=False, resamples=5)
    assert np.isfinite([some.jaccard.mean, some.chance]).all()


def test_chance_is_what_random_sets_have() -> None:
    share = 0.05
    assert chance_jaccard(50, 50, 1000) == pytest.approx(share / (2 - share))
    rng = np.random.default_rng(0)
    drawn = [tuple(set(rng.permutation(1000)[:n].tolist()) for n in (80, 50)) for _ in range(2000)]
    mean = np.mean([len(a & b) / len(a | b) for a, b in drawn])
    assert chance_jaccard(80, 50, 1000) == pytest.approx(mean, abs=0.001)


def test_means_of_resamples_are_not_all_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 small, 32 documents, 200 resamples: together the means would be 52 MB."""
    monkeypatch.setattr(resampling, "CHUNK", 1 << 18)
    graph = Graph(Shape(12, 12, 12, 64, 768, 3072, 50257, False))
    scores = np.random.default_rng(0).normal(size=(32, *graph.exists.shape)).astype(np.float16)
    tracemalloc.start()
    edges = resampling.edge_scores(scores, graph)
    count = sum(1 for _ in resampling.resampled_means(edges, 200, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200
    assert peak < 12e6


def test_what_cannot_be_resampled() -> None:
    scores = planted(1.0)
    with pytest.raises(UserError, match="1 document can't be resampled"):
        stability(scores[:1], SMALL, 5)
    with pytest.raises(ValueError, match="expected \\[documents, "):
        stability(scores[0], SMALL, 5)
    with pytest.raises(ValueError, match="resamples=1: must be at least 2"):
        stability(scores, SMALL, 5, resamples=1)
    with pytest.raises(UserError, match="circuit size 9999"):
        stability(scores, SMALL, 9999, resamples=3)
    scores[3, 0, 0] = np.inf
    with pytest.raises(UserError, match="edge scores of document 3 \\(of 12, from 0\\) are NaN"):
        stability(scores, SMALL, 5)
