"""docs/results/placement-modules.md states its records."""

from __future__ import annotations

import csv
import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docs.record import RECORDS
from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.tables import tables
from sumcirc.reporting.tables import markdown_table
from sumcirc.statistics import Bootstrap

FOLDER = RECORDS / "placement"
README = RECORDS.parents[2] / "README.md"
PAGE = RECORDS.parent / "placement-modules.md"


def _read(name: str) -> tuple[Landscape, Analysis, list[Judgement]]:
    landscape, choices = read_landscape(FOLDER / name)
    analysis = Analysis(landscape.measured("facts"))
    return landscape, analysis, [analysis.judged(one) for one in choices]


def test_the_page_states_its_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = {"all single layers", "facts x 100 by layer and kind of module", "selectors"}
    shown.add("do layer and kind add up? (noise removed)")
    for name, titles in (("single-layers", {"all single layers"}), ("single-modules", shown)):
        _, analysis, judgements = _read(name)
        found = {table.title: markdown_table(table) for table in tables(analysis, judgements)}
        for title in titles & found.keys():
            assert found[title] in page, title


def test_choices_were_those_of_the_file() -> None:
    for name, key in (("single-layers", "layers"), ("single-modules", "modules")):
        landscape, choices = read_landscape(FOLDER / name)
        file = json.loads((FOLDER / name / "choices.json").read_text(encoding="utf-8"))
        names = landscape.units.names
        stored = {one.name: [names[unit] for (unit,) in one.sets] for one in choices}
        assert stored == {who: one[key] for who, one in file["selectors"].items()}


def test_prose_states_its_records() -> None:
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    layers, _, _ = _read("single-layers")
    modules, analysis, judgements = _read("single-modules")
    alone = _by_document(layers, "0")
    triples, _ = read_landscape(FOLDER)
    seed = triples.seeds.index(1)
    others = {
        triples.units.label(one): triples.scores["facts"][i, seed]
        for one, i in triples.places.items()
    }
    (everywhere,) = (one["facts"][seed] for one in triples.others.values())
    assert triples.documents == layers.documents == modules.documents
    assert f"**: {_mean(alone)} % of the facts, beside {_mean(others['0,1,5'])} and" in words
    assert f"and {_mean(others['0,1,4'])} of the sets" in words
    assert (
        f"({_told(alone - others['0,1,5'])[0]} points more {_told(alone - others['0,1,5'])[1]},"
        in words
    )
    assert (
        f"and {_told(others['0,1,4'] - alone)[0]} less {_told(others['0,1,4'] - alone)[1]})"
        in words
    )
    more, interval = _told(alone - everywhere)
    assert f"{more} points {interval} more than LoRA on all layers; with" in words
    by_seed = 100 * layers.scores["facts"].mean(axis=2)
    low, high = by_seed[2:].mean(axis=1).min(), by_seed[2:].mean(axis=1).max()
    assert layers.seeds == (1, 2)
    assert f"with the second seed it gets {by_seed[0, 1]:.1f} %" in words
    assert (
        f"Layer 1 alone gets {by_seed[1].mean():.1f} %, any other layer {low:.0f} to {high:.0f} %"
        in words
    )
    best = _by_document(modules, "0.mlp_in")
    bridge = json.loads((FOLDER / "single-modules/bridge.json").read_text(encoding="utf-8"))
    assert bridge["budget"] == 24576
    at_budget = {
        arm: np.array([found[id] for id in modules.documents])
        for arm, found in bridge["facts"].items()
    }
    more, interval = _told(best - at_budget["all"])
    assert f"gets {_mean(best)} %, {more} points {interval} more than LoRA on all" in words
    assert f"as many parameters ({_mean(at_budget['all'])})" in words
    more, interval = _told(best - at_budget["0,1,5"])
    assert (
        f"and {more} {interval} more than the layers 0,1,5 ({_mean(at_budget['0,1,5'])})" in words
    )
    means = 100 * analysis.measured.means
    assert modules.seeds == (1, 2)
    by_label = {modules.units.label(one): i for one, i in modules.places.items()}
    second = modules.scores["facts"][by_label["0.mlp_in"], modules.seeds.index(2)]
    assert f"with the second seed it gets {_mean(second)} %" in words
    assert (means > 10.6).sum() == 2
    assert (means < 10).sum() == 22
    assert f"`qkv` of layer 1 ({means[by_label['1.qkv']]:.1f})" in words
    assert modules.units.names[int(means.argmin())] == "0.attn_out"
    readme = README.read_text(encoding="utf-8")
    assert f"layer 0 alone gets {_mean(alone)} % of the facts" in readme
    assert f"and LoRA on all layers {_mean(everywhere)} %. At a quarter" in readme
    assert (
        f"gets {_mean(best)} %, LoRA on all layers {_mean(at_budget['all'])} %, and 22 of" in readme
    )
    by_name = {one.name: one for one in judgements}
    for name in ("page", "fisher", "gradient_norm", "loraga"):
        assert by_name[name].rank == 24
    assert by_name["kappa"].rank == 1
    agreement = by_name["kappa"].agreement
    assert agreement is not None
    assert f"correlate with their means by {agreement.spearman:.2f} only" in words
    assert len(judgements) == 19


def test_rates_are_those_of_the_records() -> None:
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    words = words[words.index("## Learning rates") :]
    for name in ("single-layers", "single-modules"):
        with (FOLDER / name / "rates.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                assert f"{float(row['lowest_validation_loss']):.3f}" in words, row
    assert len(re.findall(r"\d\.\d{3}", words)) == 12


def _by_document(landscape: Landscape, label: str) -> NDArray[np.float64]:
    labels = [landscape.units.label(one) for one in landscape.sets]
    return np.asarray(landscape.scores["facts"][labels.index(label), landscape.seeds.index(1)])


def _mean(values: NDArray[np.float64]) -> str:
    return f"{100 * values.mean():.1f}"


def _told(difference: NDArray[np.float64]) -> tuple[str, str]:
    def mean(pick: Any) -> Any:
        return difference[pick].mean(-1)

    found = Bootstrap().interval(mean, len(difference))
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.mean:.1f}", f"[{low:.1f}, {high:.1f}]"
