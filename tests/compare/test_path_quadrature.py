"""The adaptive rule on functions with known integrals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from sumcirc.compare.path.quadrature import (
    COARSE_WEIGHTS,
    FINE_WEIGHTS,
    NODES,
    POINTS,
    Goal,
    errors_of,
    integrate,
)


def test_rules_are_exact_for_polynomials() -> None:
    """Gauss-Legendre of 3 nodes up to degree 5, Kronrod of 7 up to degree 11, on [-1, 1]."""
    for weights, degree in ((COARSE_WEIGHTS, 5), (FINE_WEIGHTS, 11)):
        for power in range(degree + 1):
            expected = 2 / (power + 1) if power % 2 == 0 else 0.0
            assert weights @ POINTS**power == pytest.approx(expected, abs=1e-14)
        even = degree + 1
        assert abs(weights @ POINTS**even - 2 / (even + 1)) > 1e-6
    gauss = np.polynomial.legendre.leggauss(3)[0]
    np.testing.assert_allclose(POINTS[COARSE_WEIGHTS > 0], gauss, atol=1e-15)
    assert len(POINTS) == NODES


class Bent:
    """Two documents whose metric bends near 0, and two units that share its slope."""

    def __init__(self, sharpness: float, hidden: float = 0.0) -> None:
        self.sharpness, self.hidden = np.array([sharpness, 2 * sharpness]), hidden
        self.asked: list[float] = []

    def metric(self, amount: float) -> np.ndarray:
        return np.tanh(self.sharpness * amount)

    def slope(self, amount: float) -> np.ndarray:
        self.asked.append(amount)
        whole = self.sharpness / np.cosh(self.sharpness * amount) ** 2
        # what two units shift between them is not seen in their sum
        shifted = self.hidden * np.cos(40 * amount) * np.ones(2)
        return np.stack([0.3 * whole + shifted, 0.7 * whole - shifted], axis=1)


def test_nodes_lie_where_the_metric_bends() -> None:
    bent = Bent(100.0)
    found = integrate(bent.slope, bent.metric, slice(0, 2), 400)
    assert found.converged
    assert found.evaluations == len(bent.asked) == len(set(bent.asked))
    np.testing.assert_allclose(found.values[:, 0], 0.3 * bent.metric(1.0), atol=0.01)
    coarse = np.sum([one.coarse for one in found.panels], axis=0)
    errors = [np.abs(one.sum(1) - bent.metric(1.0)).max() for one in (found.values, coarse)]
    assert errors[0] < 0.1 * errors[1]
    assert np.mean(np.array(bent.asked) < 0.125) > 0.6
    ends = [(one.start, one.end) for one in found.panels]
    assert ends[0][0] == 0.0
    assert ends[-1][1] == 1.0
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    # the panel at 0 is divided at a quarter, so that no panel ends at twice its length
    assert 2 * ends[0][1] not in [end for _, end in ends]


def test_every_point_of_the_panels_is_counted() -> None:
    shown = []

    @contextmanager
    def counted(label: str, total: int) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        shown.append((total, sum(done)))

    bent = Bent(100.0)
    found = integrate(bent.slope, bent.metric, slice(0, 2), 400, counted)
    assert len(shown) > 1
    assert all(total == done for total, done in shown)
    assert sum(done for _, done in shown) == found.evaluations


def test_a_small_sum_error_is_not_convergence() -> None:
    """Units whose scores cancel in the sum are resolved too."""
    bent = Bent(1.0, hidden=3.0)
    few = integrate(bent.slope, bent.metric, slice(0, 2), 14)
    assert few.errors.total < 1e-3
    assert few.errors.unit > 0.02
    assert not few.converged
    many = integrate(bent.slope, bent.metric, slice(0, 2), 400)
    assert many.converged
    exact = 0.3 * bent.metric(1.0) + 3 * np.sin(40) / 40
    np.testing.assert_allclose(many.values[:, 0], exact, atol=0.01)


def test_the_worst_document_counts() -> None:
    bent = Bent(30.0)
    bent.sharpness = np.array([1.0, 300.0])
    few = integrate(bent.slope, bent.metric, slice(0, 2), 14)
    assert few.errors.document > 0.01
    gain = float((bent.metric(1.0) - bent.metric(0.0)).mean())
    assert errors_of(few.panels, gain, slice(0, 2)) == few.errors
    many = integrate(bent.slope, bent.metric, slice(0, 2), 400)
    sums = many.values.sum(1) - bent.metric(1.0)
    assert np.abs(sums).max() <= 0.01 * gain


def test_a_goal_says_what_errors_are_shares_of_and_how_large_they_may_be() -> None:
    bent, part = Bent(100.0), slice(0, 2)
    own = integrate(bent.slope, bent.metric, part, 400)
    gain = float(bent.metric(1.0).mean())
    whole = integrate(bent.slope, bent.metric, part, 400, goal=Goal(1000 * gain))
    assert whole.evaluations == 2 * NODES < own.evaluations
    assert whole.errors == errors_of(whole.panels, 1000 * gain, part)
    strict = integrate(bent.slope, bent.metric, part, 4000, goal=Goal(gain, allowed=0.01))
    assert strict.errors.size <= 0.01 < own.errors.size
    assert strict.evaluations > own.evaluations
    once = integrate(bent.slope, bent.metric, part, 400, goal=Goal(1000 * gain, first=(0.0, 1.0)))
    assert [(one.start, one.end) for one in once.panels] == [(0.0, 1.0)]
