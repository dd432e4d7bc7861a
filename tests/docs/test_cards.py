"""The page of circuit cards states its records, which hold no text and no name of a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.cards import COUNTS, SETTINGS, record, table
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
    assert set(found) <= {"card", *SETTINGS, *COUNTS}
    for name in COUNTS:
        if name in found:
            assert f"{found[name]:,}" in page


def test_a_record_of_a_run_and_of_a_file(tmp_path: Path) -> None:
    line = Line("minimal", FAIL, Interval(0.25, 0.1, 0.5, 8), "2 of 8 edges matter")
    card = Card([line], {"estimand": ["a share"]}).as_json()
    write_json(tmp_path / "circuits/card.json", card)
    summary = {**dict.fromkeys(SETTINGS, "x"), **dict.fromkeys(COUNTS, 3), "notices": ["a text"]}
    write_json(tmp_path / "summary.json", summary)
    alone = record(tmp_path / "circuits/card.json")
    assert alone == {"card": card}
    assert record(tmp_path) == {**alone, **dict.fromkeys(SETTINGS, "x"), **dict.fromkeys(COUNTS, 3)}
    assert table(alone).splitlines()[2:] == [
        "| minimal | fail | 0.25 [0.10, 0.50] | 2 of 8 edges matter |"
    ]
