"""The page of planted changes states its records."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.planted.measures import MEASURES
from benchmarks.planted.models import KINDS, ROUTE
from benchmarks.planted.span_measures import SPAN_MEASURES
from benchmarks.planted.span_tables import (
    cut_table,
    facts_table,
    found_by_span,
    lost_by_cutting,
    routes,
    span_intervals,
    span_table,
)
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
    assert facts_table(KNOWN) in PAGE
    assert cut_table(KNOWN) in PAGE
    assert span_table(KNOWN) in PAGE


def test_heads_of_accepted_routes_read_the_fact() -> None:
    """From the figures of the record, not from its verdict."""
    models = routes(KNOWN)
    assert len(models) >= 20
    for one in models:
        assert lost_by_cutting(one)[ROUTE] >= LOST
        for part in (one["with_decoys"], one["alone"]):
            assert set(part["by_span"]["scores"]) == set(SPAN_MEASURES)
            shape = (len(part["units"]), len(part["by_span"]["spans"]))
            assert all(np.shape(x) == shape for x in part["by_span"]["scores"].values())


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


def first_by_span(measure: str) -> int:
    """Return in how many models with decoys a measure has the route first among all pairs."""
    return sum(found_by_span(one, measure, ALL_UNITS)[1] == 1 for one in routes(KNOWN))


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
        *route_sentences(),
    ]


def route_sentences() -> list[str]:
    """What the page says in words of routes, from the records."""
    plain, delta, attention = SPAN_MEASURES
    whole = [found(one, "circuit", ALL_UNITS) for one in routes(KNOWN)]
    head = sum(one is not None and one[1] == 1 for one in whole)
    areas = [f"{span_intervals(KNOWN, one, ALL_UNITS)[0].mean:.2f}" for one in (plain, delta)]
    return [
        f"a span in {first_by_span(plain)} of {len(whole)} models with decoys, its difference from"
        f" the base's in {first_by_span(delta)}; the AUCs are {areas[0]} and {areas[1]}",
        f"the head first among all heads in {head}",
        f"attention by span has the route first in {first_by_span(attention)}",
        f"{len(whole)} of {sum(one['kind'] == 'fact route' for one in KNOWN)} were accepted",
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
