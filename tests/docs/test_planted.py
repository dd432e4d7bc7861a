"""The page of planted changes states its records."""

from __future__ import annotations

import pytest

from benchmarks.planted.measures import MEASURES
from benchmarks.planted.models import KINDS
from benchmarks.planted.tables import (
    ALL_UNITS,
    ALONE,
    COLUMNS,
    DECOYS,
    accepted,
    counts,
    found,
    intervals,
    read,
    table,
)
from benchmarks.planted.truth import LOST, LOST_ALONE, MOVED
from docs.record import RECORDS

PAGE = (RECORDS.parent / "planted.md").read_text(encoding="utf-8")
KNOWN = read(RECORDS / "planted/models.jsonl")
PATH = "path attribution"


def test_tables_state_the_records() -> None:
    assert counts(KNOWN) in PAGE
    for column in COLUMNS:
        assert table(KNOWN, column, 0) in PAGE
    assert table(KNOWN, DECOYS, 1) in PAGE


@pytest.mark.parametrize("kind", KINDS)
def test_accepted_plants_cause_the_gain(kind: str) -> None:
    """From the figures of the record, not from its verdict."""
    models = accepted(KNOWN, kind)
    assert models
    for one in models:
        truth = one["truth"]
        gain = truth["after"] - truth["before"]
        assert truth["after"] - truth["without_plant"] >= LOST * gain
        assert abs(truth["after"] - truth["without_decoys"]) <= MOVED * gain
        assert len(one["plant"]) == KINDS[kind].count
        assert len(one["decoys"]) == KINDS[kind].decoys
        for rest in truth["without_each"]:
            assert truth["after"] - rest >= LOST_ALONE * gain
        for part in (one["with_decoys"], one["alone"]):
            assert set(part["scores"]) <= set(MEASURES)
            assert all(len(values) == len(part["units"]) for values in part["scores"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_path_attribution_ranks_plants_first_without_decoys(kind: str) -> None:
    for one in accepted(KNOWN, kind):
        value = found(one, PATH, ALONE)
        assert value is not None
        assert value == (1.0, KINDS[kind].count)


@pytest.mark.parametrize("kind", KINDS)
def test_decoys_have_the_norm_of_the_plant(kind: str) -> None:
    value = intervals(KNOWN, kind, "delta norm", DECOYS)
    assert value is not None
    assert value[0].mean == pytest.approx(0.5, abs=0.15)


def mean(kind: str, measure: str, column: str) -> str:
    """Return a mean AUC as the tables show it."""
    value = intervals(KNOWN, kind, measure, column)
    assert value is not None
    return f"{value[0].mean:.2f}"


def firsts(measure: str, column: str) -> tuple[int, int]:
    """Return in how many models all units of the plant come first, and the number of models."""
    values = [
        (found(one, measure, column), KINDS[kind].count)
        for kind in KINDS
        for one in accepted(KNOWN, kind)
    ]
    kept = [value[1] == count for value, count in values if value is not None]
    return sum(kept), len(kept)


def sentences() -> list[str]:
    """What the page says in words, from the records."""
    every = [one for kind in KINDS for one in accepted(KNOWN, kind)]
    converged = sum(one["with_decoys"]["converged"] for one in every)
    alone, among = firsts(PATH, ALONE), firsts(PATH, ALL_UNITS)
    into, out = "weight patching, into the base", "activation patching, into the base"
    back = "activation patching, into the changed model"
    kl, entropy = "attention KL", "entropy change"
    return [
        f"in all {alone[0]} models without decoys and in {among[0]} of {among[1]} with them",
        f"converged in {converged} of {len(every)} models with decoys",
        f"an AUC of {mean('two heads', into, ALONE)} without decoys",
        f"({mean('two heads', out, ALONE)})",
        f"({mean('two heads', back, DECOYS)} against decoys)",
        f"against decoys they have {mean('head', kl, DECOYS)} and {mean('head', entropy, DECOYS)}",
        f"of one head, {mean('two heads', kl, DECOYS)} and {mean('two heads', entropy, DECOYS)} of"
        " two",
        f"{mean('head', 'circuit', DECOYS)} and {mean('head', 'circuit delta', DECOYS)} for a head",
        f"{mean('layer', 'gradient norm', ALL_UNITS)} among layers and"
        f" {mean('module', 'gradient norm', ALL_UNITS)} among modules",
        f"drift has {mean('layer', 'drift', DECOYS)}, CKA {mean('layer', 'CKA', DECOYS)}",
    ]


def test_the_text_states_the_records() -> None:
    page = " ".join(PAGE.split())
    for words in sentences():
        assert words in page, words


def test_the_readme_states_the_records() -> None:
    readme = (RECORDS.parents[2] / "README.md").read_text(encoding="utf-8")
    first, models = firsts(PATH, ALL_UNITS)
    assert first == models
    assert f"Of {models} small models with a planted head" in readme
    alone = mean("two heads", "weight patching, into the base", ALL_UNITS)
    assert f"pairs that need each other (AUC {alone})" in readme
    for kind in ("layer", "module"):
        value = intervals(KNOWN, kind, "gradient norm", ALL_UNITS)
        assert value is not None
        assert value[0].low <= 0.5
