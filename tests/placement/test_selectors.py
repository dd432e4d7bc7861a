from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sumcirc.placement.selectors import (
    agreement,
    best_by_luck,
    over_landscapes,
    permutation_p,
    skills_by_set,
)


def landscapes(count: int, sets: int = 8, alike: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    common = rng.normal(size=sets)
    drawn = [alike * common + (1 - alike) * rng.normal(size=sets) for _ in range(count)]
    return [skills_by_set(means) for means in drawn]


def test_in_one_landscape_p_is_the_rank() -> None:
    (skills,) = landscapes(1)
    for rank, place in enumerate(np.argsort(-skills), start=1):
        p_value, least = permutation_p([skills], [[int(place)]])
        assert p_value == pytest.approx(rank / 8)
        assert least == pytest.approx(1 / 8)


def test_two_choices_by_enumeration() -> None:
    first, second = landscapes(2)
    observed = (first[2] + second[5]) / 2
    values = [(first[a] + second[b]) / 2 for a, b in itertools.permutations(range(8), 2)]
    p_value, least = permutation_p([first, second], [[2], [5]])
    assert p_value == pytest.approx(np.mean(np.array(values) >= observed - 1e-12))
    assert least == pytest.approx(1 / 56)


def test_the_same_choice_everywhere_gains_nothing_from_similar_landscapes() -> None:
    """Twelve copies of one landscape say no more than one."""
    skills = landscapes(12, alike=1.0)
    best = int(skills[0].argmax())
    p_value, least = permutation_p(skills, [[best]] * 12)
    assert p_value == least == pytest.approx(1 / 8)


def test_several_choices_in_a_landscape_are_weighted() -> None:
    first, second = landscapes(2)
    observed = ((2 * first[1] + first[3]) / 3 + second[1]) / 2
    values = [
        ((2 * first[a] + first[b]) / 3 + second[a]) / 2
        for a, b in itertools.permutations(range(8), 2)
    ]
    p_value, _ = permutation_p([first, second], [[1, 3, 1], [1]])
    assert p_value == pytest.approx(np.mean(np.array(values) >= observed - 1e-12))


def test_many_choices_are_drawn_and_agree_with_all() -> None:
    skills = landscapes(4, sets=20)
    choices = [[int(np.argsort(-one)[4])] for one in skills]
    different = len({one[0] for one in choices})
    assert math.perm(20, different) <= 200_000 or different == 4
    p_value, _ = permutation_p(skills, [*choices])
    drawn, _ = permutation_p([*skills, skills[0]], [*choices, [19]])
    assert 0 < p_value < 0.05
    assert 1 / 200_000 <= drawn <= 1


def test_p_is_at_its_level_for_random_choices() -> None:
    rng = np.random.default_rng(1)
    skills = landscapes(3, alike=0.8)
    found = [
        permutation_p(skills, [[int(a)] for a in rng.integers(0, 8, size=3)])[0] for _ in range(800)
    ]
    assert np.mean(np.array(found) <= 0.05) < 0.075


def test_selectors_are_corrected_together() -> None:
    means = [np.arange(8.0), np.arange(8.0) ** 2]
    found = over_landscapes(means, {"good": [[7], [6]], "bad": [[0], [0]], "fixed": [[7], [7]]})
    assert found["fixed"].skill == pytest.approx(1.0)
    assert found["fixed"].p_value == pytest.approx(1 / 8)
    assert found["good"].p_value < found["good"].corrected
    assert found["bad"].corrected == pytest.approx(1.0)
    assert found["good"].landscapes == 2


def test_twenty_five_selectors_find_the_best_by_luck() -> None:
    assert best_by_luck(25, 20) == pytest.approx(0.72, abs=0.003)


def test_agreement_is_corrected_for_reliability() -> None:
    found = agreement([1, 2, 3, 4], [1, 2, 4, 3], 0.64)
    assert found.pearson == pytest.approx(0.8)
    assert found.spearman == pytest.approx(0.8)
    assert found.corrected == pytest.approx(1.0)
    assert math.isnan(agreement([1, 1], [1, 2], 0.5).pearson)
    assert math.isnan(agreement([1, 2], [1, 2], 0.0).corrected)
