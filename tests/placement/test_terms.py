from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sumcirc.placement.landscape import all_sets
from sumcirc.placement.terms import (
    bases,
    effects,
    membership,
    predictions,
    terms,
    unit_effects,
)
from sumcirc.placement.variance import anova
from tests.support.landscapes import draw, measured

SETS = all_sets(6, 3)
QUIET = (0.3, 0.0, 1.0, 0.0, 0.3, 0.0)  # what all sets share; the means are exact


def pair_function(rng: np.random.Generator) -> np.ndarray:
    """A sum over the pairs in each set."""
    values = {pair: rng.normal() for pair in combinations(range(6), 2)}
    return np.array([sum(values[pair] for pair in combinations(chosen, 2)) for chosen in SETS])


def test_dimensions_are_those_of_the_johnson_scheme() -> None:
    assert [len(basis) for basis in bases(SETS, 6)] == [1, 5, 9, 5]
    assert [len(basis) for basis in bases(all_sets(6, 2), 6)] == [1, 5, 9]
    assert [len(basis) for basis in bases(all_sets(7, 5), 7)] == [1, 6, 14]
    assert [len(basis) for basis in bases(all_sets(5, 1), 5)] == [1, 4]
    whole = np.vstack(bases(SETS, 6))
    np.testing.assert_allclose(whole @ whole.T, np.eye(20), atol=1e-10)


def test_terms_are_the_steps_of_regressions() -> None:
    """Sums of squares that pairs explain beyond layers, by least squares on indicators."""
    means = np.random.default_rng(0).normal(size=20)
    found = {term.name: term for term in terms(measured(draw(means, spreads=QUIET)))}
    explained = []
    for order in (0, 1, 2, 3):
        columns = [
            [float(set(part) <= set(chosen)) for chosen in SETS]
            for part in combinations(range(6), order)
        ]
        design = np.array(columns).T
        fit, *_ = np.linalg.lstsq(design, means, rcond=None)
        explained.append(((design @ fit) ** 2).sum())
    for name, part in zip(("layers", "pairs", "triples"), np.diff(explained), strict=True):
        assert found[name].variance == pytest.approx(part / 20)
    assert found["beyond layers"].variance == pytest.approx(
        found["pairs"].variance + found["triples"].variance
    )


def test_parts_add_up_to_the_variance_of_choice() -> None:
    scores = draw(np.random.default_rng(1).normal(size=20), rng=2)
    parts = terms(measured(scores))
    assert [term.degrees for term in parts] == [5, 9, 5, 14]
    assert sum(term.variance for term in parts[:3]) == pytest.approx(
        anova(scores).sources["sets"].component
    )


def test_layers_that_add_up_have_no_other_terms() -> None:
    means = membership(SETS, 6) @ np.array([0.0, 1.0, -1.0, 0.5, 0.2, 0.0])
    layers, pairs, triples, beyond = terms(measured(draw(means, spreads=QUIET)))
    assert layers.variance == pytest.approx(means.var())
    for term in (pairs, triples, beyond):
        assert term.variance == pytest.approx(0, abs=1e-12)


def test_noise_is_removed_from_terms_although_similar_sets_share_it() -> None:
    """Layers interact with documents: the noise of sets that share layers is correlated."""
    rng = np.random.default_rng(3)
    inside = membership(SETS, 6)
    estimates = []
    for _ in range(300):
        scores = draw([0.0] * 20, documents=20, spreads=(0, 0, 0, 0, 0, 0.2), rng=rng)
        scores += (inside @ rng.normal(size=(6, 20)))[:, None]
        scores += (inside @ (0.3 * rng.normal(size=(6, 3))))[:, :, None]
        estimates.append([term.variance for term in terms(measured(scores))])
    means, errors = np.mean(estimates, axis=0), np.std(estimates, axis=0) / 300**0.5
    assert (np.abs(means) < 4 * errors).all()
    # the term of layers has nearly all of the noise: by pooled noise it would be above zero
    assert errors[0] > 10 * errors[2]


def test_a_layers_effect_is_the_mean_with_it_less_the_mean_without() -> None:
    scores = draw(np.random.default_rng(1).normal(size=20), rng=2)
    found = effects(measured(scores))
    for layer, effect in enumerate(found):
        with_it = [scores[i].mean() for i, chosen in enumerate(SETS) if layer in chosen]
        without = [scores[i].mean() for i, chosen in enumerate(SETS) if layer not in chosen]
        assert effect.effect == pytest.approx(np.mean(with_it) - np.mean(without))
        assert effect.low < effect.effect < effect.high
    assert sum(effect.effect for effect in found) == pytest.approx(0, abs=1e-12)


def test_intervals_of_effects_cover_and_p_values_agree() -> None:
    rng = np.random.default_rng(4)
    covered, agreeing = [], []
    for _ in range(200):
        found = effects(measured(draw([0.0] * 20, documents=20, rng=rng)))
        covered += [one.low <= 0 <= one.high for one in found]
        # Holm's smallest p-value is six times the p-value of the interval
        least = max(found, key=lambda one: abs(one.effect))
        agreeing.append(least.p_value >= 0.3 or not least.low <= 0 <= least.high)
    assert np.mean(covered) > 0.93
    assert all(agreeing)


def test_reliability_is_high_without_noise_and_low_without_effects() -> None:
    means = membership(SETS, 6) @ np.arange(6.0)
    assert unit_effects(measured(draw(means, rng=0)))[1] > 0.99
    values = [unit_effects(measured(draw([0.0] * 20, rng=i)))[1] for i in range(40)]
    assert np.median(values) < 0.4


def test_predictions_remove_the_noise_of_what_is_left_out() -> None:
    """Additive means: with noise, the error is that of the fitted slopes, known in closed form."""
    rng = np.random.default_rng(6)
    means = membership(SETS, 6) @ rng.normal(size=6)
    quiet = measured(draw(means, spreads=QUIET, rng=rng))
    for one in predictions(quiet, anova(quiet.scores).noise, subsets=50):
        assert one.additive == pytest.approx(0, abs=1e-7)
        assert one.mean > 0.3
    inside, variance, squared, expected = membership(SETS, 6), 0.04, [], []
    for trial in range(60):
        scores = draw(means, seeds=4, documents=25, spreads=(0, 0, 0, 0, 0, 2.0), rng=rng)
        found = measured(scores)
        (one,) = predictions(found, anova(scores).noise, sizes=[12], subsets=40)
        squared.append(one.additive**2)
        kept = np.sort(np.random.default_rng(trial).permutation(20)[:12])
        left = np.setdiff1d(np.arange(20), kept)
        hat = inside[left] @ np.linalg.pinv(inside[kept])
        expected.append(variance * (hat**2).sum(axis=1).mean())
    assert np.mean(squared) == pytest.approx(np.mean(expected), rel=0.25)


def test_all_choices_are_used_where_they_are_few() -> None:
    found = measured(draw(np.arange(5.0), spreads=QUIET), layers=5, size=1)
    assert predictions(found, anova(found.scores).noise, sizes=[4]) == []  # a layer is never seen
    found = measured(draw(np.arange(20.0), spreads=QUIET))
    (one,) = predictions(found, anova(found.scores).noise, sizes=[18])
    assert one.subsets == 190


def test_pairs_are_not_predicted_by_layers() -> None:
    rng = np.random.default_rng(0)
    means = pair_function(rng)
    found = measured(draw(means, spreads=QUIET))
    (one,) = predictions(found, anova(found.scores).noise, sizes=[16], subsets=300)
    rest = np.sqrt(terms(found)[1].variance)
    assert one.additive > rest
