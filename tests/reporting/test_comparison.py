"""Arms against controls: numbers against the statistics on arrays, words against what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.reporting.comparison import (
    ArmComparison,
    ComparisonOptions,
    Difference,
    compare,
)
from sumcirc.reporting.runs import read_runs
from sumcirc.statistics import crossed_difference, crossed_mean, holm
from tests.support.sweeps import config, write_run, write_sweep

METRIC = "rougeLsum_f1"


def compared(folder: Path, **options: Any) -> ArmComparison:
    return compare(*read_runs([folder]), ComparisonOptions(**options))


def by_arm(comparison: ArmComparison, against: str, measure: str = METRIC) -> dict[str, Difference]:
    return {found.arm.label: found for found in comparison.of(against, measure)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    means = {"random": 0.40, "circuit": 0.41, "page": 0.70, "all": 0.60, (0, 1): 0.30, "full": 0.8}
    return write_sweep(tmp_path_factory.mktemp("sweep") / "s", means, noise=0.01)


def values(folder: Path, label: str, measure: str = METRIC) -> np.ndarray:
    runs, _ = read_runs([folder])
    found = sorted(
        (run for run in runs if run.name.startswith(f"tiny-{label}-")), key=lambda run: run.seeds
    )
    return np.stack([run.values[measure] for run in found])


def test_scores_are_those_of_seeds_and_documents(sweep: Path) -> None:
    comparison = compared(sweep)
    labels = [result.arm.label for result in comparison.arms]
    assert labels == ["full", "page", "all", "circuit", "random", "layers 0,1"]
    for result, name in zip(comparison.arms[:3], ("full", "page", "all"), strict=True):
        expected = values(sweep, name)
        assert result.scores[METRIC] == crossed_mean(expected)


def test_other_adapters_on_all_layers_are_compared_with_lora_there(tmp_path: Path) -> None:
    """And an arm with some layers with the adapter of its own kind on all layers."""
    arms: dict[str, dict[str, Any]] = {
        "lora": {},
        "attention": {"adaptation__modules": ["qkv", "attn_out"]},
        "loraplus": {"optimizer__kind": "loraplus"},
        "dora": {"adaptation__variant": "dora"},
    }
    for name, settings in arms.items():
        for seed in (1, 2, 3):
            write_run(tmp_path / f"s/{name}-s{seed}", config(seed=seed, **settings), 0.4)
            if name in ("lora", "dora"):
                chosen = config([0, 1], seed=seed, **settings)
                write_run(tmp_path / f"s/{name}-some-s{seed}", chosen, 0.5)
    controls = {
        label: found.control.label
        for label, found in by_arm(compared(tmp_path / "s", against=("all",)), "all").items()
    }
    assert controls == {
        "all modules=qkv,attn_out": "all",
        "all optimizer.kind=loraplus": "all",
        "all variant=dora": "all",
        "layers 0,1": "all",
        "layers 0,1 variant=dora": "all variant=dora",
    }


def test_differences_are_paired_and_corrected_over_arms(sweep: Path) -> None:
    comparison = compared(sweep)
    control = values(sweep, "random")
    names = {
        "circuit": "circuit",
        "page": "page",
        "all": "all",
        "layers 0,1": "0,1",
        "full": "full",
    }
    found = by_arm(comparison, "random")
    assert set(found) == set(names)
    p_values = {}
    for label, name in names.items():
        expected = crossed_difference(values(sweep, name), control, paired=True)
        assert found[label].estimate == expected
        assert found[label].paired
        p_values[label] = expected.p_value
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    assert {label: item.corrected for label, item in found.items()} == pytest.approx(corrected)
    assert set(by_arm(comparison, "all")) == {*names, "random"} - {"all"}


def test_words_say_what_the_data_allow(sweep: Path) -> None:
    comparison = compared(sweep)
    verdicts = {label: item.verdict(0.05) for label, item in by_arm(comparison, "random").items()}
    assert verdicts == {
        "circuit": "no difference was shown",
        "page": "differs from LoRA on random layers: higher",
        "all": "differs from LoRA on random layers: higher",
        "layers 0,1": "differs from LoRA on random layers: lower",
        "full": "differs from LoRA on random layers: higher, but not directly comparable",
    }


def test_the_same_seed_order_whatever_the_names(tmp_path: Path) -> None:
    """Pairs are by seed, not by the order of folders."""
    for name, seed in (("z", 1), ("y", 2), ("x", 3)):
        write_run(tmp_path / f"s/{name}", config(selector="random", seed=seed), 0.4, draw=seed)
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        write_run(tmp_path / f"s/{name}", config([0], seed=seed), 0.5, draw=seed)
    found = by_arm(compared(tmp_path / "s"), "random")["layers 0"]
    assert found.paired
    assert found.estimate.low == pytest.approx(0.1)
    assert found.estimate.high == pytest.approx(0.1)


def test_other_seeds_are_independent(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4}, seeds=(1, 2, 3))
    write_sweep(tmp_path / "s", {(0,): 0.5}, seeds=(1, 2))
    found = by_arm(compared(tmp_path / "s"), "random")["layers 0"]
    expected = crossed_difference(
        values(tmp_path / "s", "0"), values(tmp_path / "s", "random"), paired=False
    )
    assert not found.paired
    assert found.estimate == expected


def test_several_draws_of_one_seed_are_independent(tmp_path: Path) -> None:
    for draw in (1, 2):
        settings = config(selector="random")
        settings["selector"]["seed"] = draw
        write_run(tmp_path / f"s/random{draw}", settings, 0.4)
    write_sweep(tmp_path / "s", {(0,): 0.5}, seeds=(1, 2))
    assert not by_arm(compared(tmp_path / "s"), "random")["layers 0"].paired


def test_of_one_or_two_seeds_nothing_is_claimed(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.41})
    write_sweep(tmp_path / "s", {(1,): 0.9}, seeds=(1,))
    write_sweep(tmp_path / "s", {(2,): 0.9}, seeds=(1, 2), noise=1e-6)
    comparison = compared(tmp_path / "s")
    found = by_arm(comparison, "random")
    assert found["layers 1"].estimate.p_value < 1e-6
    assert found["layers 2"].estimate.p_value < 0.05
    for label, seeds in (("layers 1", "one seed"), ("layers 2", "two seeds")):
        assert found[label].corrected is None
        assert not found[label].shown(0.05)
        assert found[label].verdict(0.05) == f"{seeds}: not tested"
    # they are no members of the family
    assert found["layers 0"].corrected == found["layers 0"].estimate.p_value
    notes = [note for note in comparison.notes if note.startswith("missing")]
    assert notes == [
        "missing: layers 1 has no finished run of seed 2, 3",
        "missing: layers 2 has no finished run of seed 3",
    ]


def test_two_seeds_of_the_control_are_too_few_as_well(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4}, seeds=(1, 2))
    write_sweep(tmp_path / "s", {(0,): 0.9})
    assert by_arm(compared(tmp_path / "s"), "random")["layers 0"].corrected is None


def test_without_a_control_nothing_is_said(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4, (1,): 0.5})
    comparison = compared(tmp_path / "s")
    assert comparison.differences == []
    assert comparison.notes == [
        "No random-layer control in this sweep; add one with selector=random",
        "No control with LoRA on all layers in this sweep; add one with adaptation.layers=all",
    ]
    chosen = compared(tmp_path / "s", against=("layers 1",))
    assert set(by_arm(chosen, "layers 1")) == {"layers 0"}
    with pytest.raises(UserError, match=r"against=nothing: .*`layers 0`, `layers 1`"):
        compared(tmp_path / "s", against=("nothing",))


def test_a_metric_that_the_data_lacks(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4})
    runs, left_out = read_runs([tmp_path / "s"])
    for run in runs:
        del run.values["facts"]
    with pytest.raises(UserError, match="metric=facts"):
        compare(runs, left_out, ComparisonOptions(metric="facts"))


def test_undefined_documents_are_left_out_of_a_measure(sweep: Path) -> None:
    result = compared(sweep).arms[0]
    assert result.scores["coverage"].documents == 39
    assert result.scores["coverage"].mean == 0.5
    assert result.scores[METRIC].documents == 40


def test_intervals_stay_within_what_a_share_can_be(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.08}, noise=0.2, seeds=(1, 2))
    (result,) = compared(tmp_path / "s").arms
    assert result.scores[METRIC].low == 0
    assert 0 < result.scores[METRIC].high <= 1


def test_steps_and_time_to_the_loss_that_all_reach(tmp_path: Path) -> None:
    fast, slow = [(0, 6.0), (50, 3.0), (100, 2.0)], [(0, 6.0), (50, 5.0), (100, 3.5)]
    write_sweep(tmp_path / "s", {(0,): 0.4}, seeds=(1, 2), losses=fast, seconds=80.0)
    write_sweep(tmp_path / "s", {(1,): 0.5}, seeds=(1, 2), losses=slow, seconds=20.0)
    comparison = compared(tmp_path / "s")
    assert comparison.loss == 3.5
    reach = {result.arm.label: result.reach for result in comparison.arms}
    assert (reach["layers 0"].steps, reach["layers 0"].seconds) == (50, 40)
    assert (reach["layers 1"].steps, reach["layers 1"].seconds) == (100, 20)
    reach = {r.arm.label: r.reach for r in compared(tmp_path / "s", loss=2.5).arms}
    assert (reach["layers 0"].runs, reach["layers 0"].steps) == (2, 100)
    assert reach["layers 1"].runs == 0
    assert math.isnan(reach["layers 1"].steps)


def test_runs_that_never_validated(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {(0,): 0.4}, losses=())
    comparison = compared(tmp_path / "s")
    assert comparison.loss is None
    assert comparison.arms[0].reach.runs == 0
