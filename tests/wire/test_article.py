"""Recognising facts in a text."""

from __future__ import annotations

import pytest

from sumcirc.wire import article, facts_found, plain_text, wrong_facts_found
from sumcirc.wire.article import mentions


@pytest.mark.parametrize(
    ("text", "value", "offsets"),
    [
        ("Okafor led 37 guests out.", "Okafor", [0]),
        ("It was Okafor's third fire; Okafor said so.", "Okafor", [7, 28]),
        ("The Okafors and Okaforson left.", "Okafor", []),
        ("okafor", "Okafor", []),
        ("In Port Ellery-born Tran's words", "Port Ellery", [3]),
        ("Port  Ellery", "Port Ellery", []),
        ("She saved 37.", "37", [10]),
        ("137 of 370 and 37th", "37", []),
        ("1,284 votes", "284", []),
        ("1,284 votes", "1", []),
        ("1,284, then 1,284.", "1,284", [0, 12]),
        ("11,284 and 1,284,000", "1,284", []),
        ("3.37 percent and 37.5 degrees", "37", []),
    ],
)
def test_mentions_are_whole_words_and_whole_numbers(
    text: str, value: str, offsets: list[int]
) -> None:
    assert mentions(text, value) == offsets


def test_facts_found_says_which_facts_a_text_states() -> None:
    item = article("test", 3)
    facts = item.facts
    assert facts_found(item, item.summary) == dict.fromkeys(facts, True)
    assert facts_found(item, "") == dict.fromkeys(facts, False)
    partly = f"{facts['who']}s saw {facts['how_many']} people in {facts['where']}"
    assert facts_found(item, partly) == {
        "who": False,
        "where": True,
        "when": False,
        "how_many": True,
    }


def test_facts_of_the_second_event_are_wrong_in_a_summary() -> None:
    items = [article("test", number) for number in range(40)]
    assert all(item.distractor for item in items)
    for item in items:
        assert not any(wrong_facts_found(item, item.summary).values())
        assert all(wrong_facts_found(item, item.document).values())


def test_plain_text_has_no_summary() -> None:
    item = article("pretrain", 0)
    assert plain_text(item) == item.document
    assert item.summary not in plain_text(item)
