"""Settings in which the runs of a sweep differ, as axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sumcirc.reporting.dashboard.axes import distinct, grouping, settings_axes
from sumcirc.reporting.dashboard.logged_runs import LoggedRun, Place
from sumcirc.tracking.sweep_axes import sweep_axes
from tests.support.sweeps import config


def run(settings: dict[str, Any], layers: list[int] | None = None) -> LoggedRun:
    return LoggedRun(Path("r"), "train", sweep_axes(settings, layers), {}, Place.unknown)


def test_two_layer_sets_by_two_seeds() -> None:
    runs = [run(config(layers, seed)) for layers in ([0, 1], "all") for seed in (1, 2)]
    axes = settings_axes(runs)
    assert [(axis.name, axis.numeric) for axis in axes] == [
        *(("arm", False), ("layers", False), ("seed", True)),
    ]
    assert [axis.name for axis in grouping(axes)] == ["arm"]
    assert [axis.name for axis in distinct(axes, runs)] == ["arm", "seed"]


def test_a_random_choice_is_one_arm_of_several_layer_sets() -> None:
    runs = [
        run(config(seed=seed, selector=selector), layers)
        for selector, draws in (("random", ([0, 4], [1, 2])), ("page", ([0, 1], [0, 1])))
        for seed, layers in enumerate(draws, start=1)
    ]
    axes = settings_axes(runs)
    assert [axis.name for axis in axes] == ["arm", "layers", "selector", "seed"]
    assert {one.axes["layers"] for one in runs} == {"0,4", "1,2", "0,1"}
    assert [axis.name for axis in grouping(axes)] == ["arm"]
    assert [axis.name for axis in distinct(axes, runs)] == ["arm", "layers", "seed"]


def test_an_axis_that_a_run_lacks_is_none() -> None:
    """Full fine-tuning has no rank, and a run without a value is in no plot."""
    runs = [run(config("full")), run(config("all")), run(config("all", adaptation__rank=4))]
    assert [axis.name for axis in settings_axes(runs)] == ["arm", "layers", "modules"]
