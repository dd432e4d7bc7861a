"""The page of circuit cards states its records, which hold no text and no name of a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.cards import COUNTS, POINT, SETTINGS, record, table
from docs.record import RECORDS
from sumcirc.circuits.card.lines import BARS, FAIL, PASS, Card, Line
from sumcirc.statistics import Interval
from sumcirc.storage.reading import fitted
from sumcirc.storage.writing import write_json
from sumcirc.tracking.shapes.circuit_shapes import CardFile

PAGE = RECORDS.parent / "circuit-cards.md"
FILES = sorted((RECORDS / "circuit-cards").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_states_every_card(file: Path) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    assert f"records/circuit-cards/{file.name}" in page
    assert table(found) in page
    card = fitted(found["card"], file, CardFile, "card")
    names = [line["name"] for line in card["lines"]]
    assert names == list(BARS)
    counts = [sum(line["status"] == status for line in card["lines"]) for status in (PASS, FAIL)]
    assert counts == [card["passed"], card["failed"]]
    assert f"{card['passed']} of {len(names)} lines pass, {card['failed']} fail" in page
    assert set(found) <= {"card", "gaps", "sizes", *SETTINGS, *COUNTS}
    for name in COUNTS:
        if name in found:
            assert f"{found[name]:,}" in page


def test_what_the_page_says_of_single_dialogues() -> None:
    """The sentences below SmolLM2's table, from the record's figures by document."""
    found = json.loads((RECORDS / "circuit-cards/smollm2-dialogsum.json").read_text())
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    small, large = found["sizes"]
    by_document, gaps = large["by_document"], found["gaps"]
    first, second = sorted(range(len(gaps)), key=lambda i: gaps[i])[-2:]
    share = (gaps[first] + gaps[second]) / sum(gaps)
    assert f"that of 1 % carries {small['faithfulness']['mean']:.2f}." in page
    assert (
        f"Two of the eight judged dialogues make {100 * share:.0f} % of the summed gap and have"
        f" {by_document[first]:.2f} and {by_document[second]:.2f}; one of the others has"
        f" {min(by_document):.2f}"
    ) in page
    lines = {line["name"]: line["details"] for line in found["card"]["lines"]}
    rival = min(lines["rival"]["least_overlap"], key=lambda one: one["jaccard"])
    number, shared = rival["faithfulness"], 2 * rival["jaccard"] / (1 + rival["jaccard"])
    assert (
        f"a circuit of {rival['edges']:,} edges with {number['mean']:.2f} [{number['low']:.2f},"
        f" {number['high']:.2f}] that shares {100 * shared:.0f} % of its edges"
    ) in page
    costs = [row["cost"]["mean"] for row in lines["minimal"]["tested"]]
    assert f"The largest costs {100 * max(costs):.1f} % of the gap" in page


def test_the_page_of_circuits_says_what_the_tuned_models_card_found() -> None:
    found = json.loads((RECORDS / "circuit-cards/built-in-tuned.json").read_text())
    lines = {line["name"]: line for line in found["card"]["lines"]}
    page = " ".join((PAGE.parents[1] / "circuits.md").read_text(encoding="utf-8").split())
    own, other = lines["faithful"]["number"]["mean"], lines["specific"]["details"]["alone"]["mean"]
    assert f"has {found['circuit_edges']} edges and a faithfulness of {own:.2f} as well" in page
    assert f"(`control`) does {other:.2f} on the same pairs" in page
    number, tested = lines["ablation"]["number"], lines["minimal"]["details"]["tested"]
    assert (
        f"the same edges carry {number['mean']:.2f} [{number['low']:.2f}, {number['high']:.2f}],"
        f" and {sum(row['matters'] for row in tested)} of {len(tested)} sampled edges matter"
    ) in page


def test_a_record_of_a_run_and_of_a_file(tmp_path: Path) -> None:
    line = Line("minimal", FAIL, Interval(0.25, 0.1, 0.5, 8), "2 of 8 edges matter")
    card = Card([line], {"estimand": ["a share"]}).as_json()
    write_json(tmp_path / "circuits/card.json", card)
    summary = {**dict.fromkeys(SETTINGS, "x"), **dict.fromkeys(COUNTS, 3), "notices": ["a text"]}
    write_json(tmp_path / "summary.json", summary)
    point = dict.fromkeys(POINT, 0.5)
    curve = {"documents": ["a name"], "full": [1.0], "empty": [3.0], "points": [point | {"kl": 1}]}
    write_json(tmp_path / "circuits/faithfulness.json", {"absolute": curve})
    alone = record(tmp_path / "circuits/card.json")
    assert alone == {"card": card}
    settings = {**dict.fromkeys(SETTINGS, "x"), **dict.fromkeys(COUNTS, 3)}
    assert record(tmp_path) == {**alone, **settings, "gaps": [2.0], "sizes": [point]}
    assert table(alone).splitlines()[2:] == [
        "| minimal | fail | 0.25 [0.10, 0.50] | 2 of 8 edges matter |"
    ]
