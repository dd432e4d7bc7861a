"""The numbers of docs/results/wrong-facts.md are those of its records."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import numpy as np
import pytest

from docs.record import RECORDS

PAGE = (RECORDS.parent / "wrong-facts.md").read_text()
BENCHMARKS = RECORDS.parents[2] / "benchmarks"
RECORD = json.loads((RECORDS / "wrong-facts" / "lora.json").read_text())


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("wrong_facts_tables")


def test_tables_state_the_record(tables: Any) -> None:
    lines = PAGE.splitlines()
    rows = [*tables.table(RECORD), *tables.grouped_table(RECORD)]
    rows += tables.layer_table(RECORDS / "placement/seed1")
    for row in rows:
        assert row in lines, row


def test_units_are_those_of_the_record(tables: Any) -> None:
    chosen = RECORD["chosen"]
    score = dict(zip(chosen["units"], chosen["path"], strict=True))
    page = " ".join(PAGE.split())
    for name in tables.NAMED:
        heads = [unit for unit in RECORD["named"][name] if unit.startswith("head")]
        for unit in heads:
            assert unit.removeprefix("head.") in page, (name, unit)
    assert f"heads 0.2, 0.3 and 0.0 ({', '.join(f'{score[one]:.2f}' for one in OPPOSITE)})" in page
    assert f"heads 4.1, 4.2 and 4.0 ({', '.join(f'+{score[one]:.2f}' for one in RAISING)})" in page


OPPOSITE = ("head.0.2", "head.0.3", "head.0.0")
RAISING = ("head.4.1", "head.4.2", "head.4.0")


def test_the_text_states_the_record(tables: Any) -> None:
    chosen, page = RECORD["chosen"], " ".join(PAGE.split())
    before, after = (float(np.mean(chosen[name])) for name in ("before", "after"))
    missed = 100 * abs(sum(chosen["path"]) / (after - before) - 1)
    wrong = np.array(RECORD["written"]["tuned"]["wrong"]) > 0
    for words in (
        f"from {before:.2f} to {after:.2f} logits",
        f"the sum of all scores misses the change by {missed:.1f} %",
        f"In {int(wrong.sum())} of {len(wrong)} articles",
        f"{len(tables.groups(RECORD)[0])} pairs",
        f"{tables.error_auc(RECORD):.2f}",
    ):
        assert words in page, words
    assert not chosen["converged"]
    assert len(RECORD["random"]) == 10
    assert len(RECORD["articles"]) == len(RECORD["written"]["path"]["right"]) == 160


def test_the_readme_states_the_record(tables: Any) -> None:
    readme = (RECORDS.parents[2] / "README.md").read_text()
    (row,) = [row for row in tables.table(RECORD) if row.startswith("| path |")]
    right, wrong = (re.findall(r"[\d.]+", cell) for cell in row.split("|")[4:6])
    assert f"{wrong[0]} points [{wrong[2]}, {wrong[1]}] fewer wrong facts" in readme
    assert f"{right[0]} points fewer right ones" in readme
