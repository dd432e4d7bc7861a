from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import f_oneway

from sumcirc.placement import variance
from sumcirc.placement.variance import anova, spread_test
from tests.support.landscapes import draw

SPREADS = (0.3, 0.2, 1.0, 0.4, 0.3, 0.5)
NAMES = ("sets", "seeds", "documents", "set x seed", "set x document", "seed x document", "rest")


def sums_of_squares(scores: np.ndarray) -> dict[str, tuple[float, int]]:
    """Residual sums of squares of nested linear models, fitted by least squares on dummies."""
    cells = list(itertools.product(*map(range, scores.shape)))
    flat = np.array([scores[cell] for cell in cells])

    def dummies(axes: tuple[int, ...]) -> np.ndarray:
        keys = [tuple(cell[axis] for axis in axes) for cell in cells]
        levels = sorted(set(keys))
        return np.array([[float(key == level) for level in levels] for key in keys])

    def residual(*blocks: tuple[int, ...]) -> tuple[float, int]:
        design = np.hstack([np.ones((len(cells), 1)), *(dummies(axes) for axes in blocks)])
        fit, _, rank, _ = np.linalg.lstsq(design, flat, rcond=None)
        return float(((flat - design @ fit) ** 2).sum()), int(rank)

    main = [(0,), (1,), (2,)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    found = {}
    for name, axes in zip(NAMES[:3], main, strict=True):
        found[name] = residual(*(other for other in main if other != axes)), residual(*main)
    for name, axes in zip(NAMES[3:6], pairs, strict=True):
        others = [other for other in pairs if other != axes]
        found[name] = residual(*main, *others), residual(*main, *pairs)
    result = {name: (less[0] - more[0], more[1] - less[1]) for name, (less, more) in found.items()}
    whole = residual(*pairs)
    return {**result, "rest": (whole[0], len(cells) - whole[1])}


def test_mean_squares_equal_those_of_least_squares() -> None:
    scores = draw([0.0, 0.5, -0.3, 0.2], seeds=3, documents=5, rng=3)
    found = anova(scores)
    for name, (square, degrees) in sums_of_squares(scores).items():
        assert found.sources[name].degrees == degrees
        assert found.sources[name].mean_square == pytest.approx(square / degrees)


def test_components_solve_the_expected_mean_squares() -> None:
    sets, seeds, documents = 5, 4, 7
    found = anova(draw([0.0] * sets, seeds=seeds, documents=documents, rng=1)).sources
    v = {name: source.component for name, source in found.items()}
    ms = {name: source.mean_square for name, source in found.items()}
    shared = v["rest"]
    assert ms["set x seed"] == pytest.approx(shared + documents * v["set x seed"])
    assert ms["set x document"] == pytest.approx(shared + seeds * v["set x document"])
    assert ms["seed x document"] == pytest.approx(shared + sets * v["seed x document"])
    between = documents * v["set x seed"]
    across = seeds * v["set x document"]
    along = sets * v["seed x document"]
    assert ms["seeds"] == pytest.approx(shared + between + along + sets * documents * v["seeds"])
    assert ms["documents"] == pytest.approx(shared + across + along + sets * seeds * v["documents"])
    q = v["sets"] * sets / (sets - 1)
    assert ms["sets"] == pytest.approx(shared + between + across + seeds * documents * q)


def test_components_are_unbiased() -> None:
    means = np.linspace(-0.5, 0.5, 6)
    rng = np.random.default_rng(5)
    drawn = [anova(draw(means, seeds=3, documents=12, rng=rng)).sources for _ in range(600)]
    true = dict(zip(NAMES[1:], (0.3, 1.0, 0.2, 0.4, 0.3, 0.5), strict=True))
    for name, spread in true.items():
        values = np.array([one[name].component for one in drawn])
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - spread**2) < 4 * error, name
    values = np.array([one["sets"].component for one in drawn])
    assert abs(values.mean() - means.var()) < 4 * values.std() / math.sqrt(len(values))


