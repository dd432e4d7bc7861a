"""Intervals and tests against theory and against loops that anyone can check."""

from __future__ import annotations

import itertools
import sys
from subprocess import run

import numpy as np
import pytest

from sumcirc.statistics import (
    MIN_DOCUMENTS,
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_ratios,
    bracketed,
    excludes_zero,
    share_below_zero,
    significantly_different,
)
from sumcirc.statistics import intervals as documents

NAN = float("nan")


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
    monkeypatch.setattr(documents, "_CHUNK", chunk)
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


@pytest.mark.parametrize("size", [1, 2, MIN_DOCUMENTS - 1])
def test_few_values_have_no_interval(size: int) -> None:
    values = np.linspace(0.0, 1.0, size)
    found = bootstrap_mean(values)
    assert (found.mean, found.n) == (values.mean(), size)
    ratios = bootstrap_ratios(1 + values, 2 + values)
    share = share_below_zero(values[None] - 0.5)
    means = bootstrap_means(values)
    ends = (found.low, found.high, share.low, share.high, *means[1:], *ratios[1:])
    assert np.isnan(ends).all()


def test_enough_values_have_an_interval() -> None:
    values = np.linspace(0.0, 1.0, MIN_DOCUMENTS)
    found = bootstrap_mean(values)
    assert 0 < found.low < found.mean < found.high < 1
    equal = bootstrap_mean([0.5] * MIN_DOCUMENTS, 10)
    assert equal == Interval(0.5, 0.5, 0.5, MIN_DOCUMENTS)


def test_a_mean_is_written_with_the_interval_that_it_has() -> None:
    assert bracketed(0.5, 0.25, 0.75, ".2f") == "0.50 [0.25, 0.75]"
    assert bracketed(0.5, NAN, NAN, "+.1f") == "+0.5"
    assert bracketed(0.5, None, None, ".1f") == "0.5"
    assert bracketed(NAN, NAN, NAN, ".1f") == "-"


def test_an_interval_that_is_not_there_excludes_nothing() -> None:
    assert excludes_zero(0.1, 0.2)
    assert excludes_zero(-0.2, -0.1)
    assert not excludes_zero(-0.1, 0.2)
    assert not excludes_zero(NAN, NAN)


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


# ---- many rows at once


