"""CKA and RSA against their formulas in plain loops, with documents really left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from sumcirc.measures import representation
from sumcirc.measures.representation import (
    centered_cosine,
    debiased_cka,
    document_means,
    magnitude,
    relative_change,
    rsa,
    spearman,
)

Measure = Callable[[np.ndarray, np.ndarray], float]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al.'s estimator, sum by sum."""
    n = len(x)
    k = [[0.0 if i == j else float(x[i] @ x[j]) for j in range(n)] for i in range(n)]
    l_ = [[0.0 if i == j else float(y[i] @ y[j]) for j in range(n)] for i in range(n)]
    trace = cross = first = second = 0.0
    for i in range(n):
        for j in range(n):
            trace += k[i][j] * l_[j][i]
            first += k[i][j]
            second += l_[i][j]
            for m in range(n):
                cross += k[i][j] * l_[j][m]
    whole = trace + first * second / ((n - 1) * (n - 2)) - 2 / (n - 2) * cross
    return whole / (n * (n - 3))


def naive_cka(x: np.ndarray, y: np.ndarray) -> float:
    return naive_hsic(x, y) / math.sqrt(naive_hsic(x, x) * naive_hsic(y, y))


def naive_rsa(x: np.ndarray, y: np.ndarray) -> float:
    pairs = list(combinations(range(len(x)), 2))
    sides = [[1 - pearsonr(side[i], side[j])[0] for i, j in pairs] for side in (x, y)]
    return float(spearmanr(*sides)[0])


def naive_pseudo_values(
    measure: Measure, x: np.ndarray, y: np.ndarray, groups: np.ndarray
) -> list[float]:
    count = groups.max() + 1
    return [
        count * measure(x, y) - (count - 1) * measure(x[groups != a], y[groups != a])
        for a in range(count)
    ]


def related(rows: int, first: int, second: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two sides that share something, far from the origin."""
    shared = normal(rows, 2, seed=seed)
    x = shared @ normal(2, first, seed=seed + 1) + normal(rows, first, seed=seed + 2)
    y = shared @ normal(2, second, seed=seed + 3) + normal(rows, second, seed=seed + 4)
    return x + 3, y - 5


# the second is long for its widths, so that its traces are added up by columns
@pytest.mark.parametrize(("rows", "widths"), [(17, (9, 14)), (40, (2, 3)), (12, (40, 30))])
def test_cka_and_pseudo_values_are_those_of_the_formula(rows: int, widths: tuple[int, int]) -> None:
    x, y = related(rows, *widths)
    groups = torch.randint(4, (rows,), generator=torch.Generator().manual_seed(9))
    assert groups.bincount().unique().numel() > 1
    value, pseudo = debiased_cka(x, y, groups)
    exact = x.double().numpy(), y.double().numpy()
    assert value == pytest.approx(naive_cka(*exact), rel=1e-9)
    expected = naive_pseudo_values(naive_cka, *exact, groups.numpy())
    np.testing.assert_allclose(pseudo.numpy(), expected, rtol=1e-8)


def test_both_ways_to_add_up_a_trace_agree() -> None:
    """Zero columns change the cost of the ways, and so the choice, but no value."""
    x, y = related(60, 3, 4)
    groups = torch.arange(60) // 7
    padded = [torch.nn.functional.pad(side, (0, 200)) for side in (x, y)]
    short, long = debiased_cka(x, y, groups), debiased_cka(padded[0], padded[1], groups)
    assert short[0] == pytest.approx(long[0], rel=1e-12)
    np.testing.assert_allclose(short[1], long[1], rtol=1e-11)


def test_cka_does_not_see_rotation_scale_or_origin() -> None:
    x = normal(50, 12)
    rotation = torch.linalg.qr(normal(12, 12, seed=1).double()).Q
    value, pseudo = debiased_cka(x, 0.03 * (x.double() @ rotation) + 100, torch.arange(50) // 10)
    assert value == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(pseudo, 1, atol=1e-11)


def test_cka_of_unrelated_sides_is_near_zero_with_fewer_rows_than_dimensions() -> None:
    n, d = 60, 400
    groups = torch.arange(n) // 6
    values = []
    for seed in range(10):
        x, y = normal(n, d, seed=2 * seed), normal(n, d, seed=2 * seed + 1)
        centered = [(side - side.mean(0)).double() for side in (x, y)]
        cross, own, other = (
            (a.T @ b).square().sum()
            for a, b in ((centered[0], centered[1]), (centered[0],) * 2, (centered[1],) * 2)
        )
        assert cross / (own * other).sqrt() > 0.8  # the usual estimate
        values.append(debiased_cka(x, y, groups)[0])
    assert abs(np.mean(values)) < 0.02
    assert np.abs(values).max() < 0.06
    assert min(values) < 0


def test_jackknife_tells_the_spread_of_cka() -> None:
    """The pseudo-values' standard error is about the spread over fresh documents."""
    groups = torch.arange(200) // 5
    mix, turn = normal(3, 8, seed=100), normal(3, 8, seed=101)

    def drawn(seed: int) -> tuple[float, Tensor]:
        topics = normal(40, 3, seed=3 * seed + 200)[groups]
        x = topics @ mix + normal(200, 8, seed=3 * seed + 201)
        y = topics @ turn + normal(200, 8, seed=3 * seed + 202)
        return debiased_cka(x, y, groups)

    drawn_values = [drawn(seed) for seed in range(60)]
    spread = np.std([value for value, _ in drawn_values])
    errors = [pseudo.std().item() / math.sqrt(40) for _, pseudo in drawn_values]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)


