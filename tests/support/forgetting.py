"""What the runs of a stored landscape forgot, by the script that made the tables of the pages."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docs.record import RECORDS
from sumcirc.placement.landscape_files import read_landscape


class Forgetting(NamedTuple):
    """What a landscape's runs forgot.

    Attributes:
        curves: [amounts, 4] of each run, as `placement_forgetting.curves` returns them.
        loss: the loss on references at which runs are compared, in nats a token.
        kl: KL on other articles at that loss, by arm.
        table: correlations and differences over sets, by their names.
    """

    curves: dict[Any, Any]
    loss: float
    kl: dict[str, float]
    table: dict[str, str]


def forgetting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Forgetting:
    """Return what the runs of a landscape with one seed forgot."""
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    script = importlib.import_module("placement_forgetting")
    landscape, _ = read_landscape(folder)
    curves = script.curves(folder)
    loss, at = script.equal_learning(curves)
    kl = {arm: row[3] for (arm, _), row in at.items()}
    return Forgetting(curves, loss, kl, dict(script.correlations(landscape, at).rows))
