"""The page of ways of choosing edges states its records, which hold no text and no name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from docs.edge_choice import RANDOM, record, tables, told
from docs.record import RECORDS

PAGE = RECORDS.parent / "edge-choice.md"
README = RECORDS.parents[2] / "README.md"
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


def test_prose_on_the_real_model_states_its_records() -> None:
    """The figures by which the default was chosen, on the page and in the README."""
    page, readme = PAGE.read_text(encoding="utf-8"), README.read_text(encoding="utf-8")
    kl, default = "kl, mean of |score|", "kl, |mean|"
    second, replaced = (
        json.loads((RECORDS / f"edge-choice/smollm2-{name}.json").read_text(encoding="utf-8"))
        for name in ("second", "replace")
    )
    rows = {(row["way"], row["size"]): row for row in second["rows"]}
    ours, theirs = (told(rows[way, 0.05]["faithfulness"]) for way in (kl, default))
    control = told(rows[f"{RANDOM}{kl}", 0.05]["faithfulness"])
    assert f"carries {ours} of the gap with 5 % of the edges, the default {theirs}" in page
    assert f"carry {ours} of the effect on other dialogues (before {theirs};" in readme
    assert f"kinds and layers {control})" in readme
    for size in (0.02, 0.05, 0.1, 0.2, 0.4):
        assert rows[kl, size]["minus_default"]["low"] > 0
    for way in (kl, default):
        for size in second["sizes"]:
            assert rows[f"{RANDOM}{way}", size]["circuit_minus_random"]["low"] > 0
    above = {s: told(rows[f"{RANDOM}{kl}", s]["circuit_minus_random"]) for s in (0.01, 0.05)}
    assert f"by {above[0.01]} at 1 % and {above[0.05]} at 5 %" in page
    for way, least in ((kl, 0.05), (default, 0.2)):
        enough = [s for s in second["sizes"] if rows[way, s]["faithfulness"]["mean"] >= 0.9]
        assert enough[0] == least
    rows = {(row["way"], row["size"]): row for row in replaced["rows"]}
    enough = [s for s in replaced["sizes"] if rows[kl, s]["faithfulness"]["mean"] >= 0.9]
    assert enough[0] == 0.4
    large = told(rows[kl, 0.4]["faithfulness"])
    assert f"carries {large} with 40 % of the edges" in page
    file = RECORDS / "real-model/resamples-of-edges.json"
    found = json.loads(file.read_text(encoding="utf-8"))["jaccard"]
    for one in found.values():
        assert told({"mean": one["jaccard"], **one}) in page
