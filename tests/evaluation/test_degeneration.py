"""Tests of repeated n-grams, and of unended, empty and copied summaries."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.evaluation.baselines import lead, oracle, random_sentences
from sumcirc.evaluation.degeneration import Summary, degeneration

DOCUMENT = "The bank of Oslo was sold today. Nobody in Lima had seen it coming.\nIt fell by 3.5 %."


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("A bank was sold.", (0, 0, None, 0, 0)),
        ("a b a b a b", (3 / 5, 2 / 4, None, 0, 0)),  # ab, ba; aba, bab
        ("", (None, None, None, 1, 0)),
        (" ...", (None, None, None, 1, 0)),
        ("Oslo", (None, None, None, 0, 1)),
        ("It fell by 3.5 %.\nThe bank of Oslo was sold today.", (0, 0, None, 0, 1)),
        ("The bank of Oslo was sold. Nobody saw it.", (0, 0, None, 0, 0)),
        ("he bank of Oslo", (0, 0, None, 0, 0)),  # no part of a word
        (Summary("Oslo", ended=True), (None, None, 0, 0, 1)),
        (Summary("Oslo", ended=False), (None, None, 1, 0, 1)),
    ],
)
def test_rates(summary: str, expected: tuple[Any, ...]) -> None:
    found = degeneration(DOCUMENT, summary)
    assert tuple(found.values()) == pytest.approx(expected)


def test_baselines_are_copies() -> None:
    texts = lead(DOCUMENT, 2), random_sentences(DOCUMENT, "a", 2), oracle(DOCUMENT, ["Lima fell."])
    assert [degeneration(DOCUMENT, text)["copied"] for text in texts] == [1, 1, 1]


def test_a_summary_is_its_text() -> None:
    summary = Summary("Oslo", ended=False)
    assert summary == "Oslo"
    assert (str(summary), summary.ended) == ("Oslo", False)
    assert type(str(summary)) is str
