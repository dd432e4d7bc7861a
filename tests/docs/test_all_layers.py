"""The comparison with LoRA on all layers in docs/results/placement.md, against its records."""

from __future__ import annotations

import re

from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.runs import read_runs
from sumcirc.statistics.seeds import Estimate
from tests.support.manual import ROOT

METRIC = "rougeLsum_f1"
LABELS = {"all layers": "all", "first, page": "first"}


def interval(found: Estimate, sign: str = "") -> str:
    mean, low, high = (f"{100 * x:{sign}.1f}" for x in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def test_the_page_states_what_the_records_hold() -> None:
    options = ComparisonOptions(metric=METRIC)
    comparison = compare(*read_runs([ROOT / "docs/results/records/bakeoff"]), options)
    arms = {found.arm.selector: found for found in comparison.arms}
    from_all, from_random = (
        {one.arm.selector: one for one in comparison.of(name, METRIC)} for name in ("all", "random")
    )
    page = (ROOT / "docs/results/placement.md").read_text()
    section = page.partition("## All layers, over five seeds")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    rows = {re.sub(r" \([\d,]+\)", "", row[0]): row[1:] for row in table[2:]}
    assert len(rows) == 6
    for name, (rouge, facts, loss, *difference) in rows.items():
        found = arms[LABELS.get(name, name)]
        assert rouge == interval(found.scores[METRIC])
        assert facts == interval(found.scores["facts"])
        assert loss == f"{found.loss:.3f}"
        if name != "all layers":
            one = from_all[LABELS.get(name, name)]
            shown = [f"{100 * (one.detectable or 0):.1f}"]
            assert [difference[0], difference[2]] == [interval(one.estimate, "+"), *shown]
            assert abs(float(difference[1]) - (one.corrected or 0)) < 1e-3
    # the arm of PAGE chose the first layers for every seed
    assert interval(arms["page"].scores[METRIC]) == rows["first, page"][0]
    text = " ".join(section.split())
    assert not any(one.shown(0.05) for one in from_random.values())
    said = (
        "4.0 points above it [-1.5, 9.5], p (Holm) 0.56, and the last three 4.6 below [-9.7, 0.6]"
    )
    assert said in text
    found = [interval(from_random[name].estimate) for name in ("circuit", "last")]
    assert found == ["4.0 [-1.5, 9.5]", "-4.6 [-9.7, 0.6]"]
