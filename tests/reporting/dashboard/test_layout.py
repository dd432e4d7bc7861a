"""Panels of a dashboard: of names that were logged, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sumcirc.reporting.dashboard.layout import layout
from sumcirc.reporting.dashboard.logged_runs import Material, read_material
from sumcirc.reporting.dashboard.panels import BarPanel, Parallel, Scatter, names_of
from tests.support.sweeps import write_sweep


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("sweep") / "s"
    return read_material([write_sweep(folder, {(0, 1): 0.4, "all": 0.5}, seeds=(1, 2))])


def test_two_arms_by_two_seeds(material: Material) -> None:
    plan = layout(material, "rougeLsum_f1")
    assert [section.title for section in plan.sections] == ["Quality", "Sweep"]
    panels = plan.sections[1].panels
    (parallel,) = [panel for panel in panels if isinstance(panel, Parallel)]
    score = "test/trained/rougeLsum_f1"
    assert [axis.name for axis in parallel.axes] == [
        *("layers", "seed", "trainable_parameters", "validation/loss.min", score),
    ]
    points = [(panel.x.name, panel.y.name) for panel in panels if isinstance(panel, Scatter)]
    assert points == [
        ("trainable_parameters", score),
        ("validation/loss.min", score),
        ("seed", score),
    ]
    bars = [panel.by.name for panel in panels if isinstance(panel, BarPanel) and panel.by]
    assert bars == ["arm"], "the layer sets split the runs as the arms do"


def test_no_panel_without_a_logged_name(material: Material) -> None:
    plan = layout(material, "rougeLsum_f1")
    for section in plan.sections:
        for panel in section.panels:
            for kind, name in names_of(panel):
                assert name in material.logged(kind)
    assert "attention/entropy" in plan.absent
    assert "attention_entropy" in plan.silent
    assert "train" not in plan.silent


def test_one_run_is_no_sweep(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"all": 0.5}, seeds=(1,))
    plan = layout(read_material([sweep]), "rougeLsum_f1")
    assert [section.title for section in plan.sections] == ["Quality"]


def test_runs_that_were_not_scored_are_compared_by_loss(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0,): 0.4, "all": 0.5}, seeds=(1,), scored=False)
    plan = layout(read_material([sweep]), "rougeLsum_f1")
    (section,) = [one for one in plan.sections if one.title == "Sweep"]
    points = [(one.x.name, one.y.name) for one in section.panels if isinstance(one, Scatter)]
    assert points == [("trainable_parameters", "validation/loss.min")]
    for panel in section.panels:
        if isinstance(panel, Parallel):
            names = [axis.name for axis in panel.axes]
            assert len(names) == len(set(names))
            assert names[-1] == "validation/loss.min"
