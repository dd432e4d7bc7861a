"""Names that panels ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sumcirc.reporting.dashboard.logged_runs import Material, read_material
from sumcirc.reporting.dashboard.panel_catalogue import Shelf
from sumcirc.tracking.metric_names import MetricKind
from tests.support.sweeps import write_sweep


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return read_material([write_sweep(tmp_path / "s", {"all": 0.5}, seeds=(1,))])


def test_what_was_not_logged_is_remembered(material: Material) -> None:
    shelf = Shelf(material)
    assert shelf.take(MetricKind.curve, "train/loss", "attention/js") == ("train/loss",)
    assert shelf.by_layer("residual/cka") == []
    assert set(shelf.absent) == {"attention/js", "residual/cka/{place}"}
    assert shelf.present == {"train"}


def test_a_name_that_is_never_logged_is_a_mistake_here(material: Material) -> None:
    shelf = Shelf(material)
    with pytest.raises(KeyError, match="atention/entropy"):
        shelf.curves("entropy", "atention/entropy")
    with pytest.raises(KeyError, match="attention/entropies"):
        shelf.by_layer("attention/entropies")
    with pytest.raises(KeyError, match="arm"):
        shelf.take(MetricKind.table, "arm")
