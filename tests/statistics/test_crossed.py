"""Seeds crossed with documents: against exact answers, other formulas and simulated coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sumcirc.statistics import (
    crossed_bootstrap,
    crossed_bootstrap_difference,
    crossed_difference,
    crossed_mean,
    holm,
)


def simulated(
    rng: np.random.Generator, seeds: int, documents: int, spread: tuple[float, float, float]
) -> np.ndarray:
    """Scores of mean zero; `spread`: standard deviations of seeds, documents and the rest."""
    of_seed, of_document, rest = spread
    return (
        of_seed * rng.normal(size=(seeds, 1))
        + of_document * rng.normal(size=(1, documents))
        + rest * rng.normal(size=(seeds, documents))
    )


def sign_flips(values: np.ndarray) -> float:
    """Exact two-sided p-value of a mean of zero: all ways to flip signs."""
    flips = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    means = np.abs(flips @ values)
    return float((means >= abs(values.sum()) - 1e-12).mean())


# ---- known answers


def test_a_table_worked_by_hand() -> None:
    """Seed means 2 and 4 (variance 2), document means 1, 3, 5 (variance 4), no rest."""
    found = crossed_mean(np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]]))
    seeds, documents = 2 / 2, 4 / 3
    degrees = (seeds + documents) ** 2 / (seeds**2 / 1 + documents**2 / 2)
    assert found.mean == 3
    assert found.degrees == pytest.approx(degrees)
    from scipy.stats import t

    half = t(degrees).ppf(0.975) * (seeds + documents) ** 0.5
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert found.p_value == pytest.approx(2 * t(degrees).sf(3 / (seeds + documents) ** 0.5))
    assert found.seeds_vary


def test_documents_alike_leave_the_t_test_over_seeds() -> None:
    from scipy.stats import ttest_1samp

    runs = np.array([0.31, 0.36, 0.29])
    found = crossed_mean(np.repeat(runs[:, None], 5, axis=1))
    known = ttest_1samp(runs, 0.0)
    low, high = known.confidence_interval(0.95)
    assert (found.low, found.high, found.degrees) == pytest.approx((low, high, 2))
    assert found.p_value == pytest.approx(known.pvalue)


def test_one_seed_is_the_paired_t_test_over_documents() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 40))
    for paired in (True, False):
        found = crossed_difference(a, b, paired)
        known = ttest_rel(a[0], b[0])
        low, high = known.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high))
        assert found.p_value == pytest.approx(known.pvalue)
        assert not found.seeds_vary


def test_many_documents_leave_welchs_test_over_independent_seeds() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 1)), rng.normal(0.5, 2.0, size=(7, 1))
    found = crossed_difference(np.tile(a, 50), np.tile(b, 50), paired=False)
    known = ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    low, high = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(known.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8, 1.5])
def test_the_p_value_of_few_documents_is_near_the_permutation_test(shift: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        differences = rng.normal(shift, 1.0, size=(1, 12))
        found = crossed_mean(differences).p_value
        assert found == pytest.approx(sign_flips(differences[0]), abs=0.03)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8])
def test_the_p_value_of_several_seeds_is_near_the_permutation_of_seeds(shift: float) -> None:
    """Seeds dominate: flipping the sign of whole runs is the exact test."""
    rng = np.random.default_rng(6)
    for _ in range(5):
        differences = shift + simulated(rng, 11, 50, (1.0, 0.0, 0.3))
        found = crossed_mean(differences).p_value
        assert found == pytest.approx(sign_flips(differences.mean(axis=1)), abs=0.05)


def test_the_interval_leaves_out_zero_where_p_is_small() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        values = 0.3 + simulated(rng, 3, 20, (0.2, 0.5, 0.5))
        found = crossed_mean(values, 0.9)
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.1)


def test_what_pairing_takes_out() -> None:
    """Documents differ much, in both arms alike: only the difference knows."""
    rng = np.random.default_rng(8)
    hard = 10 * rng.normal(size=(1, 60))
    a, b = (hard + simulated(rng, 3, 60, (0.05, 0.0, 0.3)) + shift for shift in (0.5, 0.0))
    assert crossed_mean(a).high - crossed_mean(a).low > 4
    for paired in (True, False):
        found = crossed_difference(a, b, paired)
        assert found.high - found.low < 1
        assert found.low < 0.5 < found.high


def test_equal_arms_do_not_differ() -> None:
    a = simulated(np.random.default_rng(9), 3, 30, (1.0, 1.0, 1.0))
    found = crossed_difference(a, a, paired=True)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_constant_difference_is_certain() -> None:
    a = simulated(np.random.default_rng(9), 3, 30, (1.0, 1.0, 1.0))
    found = crossed_difference(a + 0.25, a, paired=True)
    assert found.p_value == 0
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))


# ---- simulations


@pytest.mark.parametrize(
    ("spread", "seeds", "least", "most"),
    [
        ((0.0, 1.0, 1.0), 3, 0.93, 0.97),
        ((0.1, 1.0, 1.0), 3, 0.93, 0.97),
        # two parts of like size, one with 2 degrees of freedom: the approximation's worst case
        ((0.5, 1.0, 1.0), 3, 0.90, 0.95),
        # no document effect: its estimate is cut at zero, which widens
        ((0.1, 0.0, 1.0), 3, 0.95, 0.995),
        ((0.5, 1.0, 1.0), 10, 0.93, 0.97),
    ],
)
def test_coverage(
    spread: tuple[float, float, float], seeds: int, least: float, most: float
) -> None:
    rng = np.random.default_rng(10)
    found = [crossed_mean(simulated(rng, seeds, 60, spread)) for _ in range(2000)]
    share = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert least <= share <= most


@pytest.mark.parametrize("paired", [True, False])
def test_arms_that_are_equal_seldom_differ(paired: bool) -> None:
    """Of equal arms at most some 8 % (3 seeds, worst case) are called different at 0.05."""
    rng = np.random.default_rng(11)
    p_values = []
    for _ in range(2000):
        documents = rng.normal(size=(1, 60))
        a, b = (documents + simulated(rng, 3, 60, (0.2, 0.0, 1.0)) for _ in range(2))
        p_values.append(crossed_difference(a, b, paired).p_value)
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.08


def test_a_family_of_equal_arms_seldom_has_one_that_differs() -> None:
    rng = np.random.default_rng(12)
    wrong = 0
    for _ in range(400):
        control = simulated(rng, 4, 40, (0.1, 0.0, 1.0))
        arms = [simulated(rng, 4, 40, (0.1, 0.0, 1.0)) for _ in range(6)]
        p_values = [crossed_difference(arm, control, paired=True).p_value for arm in arms]
        wrong += min(holm(p_values)) < 0.05
    assert wrong / 400 <= 0.075


def test_the_bootstrap_is_too_narrow_for_three_seeds_and_right_for_many() -> None:
    def coverage(seeds: int) -> float:
        rng = np.random.default_rng(13)
        found = []
        for _ in range(300):
            low, high = crossed_bootstrap(simulated(rng, seeds, 60, (1.0, 1.0, 1.0)), 300)
            found.append(low <= 0 <= high)
        return float(np.mean(found))

    assert coverage(3) < 0.85
    assert coverage(25) > 0.91


def test_the_bootstrap_resamples_both_factors() -> None:
    """Its spread is that of Owen's formula: seeds and documents once, the rest three times."""
    rng = np.random.default_rng(14)
    scores = simulated(rng, 40, 40, (1.0, 1.0, 1.0))
    low, high = crossed_bootstrap(scores, 4000)
    expected = 2 * 1.96 * (1 / 40 + 1 / 40 + 3 / 1600) ** 0.5
    assert high - low == pytest.approx(expected, rel=0.25)
    alike = np.tile(rng.normal(size=(1, 40)), (3, 1))
    assert np.ptp(crossed_bootstrap(alike)) == pytest.approx(
        np.ptp(crossed_bootstrap(alike[:1])), rel=0.1
    )


