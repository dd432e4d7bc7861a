"""Ranks that use a budget, against trying every combination."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sumcirc.models.budget import EQUAL, AdapterSize, smallest_common_budget, solve_ranks
from sumcirc.reporting.arms import BUDGET


def used(costs: dict[str, int], ranks: dict[str, int]) -> int:
    return sum(ranks[name] * cost for name, cost in costs.items())


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_of_raised_linears_uses_more(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs = {f"l{i}": int(cost) for i, cost in enumerate(random.integers(1, 40, 8))}
    together = sum(costs.values())
    budget = int(random.integers(together, 6 * together))
    ranks = solve_ranks(costs, budget)
    base = budget // together
    subsets = itertools.product((0, 1), repeat=len(costs))
    sums = (sum(c * k for c, k in zip(costs.values(), kept, strict=True)) for kept in subsets)
    best = max(total for total in sums if base * together + total <= budget)
    assert used(costs, ranks) == base * together + best
    assert set(ranks.values()) <= {base, base + 1}


def test_of_equal_linears_the_first_are_raised() -> None:
    assert solve_ranks(dict.fromkeys("cabd", 10), 105) == {"c": 3, "a": 3, "b": 2, "d": 2}


def test_a_budget_below_rank_one_gives_none() -> None:
    assert solve_ranks({"a": 10, "b": 20}, 29) == {"a": 0, "b": 0}
    assert solve_ranks({"a": 10, "b": 20}, 30) == {"a": 1, "b": 1}


def test_a_large_model_takes_no_time() -> None:
    shapes = (8192, 5120, 5120, 8192, 18432, 18432, 18432)
    costs = {f"{i}.{j}": cost for i in range(80) for j, cost in enumerate(shapes)}
    budget = 100_000_003
    assert budget - used(costs, solve_ranks(costs, budget)) < 1024


def size(
    costs: dict[str, int], fixed: int = 0, full: int = 10**6, uniform: bool = False
) -> AdapterSize:
    return AdapterSize(costs, fixed, dict.fromkeys(costs, full), uniform)


def test_what_counts_as_equal_is_the_same_in_reports() -> None:
    assert EQUAL == BUDGET


@pytest.mark.parametrize("seed", range(12))
def test_the_smallest_common_budget_is_the_first_that_all_fit(seed: int) -> None:
    """Against trying every number."""
    random = np.random.default_rng(seed)
    sizes = [
        size(
            {f"l{i}": 4 * int(cost) for i, cost in enumerate(random.integers(1, 9, count))},
            fixed=int(random.integers(0, 30)) * (seed % 2),
            full=int(random.integers(3, 20)),
            uniform=seed % 3 == 2,
        )
        for count in (1, 3, 5)
    ]

    def fits(one: AdapterSize, budget: int) -> bool:
        ranks = one.ranks(budget)
        total = one.fixed + used(dict(one.costs), ranks)
        within = all(1 <= rank <= one.full[name] for name, rank in ranks.items())
        return within and total >= (1 - EQUAL) * budget

    every = range(1, min(one.most for one in sizes) + 1)
    expected = next((b for b in every if all(fits(one, b) for one in sizes)), None)
    assert smallest_common_budget(sizes) == expected


def test_an_adapter_beyond_full_rank_does_not_fit() -> None:
    narrow = size({"a": 256}, full=128)
    assert narrow.fits(128 * 256)
    assert not narrow.fits(129 * 256)
    assert narrow.most == 128 * 256
