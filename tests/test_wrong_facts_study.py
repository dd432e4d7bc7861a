"""benchmarks/wrong_facts.py: which units it names, which articles it pairs, and its tables."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.compare.path.units import BIASES, HEAD, NEURONS, Unit
from sumcirc.wire import articles

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("wrong_facts_tables")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("wrong_facts")


def some_units() -> list[Unit]:
    return [
        *(Unit(f"head.0.{i}", 0, HEAD, i) for i in range(4)),
        *(Unit(f"neurons.0.{i}", 0, NEURONS, i) for i in range(6)),
        Unit("layer 0 biases", 0, BIASES),
    ]


def test_random_units_match_the_named_ones(study: Any) -> None:
    units = some_units()
    values = np.array([0, 3, 1, 2, 5, 9, 8, 7, 6, 4, 99.0])
    assert study.largest(values, units, 0.5) == [1, 3, 5, 6, 7]
    draws = [study.drawn(units, 0.5, seed) for seed in range(20)]
    assert all([units[i].part for i in one] == [HEAD] * 2 + [NEURONS] * 3 for one in draws)
    assert len({tuple(one) for one in draws}) > 10
    assert {i for one in draws for i in one} == set(range(10))


def test_every_set_is_written_once(study: Any) -> None:
    named = {name: [0, 4] for name in study.NAMED}
    sets = study.sets_of(named, [[1, 5], [2, 6]], 11)
    assert sets["tuned"] == []
    assert sets["before"] == list(range(11))
    assert [sets[f"random {i}"] for i in range(2)] == [[1, 5], [2, 6]]
    assert len(sets) == 4 + len(study.NAMED)


def test_articles_are_paired_by_kind_then_length(tables: Any) -> None:
    told = list(articles("test", 60))
    errs = np.arange(60) % 3 == 0
    wrong, fine = tables.matched(told, errs)
    assert wrong.tolist() == np.flatnonzero(errs).tolist()
    assert not errs[fine].any()
    assert len(set(fine.tolist())) == len(fine)
    free = set(np.flatnonzero(~errs).tolist())
    for one, other in zip(wrong.tolist(), fine.tolist(), strict=True):
        same = [i for i in free if told[i].kind == told[one].kind]
        near = min(abs(len(told[i].document) - len(told[one].document)) for i in same or free)
        assert told[other].kind == told[one].kind or not same
        assert abs(len(told[other].document) - len(told[one].document)) == near
        free.remove(other)
    few, _ = tables.matched(told[:4], np.array([True, True, True, False]))
    assert few.tolist() == [0]


def made_record() -> dict[str, Any]:
    """Of 40 articles, half state a wrong fact; without the named units they lose it and a right."""
    count = 40
    names = [one.id for one in articles("test", count)]
    plain = {"right": [3] * count, "wrong": [1, 0] * (count // 2)}
    moved = {"right": [2] * count, "wrong": [0] * count}
    written = {"tuned": plain, "before": {"right": [0] * count, "wrong": [0] * count}}
    written |= {"path": moved, "errors": plain, "opposite": plain}
    written |= {f"random {i}": plain for i in range(3)}
    return {
        "articles": names,
        "random": [["head.0.0"]] * 3,
        "written": written,
        "metric": {"articles": names[::-1], "values": [float(i % 2 == 1) for i in range(count)]},
    }


def cells(rows: list[str], name: str) -> list[str]:
    (row,) = (row for row in rows if row.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_tables_state_what_was_counted(tables: Any) -> None:
    record = made_record()
    found = tables.table(record)
    assert cells(found, "nothing")[0] == "75.0 [75.0, 75.0]"
    assert cells(found, "path")[:3] == [
        *("50.0 [50.0, 50.0]", "0.0 [0.0, 0.0]", "-25.0 [-25.0, -25.0]")
    ]
    assert cells(found, "path")[3].startswith("-12.5 [-16.")
    assert cells(found, "path")[5].startswith("-12.5 [-16.")
    assert cells(found, "path")[6] == "0 of 3"
    assert cells(found, "errors")[6] == "3 of 3"
    # only articles with a wrong fact can lose one
    assert cells(tables.grouped_table(record), "path") == [
        *["-25.0 [-25.0, -25.0]"] * 3,
        "0.0 [0.0, 0.0]",
    ]
    # the metric is larger exactly where there is a wrong fact; its articles are in another order
    assert tables.error_auc(record) == 1.0
    assert len(tables.picture(record).panel.dots) == 3 + 3
