"""The page of ways of choosing edges states its records, which hold no text and no name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from docs.edge_choice import RANDOM, record, tables
from docs.record import RECORDS

PAGE = RECORDS.parent / "edge-choice.md"
FILES = sorted((RECORDS / "edge-choice").glob("*.json"))


def test_there_are_records() -> None:
    assert {"built-in-base", "sorter"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_states_every_table(file: Path) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    assert f"records/edge-choice/{file.name}" in page
    for table in tables(found):
        assert table in page
    assert found == record(
        found | {"chosen_on": [""] * found["chosen_on"]} | {"judged_on": [""] * found["judged_on"]}
    )
    for key in ("chosen_on", "judged_on", "edges"):
        assert f"{found[key]:,}" in page


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_means_are_those_of_the_documents(file: Path) -> None:
    """Faithfulness, CPR and CMD from the gains by document, by the formulas of the page."""
    found = json.loads(file.read_text(encoding="utf-8"))
    gap, sizes = np.mean(found["gap_by_document"]), found["sizes"]
    heights = {}
    for row in found["rows"]:
        heights[row["way"], row["size"]] = np.mean(row["by_document"]) / gap
        if RANDOM not in row["way"]:
            mean = row["faithfulness"]["mean"]
            assert heights[row["way"], row["size"]] == pytest.approx(mean, abs=2e-3)
    for row in found["areas"]:
        curve = np.array([heights[row["way"], size] for size in sizes])
        for key, values in (("cpr", curve), ("cmd", np.abs(1 - curve))):
            area = np.trapezoid(values, sizes) / (sizes[-1] - sizes[0])
            assert row[key]["mean"] == pytest.approx(area, abs=2e-3)
