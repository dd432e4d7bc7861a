"""Power against simulated sweeps, and against what benchmarks/few_seeds.py found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sumcirc.statistics.power import (
    Components,
    components,
    detectable,
    pooled,
    power,
    seeds_needed,
)
from sumcirc.statistics.seeds import crossed_difference, holm, mean_squares


def drawn(
    rng: np.random.Generator, parts: Components, seeds: tuple[int, ...], documents: int, many: int
) -> list[np.ndarray]:
    """[many, runs, documents] of each group; the documents' effect is in the first group."""
    hard = math.sqrt(parts.documents) * rng.normal(size=(many, 1, documents))
    return [
        (hard if group == 0 else 0.0)
        + math.sqrt(parts.runs[group]) * rng.normal(size=(many, count, 1))
        + math.sqrt(parts.rest[group]) * rng.normal(size=(many, count, documents))
        for group, count in enumerate(seeds)
    ]


def found(groups: list[np.ndarray], difference: float, level: float) -> float:
    """Share of sweeps in which a difference is significant by the comparison's own margin."""
    by_document = groups[0].mean(-2) - (groups[1].mean(-2) if len(groups) > 1 else 0)
    squares = mean_squares(groups, by_document)
    return float(((by_document.mean(-1) + difference) ** 2 > squares.squared_margin(level)).mean())


@pytest.mark.parametrize(
    ("parts", "seeds", "documents", "level"),
    [
        (Components((1.0,), (4.0,), 2.0), (3,), 40, 0.05),
        (Components((1.0,), (4.0,), 2.0), (3,), 40, 0.05 / 6),
        (Components((0.0,), (4.0,), 8.0), (4,), 30, 0.05),
        (Components((1.0,), (1.0,), 0.0), (10,), 100, 0.01),
        (Components((1.0, 9.0), (4.0, 4.0), 2.0), (3, 3), 40, 0.05),
        (Components((1.0, 1.0), (4.0, 2.0), 2.0), (5, 3), 40, 0.05),
    ],
)
def test_four_of_five_simulated_sweeps_show_the_difference(
    parts: Components, seeds: tuple[int, ...], documents: int, level: float
) -> None:
    difference = detectable(parts, seeds, documents, level)
    groups = drawn(np.random.default_rng(1), parts, seeds, documents, 8_000)
    # the standard error of a share of 8,000 is 0.45 points; V_rest is taken as known
    assert found(groups, difference, level) == pytest.approx(0.8, abs=0.015)
    assert power(parts, seeds, documents, difference, level) == pytest.approx(0.8, abs=1e-4)
    # a power that is computed is that of the simulation elsewhere too
    half = power(parts, seeds, documents, 0.6 * difference, level)
    assert found(groups, 0.6 * difference, level) == pytest.approx(half, abs=0.02)


@pytest.mark.parametrize(
    ("seeds", "tests", "errors"),
    [(3, 1, 5.7), (5, 1, 3.8), (10, 1, 3.2), (3, 6, 13.9), (5, 6, 6.2), (8, 6, 4.7)],
)
def test_it_is_what_the_benchmark_simulated(seeds: int, tests: int, errors: float) -> None:
    """The table of docs/comparing.md: a spread of runs of 0.5, independent arms paired by seed."""
    parts = Components((2 * 0.5**2,), (2.0,), 0.0)
    error = math.sqrt(0.5 / seeds + 2 / (seeds * 200))
    found = detectable(parts, [seeds], 200, 0.05 / tests) / error
    assert found == pytest.approx(errors, rel=0.02)


def test_components_are_unbiased() -> None:
    parts = Components((1.0, 2.0), (4.0, 3.0), 5.0)
    groups = drawn(np.random.default_rng(0), parts, (3, 4), 30, 3_000)
    several = [components([one, other]) for one, other in zip(*groups, strict=True)]
    mean = pooled(several)
    assert mean.runs == pytest.approx((1.0, 2.0), rel=0.1)
    assert mean.rest == pytest.approx((4.0, 3.0), rel=0.02)
    assert mean.documents == pytest.approx(5.0, rel=0.05)
    assert min(one.runs[0] for one in several) < 0  # so that the mean is unbiased
    assert pooled([min(several, key=lambda one: one.runs[0])]).runs[0] == 0


def test_paired_components_give_the_errors_of_the_comparison() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 4, 20)) + rng.normal(size=(2, 4, 1)) + rng.normal(size=(2, 1, 20))
    parts = components([a - b])
    error = crossed_difference(a, b, paired=True).error
    variance = parts.runs[0] / 4 + parts.documents / 20 + parts.rest[0] / 80
    assert math.sqrt(variance) == pytest.approx(error)


def test_seeds_needed_is_the_first_number_that_is_enough() -> None:
    parts = Components((1.0,), (4.0,), 2.0)
    for difference in (0.8, 1.5, 3.0, 20.0):
        needed = seeds_needed(parts, 100, difference, 0.05)
        assert needed is not None
        assert needed >= 3
        assert power(parts, [needed], 100, difference, 0.05) >= 0.8
        assert needed == 3 or power(parts, [needed - 1], 100, difference, 0.05) < 0.8
    # the documents alone vary too much, whatever the number of runs
    assert seeds_needed(parts, 100, 0.2, 0.05) is None
    assert seeds_needed(parts, 5_000, 0.4, 0.05) is not None


@pytest.mark.parametrize("effects", [(1.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
def test_a_planned_sweep_shows_the_difference_after_holms_correction(
    effects: tuple[float, ...],
) -> None:
    """Sweeps of three arms and their control, tested as `sumcirc report` does, in every step."""
    spread, hard, rest, size, documents, sweeps = 0.7, 1.0, 3.0, 1.4, 60, 1_000
    # a difference of two arms has twice the variance of an arm
    parts = Components((2 * spread**2,), (2 * rest**2,), 2 * hard**2)
    seeds = seeds_needed(parts, documents, size, 0.05 / len(effects))
    assert seeds is not None
    assert seeds > 4
    rng, shown = np.random.default_rng(7), []
    for _ in range(sweeps):
        arms = (
            rng.normal(size=(1, 1, documents))  # how hard a document is for all arms
            + hard * rng.normal(size=(len(effects) + 1, 1, documents))
            + spread * rng.normal(size=(len(effects) + 1, seeds, 1))
            + rest * rng.normal(size=(len(effects) + 1, seeds, documents))
        )
        found = [
            crossed_difference(arm + size * effect, arms[0], paired=True).p_value
            for arm, effect in zip(arms[1:], effects, strict=True)
        ]
        shown.append(holm(found)[0] < 0.05)
    share, error = np.mean(shown), math.sqrt(0.8 * 0.2 / sweeps)
    alone = power(parts, [seeds], documents, size, 0.05 / len(effects))
    assert 0.8 <= alone < 0.88
    # the later steps of Holm's correction only add to the first, at which the plan is made
    assert share > alone - 3 * error
    if sum(effects) == 1:
        assert share < alone + 3 * error + 0.05


def test_runs_that_do_not_vary_show_everything() -> None:
    parts = Components((0.0,), (0.0,), 0.0)
    assert detectable(parts, [3], 10, 0.05) == 0
    assert power(parts, [3], 10, 1e-9, 0.05) == 1
    assert power(parts, [3], 10, 0.0, 0.05) == 0
