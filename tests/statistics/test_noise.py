"""Noise is accepted no more often than the level says, and a planted signal is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from sumcirc.statistics.noise import ALPHA, difference_p_value, sign_flip_p_values

DRAWS, TRIALS = 199, 400


def drawn(kind: str, rng: np.random.Generator, rows: int, documents: int) -> np.ndarray:
    shape = (rows, documents)
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "skewed":
        return rng.exponential(size=shape)
    if kind == "unequal":  # some layers are noisier than others
        return rng.normal(size=shape) * np.linspace(0.2, 2, rows)[:, None]
    return rng.normal(size=shape) + 5 * rng.normal(size=(1, documents))  # documents in common


@pytest.mark.parametrize("documents", [8, 32])
@pytest.mark.parametrize("kind", ["normal", "skewed", "unequal", "common"])
def test_noise_passes_as_rarely_as_the_level_says(kind: str, documents: int) -> None:
    rng = np.random.default_rng(1)
    passed = sum(
        difference_p_value(drawn(kind, rng, 12, documents), DRAWS, seed) <= ALPHA
        for seed in range(TRIALS)
    )
    # 5 % of 400 are 20, with a standard deviation of 4.4
    assert passed <= 34


@pytest.mark.parametrize("documents", [8, 32])
def test_a_layer_that_stands_out_is_not_noise(documents: int) -> None:
    rng = np.random.default_rng(2)
    refused = 0
    for seed in range(100):
        values = rng.normal(size=(12, documents))
        values[3] += 8 / documents**0.5  # standard errors
        refused += difference_p_value(values, DRAWS, seed) > ALPHA
    assert refused <= 8


def test_p_is_one_of_nothing_and_has_a_least_value() -> None:
    assert difference_p_value(np.zeros((3, 9))) == 1
    assert difference_p_value(np.tile(np.arange(9.0), (3, 1))) == 1  # all rows alike
    assert difference_p_value(np.repeat([[1.0], [2.0], [4.0]], 40, 1)) == pytest.approx(0.001)


def test_the_unit_and_what_rows_have_in_common_do_not_matter() -> None:
    values = np.random.default_rng(3).normal(0.3, size=(4, 12))
    assert difference_p_value(values) == difference_p_value(1e6 * values + np.arange(12))


@pytest.mark.parametrize("count", [5, 20])
def test_flipped_signs_as_scipy_flips_them(count: int) -> None:
    """Five values have 32 flips, all of which are made; of twenty some are drawn."""
    rows = np.random.default_rng(0).normal(0.4, 1.0, (4, count))
    rows[1] = 0.0
    rows[2, 2:] = 0.0
    found = sign_flip_p_values(rows)
    for row, value in zip(rows, found, strict=True):
        expected = permutation_test(
            (row,),
            np.mean,
            permutation_type="samples",
            alternative="greater",
            n_resamples=9999,
            random_state=1,
        )
        close = 1e-12 if count == 5 else 0.02
        assert value == pytest.approx(expected.pvalue, abs=close)
    assert found[1] == 1
    assert sign_flip_p_values(np.ones((1, 5)))[0] == 1 / 32
    assert sign_flip_p_values(-np.ones((1, 5)))[0] == 1
    assert sign_flip_p_values(np.ones((1, 30)))[0] == 1e-4


def test_flips_find_an_effect_in_some_documents() -> None:
    """Rates of rejection without an effect are those of the level."""
    random = np.random.default_rng(1)
    nothing = sign_flip_p_values(random.normal(size=(400, 12)))
    assert (nothing <= ALPHA).mean() == pytest.approx(ALPHA, abs=0.03)
    some = np.zeros((1, 16))
    some[0, :6] = 1.0
    some[0, 6:] = -0.001
    assert sign_flip_p_values(some)[0] < ALPHA
