"""Seeds crossed with documents: exact answers, a naive implementation, simulated error rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import t

from sumcirc.statistics import crossed_difference, crossed_mean, holm
from sumcirc.statistics.seeds import mean_squares


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


def sample_variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def naive_margin(groups: list[np.ndarray], p: float) -> float:
    """The margin in plain sums; groups are subtracted from the first."""
    documents = groups[0].shape[1]
    squared = [t(len(group) - 1).ppf(1 - p / 2) ** 2 for group in groups]
    of_documents = t(documents - 1).ppf(1 - p / 2) ** 2
    runs = rest = 0.0
    for group, quantile in zip(groups, squared, strict=True):
        seeds = len(group)
        runs += quantile * sample_variance([sum(row) / documents for row in group]) / seeds
        total = sum(group[s, d] for s in range(seeds) for d in range(documents))
        left = 0.0
        for s, d in itertools.product(range(seeds), range(documents)):
            fitted = sum(group[s]) / documents + sum(group[:, d]) / seeds
            left += (group[s, d] - fitted + total / (seeds * documents)) ** 2
        rest += left / ((seeds - 1) * (documents - 1)) / (seeds * documents)
    signs = [1.0, *[-1.0] * (len(groups) - 1)]
    columns = [
        sum(sign * sum(group[:, d]) / len(group) for sign, group in zip(signs, groups, strict=True))
        for d in range(documents)
    ]
    by_document = of_documents * sample_variance(columns) / documents
    both = runs + by_document - min(*squared, of_documents) * rest
    return math.sqrt(max(runs, by_document, both))


# ---- known answers


@pytest.mark.parametrize("spread", [(0.0, 0.0, 1.0), (0.3, 0.5, 1.0), (2.0, 0.0, 1.0)])
@pytest.mark.parametrize(("seeds", "documents"), [((3, 3), 12), ((2, 5), 9), ((12, 10), 4)])
def test_the_margin_is_that_of_a_naive_implementation(
    spread: tuple[float, float, float], seeds: tuple[int, int], documents: int
) -> None:
    rng = np.random.default_rng(1)
    for shift in (0.0, 1.0, 30.0):
        a, b = (simulated(rng, count, documents, spread) for count in seeds)
        a += shift
        cases = [(crossed_mean(a, 0.9), [a]), (crossed_difference(a, b, False, 0.9), [a, b])]
        if seeds[0] == seeds[1]:
            cases.append((crossed_difference(a, b, True, 0.9), [a - b]))
        for found, groups in cases:
            margin = naive_margin(groups, 0.1)
            assert found.high - found.mean == pytest.approx(margin, rel=1e-9)
            assert found.mean - found.low == pytest.approx(margin, rel=1e-9)
            # the p-value is where the margin reaches the mean
            assert naive_margin(groups, found.p_value) == pytest.approx(abs(found.mean), rel=1e-6)


def test_a_table_worked_by_hand() -> None:
    """Seed means 2 and 4 (variance 2), document means 1, 3, 5 (variance 4), no rest."""
    found = crossed_mean(np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]]))
    seeds, documents = 2 / 2, 4 / 3
    half = (12.7062047**2 * seeds + 4.30265273**2 * documents) ** 0.5
    assert found.mean == 3
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert found.error == pytest.approx((seeds + documents) ** 0.5)
    assert (found.seeds, found.documents) == (2, 3)


def test_documents_alike_leave_the_t_test_over_seeds() -> None:
    from scipy.stats import ttest_1samp

    runs = np.array([0.31, 0.36, 0.29])
    found = crossed_mean(np.repeat(runs[:, None], 5, axis=1))
    known = ttest_1samp(runs, 0.0)
    assert (found.low, found.high) == pytest.approx(known.confidence_interval(0.95))
    assert found.p_value == pytest.approx(known.pvalue)


def test_one_seed_is_the_paired_t_test_over_documents() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 40))
    for paired in (True, False):
        found = crossed_difference(a, b, paired)
        known = ttest_rel(a[0], b[0])
        assert (found.low, found.high) == pytest.approx(known.confidence_interval(0.95))
        assert found.p_value == pytest.approx(known.pvalue)
        assert found.seeds == 1


def test_many_documents_leave_no_less_than_welchs_test_over_independent_seeds() -> None:
    """Each arm keeps its own degrees of freedom, where Welch gives both those of their sum."""
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.normal(size=(4, 1)), rng.normal(0.5, 2.0, size=(7, 1))
        found = crossed_difference(np.tile(a, 50), np.tile(b, 50), paired=False)
        known = ttest_ind(a[:, 0], b[:, 0], equal_var=False)
        assert known.pvalue <= found.p_value
        low, high = known.confidence_interval(0.95)
        assert high - low <= found.high - found.low <= 1.6 * (high - low)


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
        values = 0.5 + simulated(rng, 3, 20, (0.2, 0.5, 0.5))
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


def test_p_values_far_out_stay_in_order() -> None:
    noise = simulated(np.random.default_rng(9), 5, 30, (0.1, 0.0, 1.0))
    found = [crossed_mean(noise + 10.0**i).p_value for i in range(10)]
    assert all(0 < smaller < larger < 1 for larger, smaller in itertools.pairwise(found))
    # t with 4 degrees falls as the fourth power
    assert found[9] / found[8] == pytest.approx(1e-4, rel=0.01)


# ---- error rates


def share_below(p: float, means: np.ndarray, groups: list[np.ndarray], by: np.ndarray) -> float:
    """Share of data sets, the first axis, whose p-value is below `p`."""
    return float((means**2 > mean_squares(groups, by).squared_margin(p)).mean())


# the second is that of the degrees of freedom after Satterthwaite (see benchmarks/few_seeds.py),
# with which these tests would fail: 40 and 13 times the level instead of at most once
@pytest.mark.parametrize(
    ("seeds", "documents", "level", "satterthwaite"),
    [(2, 200, 1e-3, 0.046), (3, 40, 1e-3, 0.010), (3, 200, 1e-4, 0.0055)],
)
def test_equal_arms_are_seldom_called_different(
    seeds: int, documents: int, level: float, satterthwaite: float
) -> None:
    """No more than nominal, but for 3 standard errors of the count."""
    rng = np.random.default_rng(11)
    count = 10_000
    runs = 0.5 * rng.normal(size=(count, 2, seeds, 1))
    wrong = done = 0
    while done < count:
        many = min(1000, count - done)
        scores = runs[done : done + many] + rng.normal(size=(many, 2, seeds, documents))
        differences = scores[:, 0] - scores[:, 1]
        squares = mean_squares([differences], differences.mean(axis=-2))
        square = differences.mean(axis=(-2, -1)) ** 2
        wrong += int((square > squares.squared_margin(level)).sum())
        done += many
    allowed = count * level + 3 * (count * level) ** 0.5
    assert wrong <= allowed < 0.5 * count * satterthwaite


def test_the_vectorized_margin_is_that_of_the_p_value() -> None:
    rng = np.random.default_rng(12)
    scores = rng.normal(size=(30, 2, 3, 20)) + rng.normal(size=(30, 2, 3, 1))
    differences = scores[:, 0] - scores[:, 1]
    squares = mean_squares([differences], differences.mean(axis=-2))
    found = differences.mean(axis=(-2, -1)) ** 2 > squares.squared_margin(0.2)
    expected = [crossed_difference(a, b, paired=True).p_value < 0.2 for a, b in scores]
    assert list(found) == expected
    assert 0 < found.sum() < 30
    apart = mean_squares([scores[:, 0], scores[:, 1]], differences.mean(axis=-2))
    found = differences.mean(axis=(-2, -1)) ** 2 > apart.squared_margin(0.2)
    assert list(found) == [crossed_difference(a, b, False).p_value < 0.2 for a, b in scores]


@pytest.mark.parametrize("noisier", [1.0, 3.0])
@pytest.mark.parametrize("paired", [True, False])
def test_a_noisier_control_is_no_difference(paired: bool, noisier: float) -> None:
    """Runs matter most: what is pooled over arms would be wrong in 20 % of cases."""
    rng = np.random.default_rng(13)
    spread = np.array([1.0, noisier])[:, None, None]
    scores = spread * rng.normal(size=(20_000, 2, 3, 1)) + rng.normal(size=(20_000, 2, 3, 40))
    differences = scores[:, 0] - scores[:, 1]
    groups = [differences] if paired else [scores[:, 0], scores[:, 1]]
    means, by = differences.mean(axis=(-2, -1)), differences.mean(axis=-2)
    for level in (0.05, 0.01):
        found = share_below(level, means, groups, by)
        assert found <= level + 3 * (level / 20_000) ** 0.5
    if paired:
        assert share_below(0.05, means, groups, by) > 0.042


@pytest.mark.parametrize(
    ("spread", "seeds", "most"),
    [
        ((0.0, 1.0, 1.0), 3, 0.99),
        ((0.5, 1.0, 1.0), 3, 0.98),
        ((2.0, 0.0, 1.0), 2, 0.96),
        ((0.5, 1.0, 1.0), 10, 0.98),
    ],
)
def test_coverage(spread: tuple[float, float, float], seeds: int, most: float) -> None:
    """At least 95 %, but for 3 standard errors of 4,000 intervals."""
    rng = np.random.default_rng(10)
    scores = np.stack([simulated(rng, seeds, 60, spread) for _ in range(4000)])
    means, by = scores.mean(axis=(-2, -1)), scores.mean(axis=-2)
    assert 0.94 <= 1 - share_below(0.05, means, [scores], by) <= most


def test_a_family_of_equal_arms_seldom_has_one_that_differs() -> None:
    """Six arms, one of them noisier, all compared with one control."""
    rng = np.random.default_rng(14)
    spread = np.array([0.5, 1.5, 0.5, 0.5, 0.5, 0.5, 0.5])[:, None, None]
    wrong = 0
    for _ in range(600):
        control, *arms = spread * rng.normal(size=(7, 3, 1)) + rng.normal(size=(7, 3, 40))
        p_values = [crossed_difference(arm, control, paired=True).p_value for arm in arms]
        wrong += min(holm(p_values)) < 0.05
    assert wrong / 600 <= 0.06


def test_a_difference_that_is_large_beside_its_runs_is_found() -> None:
    """At 6.2 standard errors five seeds find 80 % of six comparisons, by the benchmark."""
    rng = np.random.default_rng(15)
    spread, count = 0.5, 4000
    error = (2 * (spread**2 / 5 + 1 / (5 * 40))) ** 0.5
    differences = 6.2 * error + 2**0.5 * (
        spread * rng.normal(size=(count, 5, 1)) + rng.normal(size=(count, 5, 40))
    )
    means, by = differences.mean(axis=(-2, -1)), differences.mean(axis=-2)
    assert 0.75 < share_below(0.05 / 6, means, [differences], by) < 0.85


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
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, 1.5])
