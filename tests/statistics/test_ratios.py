"""Shares of a mean with their intervals, against a loop that anyone can check."""

from __future__ import annotations

import numpy as np
import pytest

from sumcirc.statistics import bootstrap_ratios
from sumcirc.statistics import intervals as documents


def naive(
    values: np.ndarray, whole: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(resamples):
        chosen = rng.integers(len(whole), size=len(whole))
        above, below = sum(values[i] for i in chosen), sum(whole[i] for i in chosen)
        if below != 0:
            shares.append(above / below)
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return sum(values) / sum(whole), float(low), float(high)


@pytest.mark.parametrize("chunk", [1, 70, 1 << 20])
def test_equals_a_naive_loop_whatever_the_chunk(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_CHUNK", chunk)
    draw = np.random.default_rng(1)
    values, whole = draw.normal(size=(2, 3, 17)), draw.normal(1.0, 1.0, size=17)
    found = bootstrap_ratios(values, whole, resamples=150, confidence=0.9, seed=3)
    assert [one.shape for one in found] == [(2, 3)] * 3
    for place in np.ndindex(2, 3):
        expected = naive(values[place], whole, 150, 0.9, 3)
        assert [one[place] for one in found] == pytest.approx(expected, rel=1e-9)


def test_the_whole_itself_is_one_and_a_document_without_a_gap_weighs_nothing() -> None:
    whole = np.array([1.0, 2.0, 0.0, 4.0, 3.0, 2.0, 1.0, 5.0])
    for found in zip(*bootstrap_ratios(np.stack([whole, 2 * whole]), whole), strict=True):
        assert found in (pytest.approx((1, 1, 1)), pytest.approx((2, 2, 2)))
    # the mean of ratios would be infinite
    mean, low, high = bootstrap_ratios(whole + 7 * (whole == 0), whole)
    assert mean == pytest.approx(25 / 18)
    assert low < mean < high


def test_a_resample_without_a_gap_counts_for_nothing() -> None:
    values, whole = np.tile(5.0, 8), np.array([0.0] * 5 + [2.0] * 3)
    found = bootstrap_ratios(values, whole, resamples=400, confidence=0.9, seed=2)
    expected = naive(values, whole, 400, 0.9, 2)
    assert [float(one) for one in found] == pytest.approx(expected)


def test_a_whole_that_may_be_zero_has_no_shares() -> None:
    """Its interval includes zero, so that of a ratio would have no end."""
    noise, signal = np.array([1.0, -1.0] * 8), np.array([3.0, 1.0] * 8)
    for values in (noise, signal):
        assert np.isnan(bootstrap_ratios(values, noise + 0.1)).all()
        assert np.isfinite(bootstrap_ratios(values, signal)).all()
    # of few documents nothing is known of the interval
    assert np.isfinite(bootstrap_ratios(signal[:6], noise[:6] + 0.1)[0])


def test_a_whole_within_rounding_has_no_shares() -> None:
    whole = np.full(3, 1e-7)
    assert np.isnan(bootstrap_ratios(whole, whole, rounding=2e-7)[0])
    assert bootstrap_ratios(whole, whole, rounding=5e-8)[0] == pytest.approx(1)


@pytest.mark.parametrize("whole", [[0.0, 0.0, 0.0], [1.0, -3.0, 2.0]])
def test_a_whole_that_sums_to_zero_has_no_shares(whole: list[float]) -> None:
    found = bootstrap_ratios(np.ones((2, 3)), np.array(whole))
    assert np.isnan(found).all()


def test_one_document_has_no_interval() -> None:
    mean, low, high = bootstrap_ratios(np.array([[1.0], [3.0]]), np.array([2.0]))
    assert mean.tolist() == [0.5, 1.5]
    assert np.isnan([low, high]).all()


def test_no_row_is_no_share() -> None:
    found = bootstrap_ratios(np.empty((0, 4)), np.ones(4))
    assert [one.shape for one in found] == [(0,)] * 3


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        (np.ones((2, 3)), np.ones(2)),
        (np.ones((2, 3)), np.ones((1, 3))),
        (np.ones((2, 0)), np.ones(0)),
        (np.ones(3), np.array([1.0, np.nan, 1.0])),
        (np.array([1.0, np.inf, 1.0]), np.ones(3)),
        (np.float64(1.0), np.ones(1)),
    ],
)
def test_refuses_what_has_no_share(values: np.ndarray, whole: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"whole: shape|NaN or infinite|got a number"):
        bootstrap_ratios(values, whole)


@pytest.mark.parametrize(("resamples", "confidence"), [(0, 0.9), (10, 0.0), (10, 1.0)])
def test_refuses_settings_out_of_range(resamples: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"resamples=|confidence="):
        bootstrap_ratios(np.ones(3), np.ones(3), resamples, confidence)