def test_the_bootstrap_of_a_difference_draws_the_same_documents() -> None:
    rng = np.random.default_rng(15)
    hard = 10 * rng.normal(size=(1, 60))
    a, b = (hard + simulated(rng, 5, 60, (0.05, 0.0, 0.3)) + shift for shift in (0.5, 0.0))
    for paired in (True, False):
        low, high = crossed_bootstrap_difference(a, b, paired)
        assert low < 0.5 < high
        assert high - low < 0.5


# ---- Holm


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def stepwise(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's own words: go on rejecting the smallest until one exceeds alpha over what is left."""
    rejected = [False] * len(p_values)
    left = set(range(len(p_values)))
    while left:
        least = min(left, key=lambda place: p_values[place])
        if p_values[least] > alpha / len(left):
            break
        rejected[least] = True
        left.remove(least)
    return rejected


def test_holm_is_the_stepwise_procedure() -> None:
    rng = np.random.default_rng(16)
    for _ in range(200):
        p_values = list(rng.uniform(size=rng.integers(1, 9)) ** 3)
        for alpha in (0.01, 0.05, 0.3):
            corrected = holm(p_values)
            assert [p <= alpha for p in corrected] == stepwise(p_values, alpha)


# ---- what can't be asked


def test_refusals() -> None:
    with pytest.raises(ValueError, match="2 or more documents"):
        crossed_mean(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="documents"):
        crossed_mean(np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        crossed_mean(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="confidence"):
        crossed_mean(np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="paired"):
        crossed_difference(np.zeros((2, 3)), np.zeros((3, 3)), paired=True)
    with pytest.raises(ValueError, match="paired"):
        crossed_difference(np.zeros((2, 3)), np.zeros((2, 4)), paired=False)
    with pytest.raises(ValueError, match="resamples"):
        crossed_bootstrap(np.zeros((2, 2)), 0)
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, 1.5])
