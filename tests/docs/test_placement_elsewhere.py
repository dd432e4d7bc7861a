"""docs/results/placement-elsewhere.md states its records."""

from __future__ import annotations

import json
import re

import numpy as np

from docs.record import RECORDS
from sumcirc.placement import several_views
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.several import Several
from sumcirc.reporting.tables import markdown_table

FOLDER = RECORDS / "placement"
OTHERS = ("pretrained-again", "second-event")


def test_the_page_states_what_holds_elsewhere() -> None:
    """Every row of its tables is one that the stored landscapes give."""
    page = (RECORDS.parent / "placement-elsewhere.md").read_text(encoding="utf-8")
    found = [read_landscape(FOLDER), *(read_landscape(FOLDER / name) for name in OTHERS)]
    several = Several(
        [Analysis(landscape.measured("facts")) for landscape, _ in found],
        [choices for _, choices in found],
        [landscape.name for landscape, _ in found],
    )
    for table in several_views.tables(several):
        missing = [row for row in markdown_table(table).splitlines()[2:] if row not in page]
        assert missing == [], table.title
    words = " ".join(page.split())
    first, again, task = (
        {layer: f"{_effect(landscape, layer):.1f}" for layer in (0, 1)} for landscape, _ in found
    )
    assert (
        f"sets with layer 0 lie {again[0]} points above those without it with the model pretrained"
        f" again and {task[0]} on the other task ({first[0]} before), sets with layer 1 {again[1]}"
        f" and {task[1]} ({first[1]} before)"
    ) in words
    for (landscape, _), better in zip(found[1:], (3, 4), strict=True):
        (everywhere,) = (100 * float(one["facts"].mean()) for one in landscape.others.values())
        means = 100 * landscape.scores["facts"].mean(axis=(1, 2))
        assert f"{everywhere:.1f} % " in words
        assert re.search(
            rf"the mean of the sets is {means.mean():.1f}|it is {means.mean():.1f}", words
        )
        assert (means > everywhere).sum() == better
    assert several.candidates == []
    for landscape, _ in found:
        whole = landscape.scores["facts"].mean(axis=(1, 2))
        inside = np.array([0 in layers for layers in landscape.sets])
        assert whole[inside].min() > whole[~inside].max()


def _effect(landscape: Landscape, layer: int) -> float:
    """Mean of the sets with a layer minus that of the sets without it, in points."""
    means = 100 * landscape.scores["facts"].mean(axis=(1, 2))
    inside = np.array([layer in layers for layers in landscape.sets])
    return float(means[inside].mean() - means[~inside].mean())


def test_the_choices_are_those_made_before_the_runs() -> None:
    for name in OTHERS:
        body = json.loads((FOLDER / name / "choices.json").read_text(encoding="utf-8"))
        _, choices = read_landscape(FOLDER / name)
        assert {one.name: list(one.sets[0]) for one in choices} == {
            key: one["layers"] for key, one in body["selectors"].items() if "layers" in one
        }