def test_order_of_rows_does_not_matter() -> None:
    x, y = related(30, 5, 6)
    groups = torch.arange(30) // 8
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    value, pseudo = debiased_cka(x, y, groups)
    again = debiased_cka(x[order], y[order], groups[order])
    assert again[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(again[1], pseudo, rtol=1e-11)


def test_cka_of_one_document_is_its_pseudo_value() -> None:
    x, y = related(10, 3, 4)
    value, pseudo = debiased_cka(x, y, torch.zeros(10, dtype=torch.long))
    assert pseudo.tolist() == [value]
    assert value == pytest.approx(naive_cka(x.double().numpy(), y.double().numpy()), rel=1e-10)


def test_cka_needs_four_rows() -> None:
    x, y = related(9, 3, 4)
    value, pseudo = debiased_cka(x, y, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1]))
    assert math.isfinite(value)
    assert pseudo.isnan().tolist() == [True, False]
    value, pseudo = debiased_cka(x[:3], y[:3], torch.tensor([0, 1, 2]))
    assert math.isnan(value)
    assert pseudo.isnan().all()
    value, pseudo = debiased_cka(x[:0], y[:0], torch.zeros(0, dtype=torch.long))
    assert math.isnan(value)
    assert pseudo.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1234.567])
def test_cka_with_rows_all_alike_is_undefined(constant: float, dtype: torch.dtype) -> None:
    groups = torch.arange(12) // 4
    alike = torch.full((12, 5), constant, dtype=dtype)
    for sides in ((alike, normal(12, 5)), (normal(12, 5), alike)):
        value, pseudo = debiased_cka(*sides, groups)
        assert math.isnan(value)
        assert pseudo.isnan().all()
    # only document 2 differs: without it, nothing is left to compare
    alike[8:] += normal(4, 5, seed=1)
    value, pseudo = debiased_cka(alike, normal(12, 5), groups)
    assert math.isfinite(value)
    assert pseudo.isnan().tolist() == [False, False, True]


def test_cka_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="rows: 5 and 6"):
        debiased_cka(normal(5, 2), normal(6, 2), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="has no rows"):
        debiased_cka(normal(5, 2), normal(5, 2), torch.tensor([0, 0, 2, 2, 2]))


def test_a_nan_is_not_hidden() -> None:
    x = normal(12, 3)
    x[5, 1] = torch.nan
    groups = torch.arange(12) // 3
    assert math.isnan(debiased_cka(x, normal(12, 3), groups)[0])
    assert math.isnan(rsa(x, normal(12, 3))[0])


def test_rsa_and_pseudo_values_are_those_of_scipy() -> None:
    x, y = related(9, 6, 11)
    value, pseudo = rsa(x, y)
    exact = x.double().numpy(), y.double().numpy()
    assert value == pytest.approx(naive_rsa(*exact), abs=1e-12)
    expected = naive_pseudo_values(naive_rsa, *exact, np.arange(9))
    np.testing.assert_allclose(pseudo, expected, atol=1e-10)


def test_rsa_of_a_side_with_itself() -> None:
    x = normal(8, 5)
    value, pseudo = rsa(x, x)
    assert value == 1
    assert pseudo.tolist() == [1] * 8


@pytest.mark.parametrize(
    ("documents", "value_known", "pseudo_known"),
    [(0, False, True), (1, False, False), (3, False, False), (4, True, False), (5, True, True)],
)
def test_rsa_needs_four_documents(documents: int, value_known: bool, pseudo_known: bool) -> None:
    value, pseudo = rsa(normal(documents, 6), normal(documents, 7, seed=1))
    assert math.isfinite(value) == value_known
    assert pseudo.shape == (documents,)
    assert pseudo.isfinite().all() == pseudo_known