def test_shares_are_of_the_variance_of_a_runs_mean() -> None:
    """Compare with many simulated draws of a set, a seed and documents."""
    rng = np.random.default_rng(2)
    means = np.array([-0.4, -0.1, 0.1, 0.4])
    run_means = [
        draw([rng.choice(means)], seeds=1, documents=20, rng=rng).mean() for _ in range(20000)
    ]
    shares = [anova(draw(means, seeds=4, documents=20, rng=rng)).shares for _ in range(400)]
    total = np.mean([sum(one.values()) for one in shares])
    assert total == pytest.approx(np.var(run_means), rel=0.06)


def test_the_test_of_sets_is_the_ordinary_one_where_nothing_is_shared() -> None:
    """With one document in effect and sets alone, F is that of a two-way layout."""
    scores = draw([0.0, 1.0, 0.4], seeds=6, documents=1, rng=4)
    found = anova(np.concatenate([scores, scores], axis=2))
    left = scores[:, :, 0] - scores[:, :, 0].mean(axis=0)
    ratio, _ = f_oneway(*left)
    # without seeds' effect, f_oneway has sets x (seeds - 1) degrees of freedom for the error
    assert found.sources["sets"].f == pytest.approx(float(ratio) * 10 / 15)
    assert found.sources["sets"].error_degrees == 10


def test_errors_of_the_tests_are_at_their_level() -> None:
    rng = np.random.default_rng(0)
    found = [
        anova(draw([0.0] * 10, seeds=3, documents=15, spreads=SPREADS, rng=rng)).sources
        for _ in range(600)
    ]
    assert np.mean([one["sets"].p_value < 0.05 for one in found]) < 0.08
    still = (0.3, 0.0, 1.0, 0.4, 0.3, 0.5)
    found = [
        anova(draw([0.0] * 10, seeds=3, documents=15, spreads=still, rng=rng)).sources
        for _ in range(600)
    ]
    assert 0.025 < np.mean([one["set x seed"].p_value < 0.05 for one in found]) < 0.08


def test_an_interaction_is_tested_exactly() -> None:
    found = anova(draw([0.0] * 4, seeds=3, documents=6, rng=8)).sources
    source, rest = found["set x seed"], found["rest"]
    ratio = source.mean_square / rest.mean_square
    assert source.f == pytest.approx(ratio)
    assert source.p_value == pytest.approx(f_distribution.sf(ratio, 6, 30))


def test_noise_is_the_variance_of_contrasts() -> None:
    rng = np.random.default_rng(7)
    weights = np.array([1.0, -0.5, -0.5, 0.0])
    values, noises = [], []
    for _ in range(3000):
        scores = draw([0.0] * 4, seeds=3, documents=10, rng=rng)
        values.append(weights @ scores.mean(axis=(1, 2)))
        squares = anova(scores).squares
        noises.append((weights**2).sum() * squares.error / squares.count)
    assert np.mean(noises) == pytest.approx(np.var(values), rel=0.08)


def test_one_seed_speaks_of_documents_only() -> None:
    scores = draw([0.0, 0.3, 0.6, 0.1], seeds=1, documents=30, rng=1)
    found = anova(scores)
    assert set(found.sources) == {"sets", "documents", "rest"}
    assert math.isnan(found.shares["seed"])
    # the paired comparison of two sets, without pooling: as large on average
    differences = [a - b for a, b in itertools.combinations(scores[:, 0], 2)]
    expected = np.mean([one.var(ddof=1) / 30 for one in differences]) / 2
    assert found.noise.variance == pytest.approx(expected)


def test_scores_without_any_variation_have_no_test() -> None:
    found = anova(np.ones((4, 3, 9)))
    assert math.isnan(found.sources["sets"].f)
    assert found.reliability == 0.0
    assert found.shares == {"choice": 0.0, "seed": 0.0, "documents": 0.0}


def test_a_set_whose_runs_vary_more_is_found() -> None:
    rng = np.random.default_rng(0)
    scores = draw([0.0] * 20, seeds=3, documents=30, rng=rng)
    _, alike = spread_test(scores)
    assert alike > 0.05
    scores[7] += np.array([-3.0, 0.0, 3.0])[:, None]
    spreads, p_value = spread_test(scores)
    assert p_value < 0.001
    assert spreads.argmax() == 7
    assert spreads[7] == pytest.approx(3.0, rel=0.3)


def test_orthonormal_contrasts() -> None:
    found = variance.orthonormal(7)
    assert found.shape == (6, 7)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
