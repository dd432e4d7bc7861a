"""Ranks over resamples against a plain loop, and where there is nothing to rank."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from sumcirc.statistics import MIN_DOCUMENTS, rank_interval
from sumcirc.statistics.ranks import spearman

NAN = float("nan")


def test_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 9)) + np.array([0.0, 0.4, 0.5, -1.0, 0.4])[:, None]
    values[2, 4] = NAN
    found = rank_interval(values, resamples=300, confidence=0.9, seed=3)
    draws = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), 300)
    ranks, leads = [], np.zeros(5)
    for draw in draws:
        chosen = np.repeat(np.arange(9), draw)
        means = np.nanmean(values[:, chosen], axis=1)
        ranks.append([1 + sum(other > mean for other in means) for mean in means])
        leads[np.argmax(means)] += 1 / 300
    np.testing.assert_allclose(found.first, leads)
    np.testing.assert_allclose(found.low, np.quantile(ranks, 0.05, axis=0))
    np.testing.assert_allclose(found.high, np.quantile(ranks, 0.95, axis=0))
    order = np.argsort(-np.nanmean(values, axis=1))
    assert found.rank[order].tolist() == [1, 2, 3, 4, 5]


def test_a_row_that_is_always_ahead_is_first_for_sure() -> None:
    noise = np.random.default_rng(0).normal(size=8)
    found = rank_interval(np.stack([noise, noise + 0.1, noise - 0.1]))
    assert found.rank.tolist() == [2, 1, 3]
    assert found.first.tolist() == [0, 1, 0]
    assert found.low.tolist() == found.high.tolist() == [2, 1, 3]


def test_equal_rows_share_the_first_place() -> None:
    found = rank_interval(np.tile(np.random.default_rng(0).normal(size=8), (4, 1)))
    assert found.rank.tolist() == [1, 2, 3, 4]
    assert found.first.tolist() == [0.25] * 4
    assert (found.low.tolist(), found.high.tolist()) == ([1] * 4, [4] * 4)


def test_undefined_rows_come_last() -> None:
    found = rank_interval(np.tile([[NAN, NAN, NAN], [-5.0, -6.0, NAN], [NAN, 1.0, 2.0]], 3))
    assert found.rank.tolist() == [3, 2, 1]
    assert found.first[0] < 0.05  # resamples in which all others are undefined too


@pytest.mark.parametrize("documents", [0, 1, MIN_DOCUMENTS - 1])
def test_few_documents_say_nothing_of_other_documents(documents: int) -> None:
    found = rank_interval(np.arange(3.0)[:, None].repeat(documents, 1))
    assert np.isnan([found.low, found.high, found.first]).all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="rows of documents"):
        rank_interval(np.zeros(3))
    with pytest.raises(ValueError, match="resamples=0"):
        rank_interval(np.zeros((2, 3)), resamples=0)


def test_rank_correlation_as_scipy_computes_it() -> None:
    one, other = np.random.default_rng(2).integers(6, size=(2, 3, 9)).astype(float)
    expected = [spearmanr(a, b)[0] for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(spearman(one, other), expected, atol=1e-12)
    assert np.isnan(spearman(one[0], np.ones(9)))