@pytest.mark.parametrize("chunk", [1, 200, 1 << 20])
def test_every_row_is_what_bootstrap_mean_says_of_its_defined_values(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    values = rng.exponential(size=(4, 5, 11))
    values[rng.random(values.shape) < 0.2] = NAN
    values[1, 1] = rng.normal(size=11)  # one row without NaN at least
    expected = [
        bootstrap_mean(row[~np.isnan(row)], 60, 0.8, seed=3) for row in values.reshape(20, 11)
    ]
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    mean, low, high = bootstrap_means(values, 60, 0.8, seed=3)
    assert mean.shape == low.shape == high.shape == (4, 5)
    for found, name in ((mean, "mean"), (low, "low"), (high, "high")):
        oracle = [getattr(interval, name) for interval in expected]
        np.testing.assert_allclose(found.ravel(), oracle, rtol=1e-12)


def test_a_vector_gives_numbers_equal_to_bootstrap_mean() -> None:
    values = np.random.default_rng(9).normal(size=40).astype(np.float32)
    expected = bootstrap_mean(values)
    for found, oracle in zip(
        bootstrap_means(values), (expected.mean, expected.low, expected.high), strict=True
    ):
        assert found.shape == ()
        assert float(found) == pytest.approx(oracle, rel=1e-12)


def test_rows_without_spread_or_values_have_no_interval() -> None:
    mean, low, high = bootstrap_means(
        np.tile([[1.0, NAN], [NAN, NAN], [1.0, 3.0], [np.inf, 1.0], [np.inf, -np.inf]], 4)
    )
    np.testing.assert_array_equal(mean, [1.0, NAN, 2.0, np.inf, NAN])
    np.testing.assert_array_equal(np.isnan(low), [True, True, False, True, True])
    np.testing.assert_array_equal(np.isnan(high), np.isnan(low))
    for empty in (np.empty((3, 0)), np.empty((0, 3))):
        assert [part.shape for part in bootstrap_means(empty)] == [empty.shape[:1]] * 3


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_share_is_counted_anew_in_every_resample(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    rng = np.random.default_rng(10)
    differences = rng.normal(-0.1, 0.4, size=(3, 4, 9))
    differences[0, 0, :7] = NAN
    differences[0, 1] = NAN
    differences[..., 4] = NAN  # a document of which nothing is known is no document
    kept = np.delete(differences, 4, axis=-1)
    draws = np.random.default_rng(2)
    shares = []
    for _ in range(80):
        chosen = draws.integers(8, size=8)
        means = [
            np.mean(defined)
            for row in kept.reshape(12, 8)
            if len(defined := [row[i] for i in chosen if not np.isnan(row[i])])
        ]
        shares.append(np.mean(np.array(means) < 0))
    low, high = np.quantile(shares, [0.1, 0.9])
    found = share_below_zero(differences, 80, 0.8, seed=2)
    whole = [np.nanmean(row) for row in kept.reshape(12, 8) if not np.isnan(row).all()]
    assert found.mean == pytest.approx(np.mean(np.array(whole) < 0), abs=1e-12)
    assert (found.low, found.high) == (
        pytest.approx(low, rel=1e-12),
        pytest.approx(high, rel=1e-12),
    )
    assert found.n == 8


def test_share_of_rows_that_move_together_is_uncertain() -> None:
    """Three quarters of the rows follow the same documents: one sign decides them all."""
    rng = np.random.default_rng(11)
    common = rng.normal(size=20)
    common -= common.mean()
    together = np.tile(common, (30, 1)) - 1e-3
    clear = np.full((10, 20), 1.0)
    found = share_below_zero(np.concatenate([together, clear]))
    assert (found.low, found.mean, found.high) == (0.0, 0.75, 0.75)


def test_share_with_too_few_documents_and_infinite_values() -> None:
    alone = share_below_zero(np.array([[-1.0], [2.0], [0.0], [-3.0]]))
    assert (alone.mean, alone.n) == (0.5, 1)
    assert np.isnan([alone.low, alone.high]).all()
    nothing = share_below_zero(np.full((2, 3), NAN))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
    assert nothing.n == 0
    assert share_below_zero(np.array([[-np.inf, 1.0], [-1.0, -1.0]])).mean == 1.0


def signed_rank_p(values: np.ndarray) -> float:
    """Two-sided p-value by going through all signs; no ties."""
    values = values[~np.isnan(values) & (values != 0)]
    if not len(values):
        return 1.0
    ranks = [1 + sum(abs(other) < abs(value) for other in values) for value in values]
    centre = sum(ranks) / 2
    found = abs(sum(r for r, v in zip(ranks, values, strict=True) if v > 0) - centre)
    all_signs = list(itertools.product((0, 1), repeat=len(ranks)))
    extreme = sum(
        abs(sum(r * s for r, s in zip(ranks, signs, strict=True)) - centre) >= found
        for signs in all_signs
    )
    return extreme / len(all_signs)


def benjamini_hochberg(p_values: list[float], alpha: float) -> list[bool]:
    count = len(p_values)
    cut = max(
        (p for i, p in enumerate(sorted(p_values), start=1) if p <= alpha * i / count),
        default=-1.0,
    )
    return [p <= cut for p in p_values]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_significant_rows_are_those_of_all_signs_and_a_step_up_loop(alpha: float) -> None:
    rng = np.random.default_rng(12)
    differences = rng.normal(size=(5, 6, 9)) + rng.choice([0.0, -0.8, 1.5], size=(5, 6, 1))
    differences[2, 3, :4] = NAN
    differences[3, 1, 2] = 0.0
    differences[4, 4] = 0.0
    expected = benjamini_hochberg([signed_rank_p(row) for row in differences.reshape(30, 9)], alpha)
    found = significantly_different(differences, alpha)
    assert found.shape == (5, 6)
    assert found.ravel().tolist() == expected
    assert 0 < sum(expected) < 30
    # what can't be tested changes nothing, not even the number of tests
    untested = np.full((40, 9), NAN)
    untested[:20, 0] = 5.0
    more = significantly_different(np.concatenate([differences.reshape(30, 9), untested]), alpha)
    assert more.tolist() == expected + [False] * 40


def test_false_discoveries_are_held_and_true_ones_are_found() -> None:
    rng = np.random.default_rng(13)
    true = np.arange(300) < 60
    false_share, power = [], []
    for _ in range(40):
        differences = rng.standard_t(5, size=(300, 24)) - 1.2 * true[:, None]
        found = significantly_different(differences, alpha=0.1)
        false_share.append((found & ~true).sum() / max(found.sum(), 1))
        power.append(found[true].mean())
    # expected: alpha times the share of true nulls, 0.08; standard error 0.006 over the trials
    assert 0.055 < np.mean(false_share) < 0.1
    assert np.mean(power) > 0.9


def test_documents_bound_what_can_be_significant() -> None:
    """The least p-value of n documents is 2 / 2^n."""
    falls = -np.arange(1.0, 7.0)
    assert significantly_different(falls[None]).all()  # 2/64
    assert not significantly_different(falls[None, :5]).any()  # 2/32
    assert significantly_different(np.tile(falls, (100, 1))).all()
    rows = np.zeros((100, 6))
    rows[:50] = falls
    assert not significantly_different(rows).any()  # 2/64 > 0.05 * 50/100
    assert not significantly_different(np.array([[-1.0], [-2.0]])).any()
    assert significantly_different(np.zeros((2, 3, 0))).shape == (2, 3)
    assert significantly_different(np.empty((0, 4))).shape == (0,)


def test_a_long_row_of_many_documents_uses_the_normal_distribution() -> None:
    rng = np.random.default_rng(14)
    rows = rng.normal(size=(2, 400)) + np.array([[0.0], [0.5]])
    assert significantly_different(rows, 0.01).tolist() == [False, True]


@pytest.mark.parametrize("function", [bootstrap_means, share_below_zero])
def test_arrays_refuse_the_same_settings(function) -> None:
    with pytest.raises(ValueError, match="resamples=0"):
        function(np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match=r"confidence=1\.5"):
        function(np.ones((2, 3)), 10, 1.5)
    with pytest.raises(ValueError, match="last axis"):
        function(np.float64(1.0))


def test_refuses_an_alpha_out_of_range() -> None:
    with pytest.raises(ValueError, match="alpha=0"):
        significantly_different(np.ones((2, 3)), 0)


def test_scipy_is_left_out_until_it_is_needed() -> None:
    script = "import sys, sumcirc.statistics; sys.exit('scipy' in sys.modules)"
    assert (
        run([sys.executable, "-c", script], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
    )
