"""The verdicts of a reader on the rules for entities: the table computed from them, on the page."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import pytest

from benchmarks.entity_verdicts import Record, share, table, wilson
from docs.record import RECORDS
from sumcirc.storage.reading import read_json

FILE = RECORDS / "real-model" / "entity-verdicts.json"
VERDICTS = (True, False, None)


def naive_wilson(count: int, total: int) -> tuple[float, float]:
    z, share = 1.959964, count / total
    middle = share + z**2 / (2 * total)
    width = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return (middle - width) / (1 + z**2 / total), (middle + width) / (1 + z**2 / total)


@pytest.mark.parametrize(("count", "total"), [(3, 7), (0, 5), (5, 5), (40, 41)])
def test_wilson(count: int, total: int) -> None:
    assert wilson(count, total) == pytest.approx(naive_wilson(count, total), abs=1e-6)


def test_shares_of_known_rows() -> None:
    known = [
        *[(True, True, True)] * 4,
        *[(True, True, False)] * 2,
        *[(True, False, False)] * 3,
        (False, False, False),
        (False, True, True),
        (True, None, None),
        (False, None, None),
        (None, False, False),
    ]
    common = {"sample": "s", "system": "base", "id": "d", "start": 0, "end": 1, "kind": "name"}
    rows = [{**common, "rule": rule, "hand": hand, "used": used} for rule, hand, used in known]
    expected = {
        "found rightly": (11, 13),
        "found of all": (11, 12),
        "unsupported rightly": (1, 3),
        "unsupported of all": (1, 5),
        "used rightly": (4, 6),
    }
    assert {name: share(rows, name) for name in expected} == expected  # type: ignore[arg-type]


def test_the_record_holds_verdicts_alone() -> None:
    record = json.loads(FILE.read_text())
    ids = {(one["sample"], one["system"]): one["ids"] for one in record["read"]}
    assert sum(len(some) for (sample, _), some in ids.items() if sample == "first 50") == 50
    seen = set()
    for row in record["rows"]:
        assert set(row) == {
            *("sample", "system", "id", "start", "end", "kind", "rule", "hand", "used")
        }
        assert row["id"] in ids[row["sample"], row["system"]]
        assert 0 <= row["start"] < row["end"]
        assert all(row[name] in VERDICTS for name in ("rule", "hand", "used"))
        assert (row["rule"], row["hand"]) != (None, None)
        assert row["used"] is None or row["hand"] is not None
        place = tuple(row[name] for name in ("sample", "system", "id", "start", "end"))
        assert place not in seen
        seen.add(place)


def test_the_page_states_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/faithfulness.md").read_text().splitlines()
    for line in table(read_json(FILE, Record)):
        assert line in page
