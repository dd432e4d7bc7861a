"""Rankings that are noise are refused, those of a planted layer are not."""

from __future__ import annotations

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.ranking import rank
from sumcirc.selection.scores import Scores, rule
from sumcirc.statistics import MIN_DOCUMENTS


def ranked(values: np.ndarray, count: int = 1, scale: float | None = None) -> list[int]:
    scores = Scores(values[:, None], "", "nats", "documents", scale=scale)
    return rank(scores, "drift", Granularity.layer, list(MODULES), count).layers


def planted(documents: int, size: float = 1.0) -> np.ndarray:
    values = 0.1 * size * np.random.default_rng(0).random((4, documents))
    values[2] += size
    return values


@pytest.mark.parametrize("documents", [1, 2, 32])
@pytest.mark.parametrize("size", [0.0, 1e-10, 4e-7])
def test_rounding_is_refused_whatever_resamples_say(size: float, documents: int) -> None:
    with pytest.raises(UserError, match=r"^selector=drift: no layer's score exceeds float round"):
        ranked(planted(documents, size), scale=1.0)


@pytest.mark.parametrize("documents", [1, 2, 32])
@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_a_small_effect_is_not_rounding(size: float, documents: int) -> None:
    assert ranked(planted(documents, size), scale=1.0) == [2]


def test_scores_that_are_no_differences_may_be_of_any_size() -> None:
    assert ranked(planted(32, 1e-20)) == [2]
    with pytest.raises(UserError, match="no layer's score"):
        ranked(np.zeros((4, 32)))


def test_targets_without_a_score_are_not_chosen_by_their_number() -> None:
    values = np.zeros((4, 9))
    values[1] = 1 + np.arange(9)
    assert ranked(values, 1) == [1]
    with pytest.raises(UserError, match=r"^selector\.count=2: .* only 1 of 4 layers .*at most 1"):
        ranked(values, 2)


def test_layers_that_differ_by_chance_are_refused() -> None:
    noise = np.random.default_rng(4).normal(5, 1, size=(6, 20))
    with pytest.raises(UserError, match=r"^selector=drift: .*beyond chance \(p = 0\.\d+ ove"):
        ranked(noise, 2)
    assert ranked(noise, 6) == list(range(6))  # nothing is chosen
    noise[3] += 2
    assert 3 in ranked(noise, 2)


@pytest.mark.parametrize("documents", [1, 2, MIN_DOCUMENTS - 1])
def test_few_documents_say_nothing_of_how_sure_a_ranking_is(documents: int) -> None:
    scores = Scores(planted(documents)[:, None], "", "", "documents")
    found = rank(scores, "drift", Granularity.layer, list(MODULES), 1)
    assert found.stability is None
    assert {(one.low, one.high, one.frequency) for one in found.ranking} == {(None, None, None)}


def test_a_rule_measures_nothing() -> None:
    scores = rule([0, 0, 0], "by position")
    assert rank(scores, "first", Granularity.layer, list(MODULES), 2).layers == [0, 1]
