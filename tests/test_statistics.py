"""Bootstrap intervals against theory and against a loop that anyone can check."""

from __future__ import annotations

import numpy as np
import pytest

from sumcirc import statistics
from sumcirc.statistics import Interval, bootstrap_difference, bootstrap_mean


def naive_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(
        [
            np.mean([values[i] for i in rng.integers(len(values), size=len(values))])
            for _ in range(resamples)
        ]
    )


@pytest.mark.parametrize("chunk", [1, 70, 1 << 20])
def test_equals_a_naive_loop_whatever_the_chunk(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_CHUNK", chunk)
    values = np.random.default_rng(5).exponential(size=33)
    means = naive_means(values, resamples=200, seed=7)
    low, high = np.quantile(means, [0.05, 0.95])
    found = bootstrap_mean(values, resamples=200, confidence=0.9, seed=7)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (found.low, found.high) == (
        pytest.approx(low, rel=1e-12),
        pytest.approx(high, rel=1e-12),
    )
    assert found.n == 33


def test_width_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = bootstrap_mean(values, resamples=20_000, confidence=0.95, seed=1)
    error = values.std() / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.06 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.06 * error)


def test_interval_covers_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(2)
    trials = 400
    hits = 0
    for trial in range(trials):
        found = bootstrap_mean(rng.normal(1.0, 1.0, size=60), 400, 0.9, seed=trial)
        hits += found.low <= 1.0 <= found.high
    # Binomial standard error 0.015; the percentile interval itself is some 0.01 too narrow here.
    assert 0.84 < hits / trials < 0.945


def test_wider_for_more_confidence_and_same_for_the_same_seed() -> None:
    values = np.random.default_rng(3).normal(size=50)
    narrow, wide = (bootstrap_mean(values, 500, confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap_mean(values, 500, 0.5) == narrow
    assert bootstrap_mean(values, 500, 0.5, seed=1) != narrow


def test_paired_difference_cancels_what_items_share() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.normal(0, 10, size=200)
    b = difficulty + rng.normal(0, 0.5, size=200)
    a = difficulty + 0.5 + rng.normal(0, 0.5, size=200)
    found = bootstrap_difference(a, b, 1000, 0.95, seed=0)
    assert found == bootstrap_mean(a - b, 1000, 0.95, seed=0)
    assert 0.3 < found.low < 0.5 < found.high < 0.75
    alone = bootstrap_mean(a, 1000, 0.95, seed=0)
    assert alone.high - alone.low > 5 * (found.high - found.low)


def test_one_value_and_equal_values() -> None:
    assert bootstrap_mean([0.25]) == Interval(0.25, 0.25, 0.25, 1)
    assert bootstrap_mean([0.5, 0.5, 0.5], 10) == Interval(0.5, 0.5, 0.5, 3)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")], [float("inf")]])
def test_refuses_what_has_no_mean(values: list) -> None:
    with pytest.raises(ValueError, match=r"non-empty|NaN"):
        bootstrap_mean(values)


def test_refuses_pairs_of_different_length() -> None:
    with pytest.raises(ValueError, match="paired"):
        bootstrap_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("resamples", "confidence", "setting"),
    [(0, 0.95, "resamples=0"), (10, 1.0, "confidence=1.0")],
)
def test_refuses_settings_out_of_range(resamples: int, confidence: float, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        bootstrap_mean([1.0], resamples, confidence)
