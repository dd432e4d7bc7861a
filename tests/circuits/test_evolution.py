"""Circuits over training: sets by hand, resampling by loops, and what counts as change."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import circuit_nodes, prune, top_n
from sumcirc.circuits.edge_sums import node_names
from sumcirc.circuits.evolution import Evolution, evolution
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape

SMALL = Graph(Shape(2, 2, 2, 8, 16, 64, 100, False))
PLACES = {name: (row, column) for name, row, column in SMALL.edge_names()}


def noiseless(*circuits: list[str]) -> list[tuple[int, NDArray[np.float64]]]:
    """Checkpoints whose circuits are known: all documents give these edges 1, the others 0."""
    checkpoints = []
    for step, names in enumerate(circuits):
        scores = np.zeros((3, *SMALL.exists.shape))
        for name in names:
            scores[(slice(None), *PLACES[name])] = 1.0
        checkpoints.append((100 * step, scores))
    return checkpoints


def truth(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=SMALL.exists.shape) ** 3


def noisy(mean: NDArray[np.float64], seed: int, noise: float = 1.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return mean + noise * rng.normal(size=(16, *mean.shape))


BASE = ["input->m0", "m0->logits", "input->a0.h1<q>", "a0.h1->logits"]
THEN = ["input->m0", "m0->logits", "input->a1.h0<k>", "a1.h0->logits"]
LAST = ["input->m0", "m0->logits", "input->a1.h0<v>", "a1.h0->logits"]


def by_hand() -> Evolution:
    return evolution(noiseless(BASE, THEN, LAST), SMALL, 4, resamples=4)


def test_overlaps_and_change_rates_by_hand() -> None:
    found = by_hand()
    assert found.steps == [0, 100, 200]
    edges, nodes = found.edges, found.nodes
    assert edges.size.tolist() == [4, 4, 4]
    np.testing.assert_allclose(edges.to_first.jaccard, [1, 2 / 6, 2 / 6])
    np.testing.assert_allclose(edges.to_previous.jaccard, [np.nan, 2 / 6, 3 / 5])
    np.testing.assert_allclose(edges.to_last.jaccard, [2 / 6, 3 / 5, 1])
    assert edges.changed.tolist() == [0, 4, 2]
    assert edges.change_rate.tolist() == [0, 100, 50]
    assert edges.total_change_rate == 150
    # nodes: input, m0, logits and one head
    assert nodes.size.tolist() == [4, 4, 4]
    np.testing.assert_allclose(nodes.to_first.jaccard, [1, 3 / 5, 3 / 5])
    assert nodes.changed.tolist() == [0, 2, 0]
    assert nodes.total_change_rate == 50
    share = 4 / SMALL.edges
    np.testing.assert_allclose(edges.to_first.chance, share / (2 - share))


def test_without_noise_every_difference_is_one() -> None:
    found = by_hand()
    for track in (found.edges, found.nodes):
        assert (track.within == 1).all()
        assert (track.to_first.low == track.to_first.jaccard).all()
    assert found.edges.to_first.differs.tolist() == [False, True, True]
    assert found.edges.to_previous.differs.tolist() == [False, True, True]
    assert found.edges.to_last.differs.tolist() == [True, True, False]
    assert found.nodes.to_previous.differs.tolist() == [False, True, False]


def test_where_change_sits() -> None:
    first, second = by_hand().transitions
    assert (first.step, first.next_step, second.step, second.next_step) == (0, 100, 100, 200)
    added, removed = np.zeros((3, 3)), np.zeros((3, 3))
    added[0, 1] = 1  # input -> a1.h0<k>
    added[2, 2] = 1  # a1.h0 -> logits
    removed[0, 0] = 1  # input -> a0.h1<q>
    removed[1, 2] = 1  # a0.h1 -> logits
    assert (first.added_by_layer == added).all()
    assert (first.removed_by_layer == removed).all()
    kinds = first.added_by_kind - first.removed_by_kind
    assert kinds.tolist() == [[-1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert first.added_by_kind[1, 4] == first.removed_by_kind[1, 4] == 1
    assert (second.added_by_kind[0, 2], second.removed_by_kind[0, 1]) == (1, 1)
    assert not first.noise_by_layer.any()


def jaccard(one: set[Any], two: set[Any]) -> float:
    return len(one & two) / len(one | two)


def sets_of(mean: NDArray[np.float64]) -> dict[str, set[Any]]:
    kept = prune(top_n(mean, SMALL, 20), SMALL)
    nodes = np.array(node_names(SMALL))[circuit_nodes(kept, SMALL)]
    return {"edges": set(map(tuple, np.argwhere(kept).tolist())), "nodes": set(nodes.tolist())}


@pytest.mark.parametrize("name", ["edges", "nodes"])
def test_against_a_loop_over_resamples(name: str) -> None:
    checkpoints = [(step, noisy(truth(step), step)) for step in (0, 1, 2)]
    found = evolution(checkpoints, SMALL, 20, resamples=12, confidence=0.9, seed=5)
    drawn = np.random.default_rng(5).multinomial(16, [1 / 16] * 16, 12)
    resampled = [
        [sets_of(np.repeat(scores, times, axis=0).mean(axis=0))[name] for times in drawn]
        for _, scores in checkpoints
    ]
    whole = [sets_of(scores.mean(axis=0))[name] for _, scores in checkpoints]
    within = [[jaccard(a, b) for a, b in combinations(sets, 2)] for sets in resampled]
    track = getattr(found, name)
    np.testing.assert_allclose(track.within, [np.mean(values) for values in within])
    bounds = [np.quantile([1 - v for v in values], 0.9) for values in within]
    others = {"to_first": [0, 0, 0], "to_previous": [None, 0, 1], "to_last": [2, 2, 2]}
    for attribute, places in others.items():
        comparison = getattr(track, attribute)
        for i, place in enumerate(places):
            if place is None:
                assert np.isnan(comparison.jaccard[i])
                assert not comparison.differs[i]
                continue
            value, bound = jaccard(whole[i], whole[place]), max(bounds[i], bounds[place])
            both = [jaccard(a, b) for a, b in zip(resampled[i], resampled[place], strict=True)]
            assert comparison.jaccard[i] == pytest.approx(value)
            assert comparison.bound[i] == pytest.approx(bound)
            assert comparison.low[i] == pytest.approx(np.quantile(both, 0.05))
            assert comparison.high[i] == pytest.approx(np.quantile(both, 0.95))
            assert comparison.differs[i] == (1 - value > bound + 1e-12)
    assert track.changed.tolist() == [0, *(len(a ^ b) for a, b in pairwise(whole))]


def test_noise_by_layer_and_kind() -> None:
    scores = noisy(truth(0), 0)
    found = evolution([(0, scores), (1, noisy(truth(1), 1, 0.0))], SMALL, 20, resamples=9, seed=2)
    drawn = np.random.default_rng(2).multinomial(16, [1 / 16] * 16, 9)
    sets = [sets_of(np.repeat(scores, times, axis=0).mean(axis=0))["edges"] for times in drawn]
    counts = [
        sum(1 for row, column in a ^ b if row == 0 and column == len(SMALL.destinations) - 1)
        for a, b in pairwise(sets)
    ]
    transition = found.transitions[0]
    assert transition.noise_by_layer[0, -1] == pytest.approx(np.quantile(counts, 0.95))
    assert transition.noise_by_kind[0, -1] == transition.noise_by_layer[0, -1]


def test_the_same_model_on_other_documents_has_not_changed() -> None:
    """The rule's false alarms: two samples of one truth, many times over."""
    alarms = [
        evolution(
            [(0, noisy(truth(seed), 2 * seed)), (1, noisy(truth(seed), 2 * seed + 1))],
            SMALL,
            20,
            resamples=40,
        ).edges.to_first.differs[1]
        for seed in range(40)
    ]
    assert np.mean(alarms) <= 0.1


