"""Relaxed and exact sets of units, against finite differences and against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from sumcirc.statistics.relaxed_top_k import exact_set, relaxed_set, score_gradient

COUNT = 7


def drawn(equal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and weights that add up to 1."""
    draw = np.random.default_rng(3)
    weights = np.ones(COUNT) if equal else draw.uniform(0.2, 1, COUNT)
    return draw.normal(size=COUNT), weights / weights.sum()


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("budget", [0.1, 0.3, 0.71, 0.95])
def test_the_mask_adds_up_to_the_budget(equal: bool, budget: float) -> None:
    scores, weights = drawn(equal)
    mask = relaxed_set(scores, weights, budget, 0.5)
    fit = weights <= budget
    if fit.any():
        assert mask @ weights == pytest.approx(min(budget, weights[fit].sum()), abs=1e-12)
    assert (mask[~fit] == 0).all()
    if fit.all():
        assert (np.argsort(mask) == np.argsort(scores)).all()


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("budget", [0.16, 0.3, 0.8])
def test_its_gradient_is_that_of_finite_differences(equal: bool, budget: float) -> None:
    scores, weights = drawn(equal)
    by_mask = np.random.default_rng(8).normal(size=COUNT)
    mask = relaxed_set(scores, weights, budget, 0.4)
    found = score_gradient(mask, by_mask, weights, budget, 0.4)
    step = 1e-6
    for unit in range(COUNT):
        moved = np.zeros(COUNT)
        moved[unit] = step
        more, less = (
            by_mask @ relaxed_set(scores + sign * moved, weights, budget, 0.4) for sign in (1, -1)
        )
        assert found[unit] == pytest.approx((more - less) / (2 * step), abs=1e-8)


def test_a_cold_mask_is_the_top_k() -> None:
    scores, weights = drawn(equal=True)
    for k in range(COUNT + 1):
        mask = relaxed_set(scores, weights, k / COUNT, 1e-3)
        best = np.argsort(-scores)[:k]
        np.testing.assert_allclose(mask[best], 1, atol=1e-6)
        assert mask.sum() == pytest.approx(k, abs=1e-6)
        assert exact_set(np.argsort(-scores), weights, k / COUNT) == best.tolist()


def test_all_units_have_no_gradient() -> None:
    scores, weights = drawn(equal=False)
    mask = relaxed_set(scores, weights, 1.0, 0.5)
    assert (mask == 1).all()
    assert not score_gradient(mask, scores, weights, 1.0, 0.5).any()


def test_units_that_do_not_fit_are_left_out() -> None:
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    order = np.arange(4)
    assert exact_set(order, weights, 0.4) == [1, 3]  # 0.3, then 0.15 would be too much
    assert exact_set(order, weights, 0.5) == [0]
    assert exact_set(order, weights, 0.04) == []
    assert exact_set(order, weights, 1.0) == [0, 1, 2, 3]
    assert relaxed_set(np.zeros(4), weights, 0.4, 0.5)[0] == 0
