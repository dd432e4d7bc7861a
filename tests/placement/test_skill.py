from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from sumcirc.placement.skill import plug_in_skill, skill, split_best, weights_of
from sumcirc.placement.variance import anova
from tests.support.landscapes import draw

SMALL = (0.1, 0.1, 0.5, 0.1, 0.1, 0.2)
NONE = (0.1, 0.0, 0.5, 0.0, 0.1, 0.0)


def one(place: int, count: int) -> np.ndarray:
    return weights_of([place], count)


def test_skill_by_its_definition() -> None:
    means = np.array([0.1, 0.5, 0.9, 0.3])
    assert plug_in_skill(means, one(2, 4)) == pytest.approx(1.0)
    assert plug_in_skill(means, one(1, 4)) == pytest.approx(0.05 / 0.45)
    assert plug_in_skill(means, np.full(4, 0.25)) == pytest.approx(0.0)
    assert plug_in_skill(means, weights_of([1, 2, 2], 4)) == pytest.approx((0.05 + 0.9) / 3 / 0.45)
    assert math.isnan(plug_in_skill(np.ones(4), one(0, 4)))


def test_the_average_over_random_draws_is_zero() -> None:
    means = np.random.default_rng(0).normal(size=20)
    assert np.mean([plug_in_skill(means, one(a, 20)) for a in range(20)]) == pytest.approx(0)


def test_without_noise_the_interval_is_the_skill() -> None:
    means = np.random.default_rng(0).normal(size=6)
    scores = draw(means, spreads=NONE)
    for place in range(6):
        found = skill(scores.mean(axis=(1, 2)), one(place, 6), anova(scores).noise)
        assert found.low == pytest.approx(found.skill, abs=0.12 * max(1, abs(found.skill)))
        assert found.low <= found.skill <= found.high <= 1
        assert found.high - found.low < 0.011 or found.skill < -5


def test_nothing_is_known_where_no_set_differs() -> None:
    scores = draw([0.0] * 8, spreads=SMALL, rng=3)
    means = scores.mean(axis=(1, 2))
    found = skill(means, one(int(np.argsort(means)[4]), 8), anova(scores).noise)
    assert found.low == -math.inf
    assert found.high == 1


def test_by_naive_loops() -> None:
    """The same interval from the rejection rule, written out for each value and set."""
    from scipy.special import stdtrit

    from sumcirc.statistics.multiple import dunnett_quantile

    scores = draw([0.0, 0.2, 0.5, 0.9, 1.0], spreads=SMALL, rng=5)
    means, noise = scores.mean(axis=(1, 2)), anova(scores).noise
    centred = means - means.mean()
    single = noise.margin(lambda f: float(-stdtrit(f, 0.025)))
    every = noise.margin(lambda f: dunnett_quantile(5, f, 0.025))
    for place in (2, 3, 4):
        kept = []
        for x in np.linspace(-1.0, 1.0, 401):
            values, norms = [], []
            for j in range(5):
                weights = np.zeros(5)
                weights[place] += 1
                weights[j] -= x
                weights -= (1 - x) / 5
                values.append(centred[place] - x * centred[j])
                norms.append(math.sqrt((weights**2).sum()))
            pairs = list(zip(values, norms, strict=True))
            if x >= 0:
                above = all(v > single * n + 1e-12 for v, n in pairs)
                below = any(v < -every * n - 1e-12 for v, n in pairs)
            else:
                above = any(v > every * n + 1e-12 for v, n in pairs)
                below = all(v < -single * n - 1e-12 for v, n in pairs)
            if not above and not below:
                kept.append(x)
        found = skill(means, one(place, 5), noise)
        if kept[0] > -1:
            assert found.low == pytest.approx(kept[0], abs=0.011)
        assert found.high == pytest.approx(kept[-1], abs=0.011)


@pytest.mark.parametrize("place", [0, 4, 7])
def test_intervals_cover(place: int) -> None:
    rng = np.random.default_rng(place)
    true = np.array([-0.2, 0.0, 0.0, 0.05, 0.1, 0.1, 0.2, 0.25])
    value = plug_in_skill(true, one(place, 8))
    found = []
    for _ in range(250):
        scores = draw(true, documents=20, spreads=SMALL, rng=rng)
        found.append(skill(scores.mean(axis=(1, 2)), one(place, 8), anova(scores).noise))
    assert np.mean([interval.low <= value <= interval.high for interval in found]) > 0.92


def test_a_split_by_naive_loops() -> None:
    """Every division of seeds and documents of a tiny landscape, each in both directions."""
    scores = draw([0.0, 0.1, 0.2], seeds=2, documents=4, rng=1)
    regrets, gains = [], []
    for rows in ([0], [1]):
        for columns in combinations(range(4), 2):
            other = [d for d in range(4) if d not in columns]
            choose = scores[:, rows][:, :, list(columns)].mean(axis=(1, 2))
            check = scores[:, [1 - rows[0]]][:, :, other].mean(axis=(1, 2))
            best = int(choose.argmax())
            regrets.append(check[best] - check)
            gains.append(check[best] - check.mean())
    found = split_best(scores, splits=6_000)
    np.testing.assert_allclose(found.regret, np.mean(regrets, axis=0), atol=0.03)
    assert found.gain == pytest.approx(np.mean(gains), abs=0.03)
    assert found.of_seeds


def test_regret_lies_between_the_split_and_the_plug_in() -> None:
    rng = np.random.default_rng(0)
    true = np.linspace(0, 0.2, 10)
    low, high = [], []
    for _ in range(150):
        scores = draw(true, documents=20, spreads=SMALL, rng=rng)
        means = scores.mean(axis=(1, 2))
        low.append(split_best(scores, splits=12).regret[4])
        high.append(means.max() - means[4])
    regret = true.max() - true[4]
    assert np.mean(low) < regret < np.mean(high)


def test_one_seed_is_not_split() -> None:
    scores = draw([0.0, 0.5], seeds=1, documents=9, rng=1)
    assert not split_best(scores, splits=10).of_seeds