@pytest.mark.parametrize("width", [4, 6, 7, 11])
def test_rsa_with_a_constant_vector_is_undefined(width: int) -> None:
    x = normal(6, width).double()
    x[2] = 0.1
    value, pseudo = rsa(x, normal(6, 4, seed=1))
    assert math.isnan(value)
    assert pseudo.isnan().all()
    with pytest.raises(ValueError, match="documents: 6 and 5"):
        rsa(x, x[:5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_spearman_is_that_of_scipy_with_ties(dtype: torch.dtype) -> None:
    first = torch.randint(6, (3, 2, 40), generator=torch.Generator().manual_seed(0)).to(dtype)
    second = torch.randint(4, (40,), generator=torch.Generator().manual_seed(1)).to(dtype)
    found = spearman(first, second)
    assert found.shape == (3, 2)
    for row, value in zip(first.flatten(0, 1), found.flatten(), strict=True):
        expected = spearmanr(row.float(), second.float())[0]
        assert value.item() == pytest.approx(expected, abs=1e-6)
    transposed = first.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(spearman(transposed, second), found)


def test_spearman_sees_order_alone() -> None:
    x = normal(3, 50)
    np.testing.assert_allclose(spearman(x, (7 * x).exp()), 1, atol=1e-6)
    np.testing.assert_allclose(spearman(x, -x), -1, atol=1e-6)


def test_spearman_is_undefined_without_an_order() -> None:
    x = normal(2, 5)
    x[1] = 0.1
    found = spearman(x, torch.arange(5.0))
    assert found.isnan().tolist() == [False, True]
    assert spearman(normal(2, 5), torch.full((5,), 0.1)).isnan().all()
    assert spearman(torch.tensor([1.0, torch.nan, 2.0]), torch.arange(3.0)).isnan()
    for size in (0, 1):
        assert spearman(normal(2, size), normal(size)).isnan().tolist() == [True, True]


def test_centered_cosine_is_taken_from_the_mean_of_the_base() -> None:
    tuned, base = related(20, 7, 7)
    mean = base.double().mean(0)
    expected = torch.nn.functional.cosine_similarity(tuned.double() - mean, base.double() - mean)
    np.testing.assert_allclose(centered_cosine(tuned, base), expected, atol=1e-7)
    np.testing.assert_allclose(centered_cosine(base, base), 1, atol=1e-7)


def test_an_outlier_dimension_does_not_hide_a_change() -> None:
    """Beside a dimension of 3000 raw cosine is 1 whatever the others do."""
    base, tuned = normal(200, 30), normal(200, 30, seed=1)
    for side in (base, tuned):
        side[:, 4] = 3000
    assert torch.nn.functional.cosine_similarity(tuned, base).min() > 0.999
    assert centered_cosine(tuned, base).mean().abs() < 0.05


def test_a_shift_of_all_rows_is_a_change() -> None:
    base = normal(50, 20)
    assert centered_cosine(base + 10, base).abs().max() < 0.8
    assert centered_cosine(base[:1], base[:1]).isnan().all()


def test_relative_change_and_magnitude_by_hand() -> None:
    base = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
    tuned = torch.tensor([[3.0, 3.0], [1.0, 0.0], [6.0, 8.0]])
    change = relative_change(tuned, base)
    np.testing.assert_allclose(change, [0.2, np.nan, 0], rtol=1e-6)
    stacked = relative_change(torch.stack([tuned, base]), torch.stack([base, base]))
    np.testing.assert_allclose(stacked, torch.stack([change, torch.tensor([0, torch.nan, 0])]))
    np.testing.assert_allclose(magnitude(torch.tensor([[[-1.0, 3.0]]])), [[2.0]])
    assert magnitude(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_means_are_of_each_document_alone() -> None:
    values = normal(7, 2, 3)
    groups = torch.tensor([2, 0, 2, 0, 0, 3, 3])
    values[5, 0, 0] = torch.nan
    found = document_means(values, groups, 5)
    assert found.shape == (5, 2, 3)
    np.testing.assert_allclose(found[0], values[[1, 3, 4]].mean(0), atol=1e-6)
    np.testing.assert_allclose(found[2], values[[0, 2]].mean(0), atol=1e-6)
    assert found.isnan().sum((1, 2)).tolist() == [0, 6, 0, 1, 6]  # 1 and 4 have no rows
    assert document_means(values.double(), groups, 5).dtype == torch.float64
    assert document_means(values.bfloat16(), groups, 5).dtype == torch.float32
    assert document_means(values[:0], groups[:0], 0).shape == (0, 2, 3)


def test_the_threshold_for_rounding_decides_about_no_real_hsic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = related(24, 6, 6)
    x[0] *= 1e3  # one row holds almost all of the norm
    groups = torch.arange(24) // 6
    found = debiased_cka(x, y, groups)
    monkeypatch.setattr(representation, "_ROUNDING", 0.0)
    assert debiased_cka(x, y, groups)[0] == found[0]
    exact = x.double().numpy(), y.double().numpy()
    expected = naive_pseudo_values(naive_cka, *exact, groups.numpy())
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)
