"""Counts of what was cut, left out, missing or repeated: one sentence each, everywhere the same."""

from __future__ import annotations

import logging

import pytest

from sumcirc.runtime.notices import LEAK, Notice, Notices, left_out, lines, lines_of_runs, missing


def test_a_warning_is_what_concerns_more_than_a_tenth() -> None:
    assert not Notice("data.train", "cut", 100, 1000, "are cut").warning
    assert Notice("data.train", "cut", 101, 1000, "are cut").warning
    assert not Notice("data.test", "in_train", 10, 1000, "are in data.train", LEAK).warning
    assert Notice("data.test", "in_train", 11, 1000, "are in data.train", LEAK).warning


def test_each_is_logged_once_with_its_level(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    few, many = (Notice("data.train", "cut", n, 12_267, "documents are cut") for n in (9, 9081))
    with caplog.at_level(logging.INFO):
        notices.tell(few, Notice("data.train", "repeated", 0, 12_267, "repeat"), many, few)
        notices.tell(many)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "data.train: 9 of 12,267 documents are cut"),
        ("WARNING", "data.train: 9,081 of 12,267 documents are cut"),
    ]
    assert [one["count"] for one in notices.as_json()] == [9, 9081]
    assert lines(notices.as_json()) == [
        "WARNING: data.train: 9,081 of 12,267 documents are cut",
        "data.train: 9 of 12,267 documents are cut",
    ]


def test_the_first_process_alone_speaks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sumcirc.runtime.processes.is_main_process", lambda: False)
    notices = Notices()
    with caplog.at_level(logging.INFO):
        notices.tell(Notice("data.train", "cut", 1, 2, "are cut"))
    assert not caplog.records
    assert len(notices.as_json()) == 1


def test_what_runs_of_a_sweep_have_in_common_is_said_once() -> None:
    cut = Notice("data.train", "cut", 5, 10, "are cut").as_json()
    short = Notice("base", "empty", 1, 10, "summaries are empty").as_json()
    assert lines_of_runs([{"notices": [short, cut]}, {"notices": [cut]}, {"notices": [cut]}]) == [
        "WARNING: data.train: 5 of 10 are cut",
        "base: 1 of 10 summaries are empty (1 of 3 runs)",
    ]
    assert lines_of_runs([{}, {}]) == []


def test_fewer_than_asked_for() -> None:
    found = missing("data.sizes.test", "items", 400, 391, "own.csv has 391")
    assert str(found) == ("data.sizes.test: 9 of 400 items asked for are missing: own.csv has 391")
    assert not found.warning
    assert missing("compare.items", "items", 400, 4, "there are 4").warning
    assert missing("data.sizes.test", "items", None, 391, "own.csv has 391").count == 0


def test_reasons_in_words() -> None:
    (one,) = left_out("circuit.documents", "documents", {"no salient sentence": 3}, 40)
    assert str(one) == ("circuit.documents: 3 of 40 documents are left out: no salient sentence")
