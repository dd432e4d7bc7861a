"""From scores to chosen targets: order, intervals, stability, layers and modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.ranking import Ranking, default_count, rank
from sumcirc.selection.scores import Scores, rule
from sumcirc.statistics import MIN_DOCUMENTS

LAYER, MODULE = Granularity.layer, Granularity.module


def noisy(power: int = 1, layers: int = 6, samples: int = 20) -> Scores:
    """Targets that differ by more than documents do."""
    values = np.random.default_rng(0).random((layers, len(MODULES), samples))
    values += np.random.default_rng(1).random((layers, len(MODULES), 1))
    return Scores(values, "drawn", "units", "documents", power)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("modules", [list(MODULES), ["mlp_out"], ["mlp_in", "qkv"]], ids=str)
def test_a_layer_is_its_modules_together(power: int, modules: list[str]) -> None:
    scores = noisy(power)
    found = rank(scores, "x", LAYER, modules, 2)
    for one in found.ranking:
        places = [MODULES.index(name) for name in modules]
        by_sample = [
            sum(scores.values[one.layer, place, i] ** power for place in places) ** (1 / power)
            for i in range(20)
        ]
        assert one.score == pytest.approx(np.mean(by_sample))
    values = [one.score for one in found.ranking]
    assert values == sorted(values, reverse=True)
    assert [one.chosen for one in found.ranking] == [True] * 2 + [False] * 4
    assert found.targets == [(one.layer, name) for one in found.chosen for name in modules]


def test_modules_are_chosen_one_by_one() -> None:
    scores = noisy()
    found = rank(scores, "x", MODULE, ["qkv", "mlp_out"], 3)
    means = scores.values.mean(-1)
    wanted = sorted(
        (
            (-means[layer, MODULES.index(name)], layer, name)
            for layer in range(6)
            for name in ("qkv", "mlp_out")
        ),
    )[:3]
    assert found.targets == [(layer, name) for _, layer, name in wanted]
    assert len(found.ranking) == 12


def test_one_module_of_each_layer_is_the_same_choice_at_both_levels() -> None:
    by_layer = rank(noisy(), "x", LAYER, ["mlp_in"], 3)
    by_module = rank(noisy(), "x", MODULE, ["mlp_in"], 3)
    assert by_layer.targets == by_module.targets
    assert [one.frequency for one in by_layer.ranking] == [
        one.frequency for one in by_module.ranking
    ]


def test_intervals_cover_and_stability_tells_signal_from_noise() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=(40, 1, 30))
    clear = noise + 5 * np.arange(40)[:, None, None]
    sure = rank(Scores(clear, "", "", "documents"), "x", LAYER, list(MODULES), 10)
    some = noise + 0.5 * (np.arange(40) >= 36)[:, None, None]  # 4 of the 10 that are chosen
    unsure = rank(Scores(some, "", "", "documents"), "x", LAYER, list(MODULES), 10)
    assert sure.stability == 1
    assert sure.layers == list(range(30, 40))
    assert unsure.chance == 0.25
    assert 0.25 < unsure.stability < 0.9
    covered = [one.low < 0.5 * (one.layer >= 36) < one.high for one in unsure.ranking]
    assert 34 <= sum(covered) <= 40  # 95 % of 40, less what 30 samples miss
    halves = [(one.high - one.low) / 2 for one in unsure.ranking]
    assert np.mean(halves) == pytest.approx(1.96 / 30**0.5, rel=0.1)


def test_frequencies_add_up_to_the_count() -> None:
    found = rank(noisy(), "x", MODULE, list(MODULES), 7)
    assert sum(one.frequency for one in found.ranking) == pytest.approx(7)


def test_scores_of_resamples_are_used_where_there_are_some() -> None:
    resamples = np.array([[[1.0, 2.0, 3.0]], [[2.0, 1.0, 1.0]]])
    values = np.repeat([[[2.0]], [[1.0]]], MIN_DOCUMENTS, -1)
    scores = Scores(values, "", "", "documents", resamples=resamples)
    found = rank(scores, "x", LAYER, list(MODULES), 1)
    assert [one.frequency for one in found.ranking] == pytest.approx([2 / 3, 1 / 3])
    assert found.ranking[0].low == pytest.approx(np.quantile([1, 2, 3], 0.025))


def test_equal_scores_go_by_layer_then_module() -> None:
    assert rank(rule([1, 1, 1], ""), "x", LAYER, ["qkv"], 2).layers == [0, 1]
    found = rank(rule([1, 2, 1], ""), "x", MODULE, ["qkv", "mlp_in"], 3)
    assert found.targets == [(1, "qkv"), (1, "mlp_in"), (0, "qkv")]
    assert found.stability is None
    assert found.ranking[0].low is None


def test_a_quarter_is_chosen() -> None:
    assert [default_count(n) for n in (1, 2, 6, 12, 24, 48)] == [1, 1, 2, 3, 6, 12]


def test_too_many_are_refused() -> None:
    with pytest.raises(UserError, match=r"selector\.count=7: there are 6 layers"):
        rank(noisy(), "x", LAYER, list(MODULES), 7)


@pytest.mark.parametrize("granularity", [LAYER, MODULE])
def test_files_give_the_same_again(tmp_path: Path, granularity: Granularity) -> None:
    scores = noisy()
    scores.save(tmp_path / "scores.json")
    again = Scores.read(tmp_path / "scores.json")
    found = rank(scores, "x", granularity, list(MODULES), 2)
    assert rank(again, "x", granularity, list(MODULES), 2) == found
    found.save(tmp_path / "ranking.json")
    assert Ranking.read(tmp_path / "ranking.json") == found
