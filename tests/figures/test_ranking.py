"""Figures of a selection: three files with the values that are drawn."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures.views import draw
from sumcirc.reporting.views.layer_ranking import ranking
from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.ranking import rank
from sumcirc.selection.scores import Scores, rule


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("measured", [True, False])
def test_values_are_those_of_the_ranking(
    tmp_path: Path, granularity: Granularity, measured: bool
) -> None:
    random = np.random.default_rng(0)
    scores = rule(random.random((5, 4)), "a rule")
    if measured:
        scores = Scores(
            random.random((5, 4, 1)) + random.random((5, 4, 9)), "measured", "nats", "documents"
        )
    found = rank(scores, "mine", granularity, list(MODULES), 3)
    draw(ranking(asdict(found)), tmp_path / "selection.png")
    assert (tmp_path / "selection.png").stat().st_size > 5_000
    assert (tmp_path / "selection.pdf").exists()
    with open(tmp_path / "selection.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.ranking)
    by_place = {(one.layer, one.module or ""): one for one in found.ranking}
    for row in rows:
        one = by_place[int(row["layer"]), row["module"]]
        assert float(row["score"]) == one.score
        assert row["chosen"] == str(int(one.chosen))
        assert bool(row["low"]) == measured


def test_chosen_layers_are_coloured(tmp_path: Path, drawn: list[Any]) -> None:
    found = rank(rule([3, 1, 2, 0], "a rule"), "mine", Granularity.layer, list(MODULES), 2)
    draw(ranking(asdict(found)), tmp_path / "x.png")
    from matplotlib.colors import to_hex

    axes = drawn[0].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["3", "2", "1", "0"]  # layer 0 at the bottom
    bars = {names[round(bar.get_y() + bar.get_height() / 2)]: bar for bar in axes.patches}
    coloured = {layer for layer, bar in bars.items() if to_hex(bar.get_facecolor()) == "#d55e00"}
    assert coloured == {"0", "2"}
