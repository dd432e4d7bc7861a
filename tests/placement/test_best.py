from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from sumcirc.placement.best import rank_sets, ranks_of, with_the_best
from sumcirc.placement.variance import anova
from sumcirc.statistics.multiple import dunnett_quantile, range_quantile
from tests.support.landscapes import draw

SMALL = (0.1, 0.2, 0.5, 0.2, 0.1, 0.3)


@pytest.mark.parametrize(
    ("means", "degrees", "level", "value"),
    # C. W. Dunnett (1955), tables 1a and 1b: one-sided, by number of treatments and degrees
    [(3, 10, 0.05, 2.15), (10, 20, 0.05, 2.60), (10, 10**6, 0.05, 2.42), (3, 10, 0.01, 3.11)],
)
def test_quantiles_of_dunnett_are_those_of_his_tables(
    means: int, degrees: int, level: float, value: float
) -> None:
    assert dunnett_quantile(means, degrees, level) == pytest.approx(value, abs=0.006)


@pytest.mark.parametrize(
    ("means", "degrees", "level", "value"),
    # E. S. Pearson and H. O. Hartley, Biometrika Tables for Statisticians 1 (1966), table 29
    [(3, 10, 0.05, 3.88), (10, 20, 0.05, 5.01), (10, 10**6, 0.05, 4.47), (3, 10, 0.01, 5.27)],
)
def test_quantiles_of_the_studentized_range_are_those_of_tables(
    means: int, degrees: int, level: float, value: float
) -> None:
    assert math.sqrt(2) * range_quantile(means, degrees, level) == pytest.approx(value, abs=0.006)


def test_two_means_need_no_correction() -> None:
    assert dunnett_quantile(2, 7, 0.05) == pytest.approx(student.ppf(0.95, 7))
    assert range_quantile(2, 7, 0.05) == pytest.approx(student.ppf(0.975, 7))


@pytest.mark.parametrize("degrees", [3, 38, 10**6])
def test_quantile_of_dunnett_against_simulation(degrees: int) -> None:
    rng = np.random.default_rng(degrees)
    z = rng.normal(size=(200_000, 6))
    spread = np.sqrt(rng.chisquare(degrees, 200_000) / degrees)
    largest = (z[:, 1:] - z[:, :1]).max(axis=1) / (spread * math.sqrt(2))
    assert np.mean(largest > dunnett_quantile(6, degrees, 0.05)) == pytest.approx(0.05, abs=0.0025)


@pytest.mark.parametrize("arguments", [(1, 5, 0.05), (3, 0, 0.05), (3, 5, 0.0), (3, 5, 0.6)])
def test_quantiles_out_of_range_are_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        dunnett_quantile(*arguments)


def test_hsus_intervals_by_their_definition() -> None:
    scores = draw(np.linspace(0, 1, 8), spreads=SMALL, rng=1)
    means = scores.mean(axis=(1, 2))
    found = with_the_best(means, anova(scores).noise)
    candidates = [
        a
        for a in range(8)
        if all(means[a] - means[b] + found.margin > 0 for b in range(8) if b != a)
    ]
    assert list(np.flatnonzero(found.candidates)) == candidates
    assert 1 <= len(candidates) < 8
    for a in range(8):
        upper = max(0.0, min(means[a] - means[b] + found.margin for b in range(8) if b != a))
        assert found.high[a] == pytest.approx(upper)
        rivals = [b for b in candidates if b != a]
        lower = min([0.0, *(means[a] - means[b] - found.margin for b in rivals)])
        assert found.low[a] == pytest.approx(lower)


def test_a_clear_winner_is_alone() -> None:
    scores = draw([0.0, 0.1, 5.0], spreads=SMALL, rng=1)
    found = with_the_best(scores.mean(axis=(1, 2)), anova(scores).noise)
    assert list(found.candidates) == [False, False, True]
    assert found.low[2] == 0
    assert found.high[0] == 0


def test_equal_scores_without_noise_are_all_the_best() -> None:
    scores = np.full((4, 3, 9), 0.1)
    found = with_the_best(scores.mean(axis=(1, 2)), anova(scores).noise)
    assert found.candidates.all()


def test_intervals_against_the_best_cover_all_at_once() -> None:
    rng = np.random.default_rng(2)
    true = np.array([0.0, 0.0, 0.05, 0.1, 0.1, 0.12, 0.2, 0.2])
    others = np.array([np.delete(true, a).max() for a in range(8)])
    covered = []
    for _ in range(300):
        scores = draw(true, documents=20, spreads=SMALL, rng=rng)
        found = with_the_best(scores.mean(axis=(1, 2)), anova(scores).noise)
        against = true - others
        covered.append(bool(((found.low <= against) & (against <= found.high)).all()))
    assert np.mean(covered) > 0.92


def test_ranks_by_their_definition_and_their_coverage() -> None:
    rng = np.random.default_rng(3)
    true = np.array([0.0, 0.1, 0.2, 0.4, 0.8])
    ranks = ranks_of(true)
    assert list(ranks) == [5, 4, 3, 2, 1]
    covered = []
    for _ in range(300):
        scores = draw(true, documents=20, spreads=SMALL, rng=rng)
        means = scores.mean(axis=(1, 2))
        found = rank_sets(means, anova(scores).noise)
        for a in range(5):
            better = sum(means[b] - means[a] > found.margin for b in range(5))
            worse = sum(means[a] - means[b] > found.margin for b in range(5))
            assert (found.low[a], found.high[a]) == (1 + better, 5 - worse)
        covered.append(bool(((found.low <= ranks) & (ranks <= found.high)).all()))
    assert np.mean(covered) > 0.93


def test_equal_means_share_the_best_rank() -> None:
    assert list(ranks_of(np.array([1.0, 2.0, 2.0, 0.0]))) == [3, 1, 1, 4]
