"""docs/results/rephrase.md states its records."""

from __future__ import annotations

import importlib
import json

import pytest

from docs.record import RECORDS

README = RECORDS.parents[2] / "README.md"


def test_the_page_on_rephrasing_states_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the page's tables is a row that the records give."""
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    tables = importlib.import_module("rephrase_tables")
    found = tables.every_table(RECORDS / "rephrase")
    known = {line for table in found.values() for line in tables.markdown(table)}
    page = (RECORDS.parent / "rephrase.md").read_text()
    shown = [line for line in page.splitlines() if line.startswith("|")]
    assert len(shown) > 20
    assert [line for line in shown if line not in known] == []
    assert set(tables.markdown(found["logit difference"])) <= set(shown)
    sets = json.loads((RECORDS / "rephrase/head-sets.json").read_text()).values()
    readme = " ".join((RECORDS.parents[2] / "README.md").read_text().split())
    into_base = [one["sufficiency"]["heads"] for one in sets]
    for one in into_base:
        assert one["named"][:3] == ["output.23.3", "output.29.1", "output.22.4"]
        assert one["sizes"][2] == 3
    largest = [[one["largest"][end][2] for end in ("mean", "low", "high")] for one in into_base]
    for text in (page, readme):
        for mean, low, high in largest:
            assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in text
        first, second = (one["random_by_layer"]["mean"][2] for one in into_base)
        assert f"of the same layers bring {first:.2f} and {second:.2f}" in text
        first, second = (one["largest"]["mean"][-1] for one in into_base)
        assert f"{first:.2f} and {second:.2f}" in text
    taken = [one["necessity"]["heads"]["largest"]["mean"][2] for one in sets]
    assert f"three heads take {taken[0]:.2f} and {taken[1]:.2f} of the gap away" in page