def test_another_model_has() -> None:
    found = evolution([(0, noisy(truth(0), 0)), (1, noisy(truth(1), 0))], SMALL, 20, resamples=40)
    assert found.edges.to_first.differs.tolist() == [False, True]


def test_documents_of_other_number_give_no_paired_bounds() -> None:
    scores = noisy(truth(0), 0)
    found = evolution([(-1, scores), (5, scores[:9])], SMALL, 20, resamples=5)
    assert np.isnan(found.edges.to_first.low).tolist() == [False, True]
    assert np.isfinite(found.edges.to_first.jaccard).all()


def test_a_single_checkpoint_and_an_empty_circuit() -> None:
    found = evolution([(-1, noisy(truth(0), 0))], SMALL, 0, resamples=5)
    assert found.transitions == []
    assert np.isnan([found.edges.to_first.jaccard, found.edges.to_first.chance]).all()
    assert np.isnan(found.edges.within).all()
    assert not found.edges.to_first.differs.any()
    assert np.isnan(found.edges.total_change_rate)


def test_what_cannot_be_followed() -> None:
    scores = noisy(truth(0), 0)
    with pytest.raises(UserError, match="there are none"):
        evolution([], SMALL, 5)
    with pytest.raises(UserError, match="step 5 comes after step 5"):
        evolution([(5, scores), (5, scores)], SMALL, 5, resamples=2)
    with pytest.raises(UserError, match="can't be resampled"):
        evolution([(5, scores[:1])], SMALL, 5)
    with pytest.raises(ValueError, match="confidence="):
        evolution([(5, scores)], SMALL, 5, confidence=1.0)
