"""docs/results/placement-elsewhere.md states its records."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.stats import spearmanr

from docs.record import RECORDS
from sumcirc.placement import several_views
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.comparable import differing
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.several import Several
from sumcirc.reporting.tables import markdown_table
from sumcirc.statistics import Bootstrap
from tests.support.forgetting import forgetting

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


def test_the_page_states_what_holds_after_more_steps() -> None:
    page = (RECORDS.parent / "placement-elsewhere.md").read_text(encoding="utf-8")
    first, longer = (read_landscape(folder) for folder in (FOLDER, FOLDER / "longer"))
    analyses = [Analysis(landscape.measured("facts")) for landscape, _ in (first, longer)]
    several = Several(analyses, [first[1], longer[1]], [first[0].name, longer[0].name])
    for table in several_views.tables(several):
        assert markdown_table(table).strip() in page, table.title
    assert differing(first[0], longer[0]) == {"trainer.max_steps": (300, 1200)}
    assert {one.name: one.sets for one in longer[1]} == {one.name: one.sets for one in first[1]}

    words = " ".join(page.split())
    facts = {
        longer[0].units.label(chosen): longer[0].scores["facts"][place, 0]
        for chosen, place in longer[0].places.items()
    }
    (everywhere,) = (one["facts"][0] for one in longer[0].others.values())
    means = {label: 100 * values.mean() for label, values in facts.items()}
    for inside, said in (
        (lambda label: label.startswith("0,1"), "layers 0 and 1 get {} % of the facts right"),
        (lambda label: label[0] == "0" and label[2] != "1", "the other six with layer 0 {} %"),
        (lambda label: label[0] == "1", "the other six with layer 1 {} %"),
    ):
        found = [mean for label, mean in means.items() if inside(label)]
        assert said.format(f"{min(found):.0f} to {max(found):.0f}") in words
    neither = [mean for label, mean in means.items() if label[0] > "1"]
    assert f"get {min(neither):.1f} to {max(neither):.1f} %, the model before" in words
    more = []
    for label in ("0,1,4", "0,1,5", "0,1,3"):
        difference = facts[label] - everywhere
        one = Bootstrap().interval(lambda pick, d=difference: d[pick].mean(-1), len(difference))
        told = f"{100 * one.mean:.1f}{' points' * (not more)}"
        more.append(f"{told} [{100 * one.low:.1f}, {100 * one.high:.1f}]")
    assert f"get {more[0]}, {more[1]} and {more[2]} more than LoRA on all layers" in words
    assert f"on all layers ({100 * everywhere.mean():.1f} %)" in words
    whole = sum(term.variance for term in analyses[1].terms[:3])
    assert f"{100 * analyses[1].terms[0].variance / whole:.0f} % of the differences are" in words
    for layer, one in enumerate(analyses[1].effects[:2]):
        told = f"{100 * one.effect:.1f}{' points' * (not layer)}"
        assert f"layer {layer} {'adds ' * (not layer)}{told} [{100 * one.low:.1f}," in (
            words.replace("Layer 0", "layer 0")
        )
    for steps, landscape in ((300, read_landscape(FOLDER / "seed1")[0]), (1200, longer[0])):
        scores = {name: landscape.scores[name][:, 0].mean(axis=1) for name in ("nll", "facts")}
        told = f"{spearmanr(scores['nll'], scores['facts'])[0]:.2f}"
        assert f"{told} after {steps:,} steps" in words


def test_the_page_states_what_was_forgotten_after_more_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = " ".join((RECORDS.parent / "placement-elsewhere.md").read_text("utf-8").split())
    _, loss, kl, table = forgetting(FOLDER / "longer", monkeypatch)
    assert f"at equal loss on the references ({loss:.3f}, which" in words
    assert (
        f"The layers 0,1,5 forget {kl['0,1,5']:.2f} nats there, all layers"
        f" {kl['LoRA, all layers']:.2f}, 2,3,4, which gain nothing, {kl['2,3,4']:.2f}."
    ) in words
    assert f"with the facts is {table['rank correlation with facts']}, and" in words
    change = -float(table["KL of sets with layer 5 minus without"])
    assert f"Sets with layer 5 lie {change:.2f} below those without it" in words
