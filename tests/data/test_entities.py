"""What counts as a name, a number or a date."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sumcirc.data.entities import entities


def found(text: str) -> list[tuple[str, str]]:
    return [(text[one.start : one.end], one.kind) for one in entities(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the first word of a sentence is none, unless it is one inside a sentence
        ("Trains stopped.", []),
        ("Lisbon waited. Trains from Lisbon ran.", [("Lisbon", "name"), ("Lisbon", "name")]),
        ("It was Ada Lovelace's note.", [("Ada Lovelace", "name")]),
        ("He met Mr Smith and Dr. O'Brien.", [("Smith", "name"), ("O'Brien", "name")]),
        ('He said: "Rain fell on Porto."', [("Porto", "name")]),
        ("(CNN)Rain fell.", [("CNN", "acronym")]),
        ("We told NASA and the U.S. team.", [("NASA", "acronym"), ("U.S", "acronym")]),
        ("See example.com or Billboard.com now.", []),
        ("Ask #Person1# or @Someone.", []),
        ("In S\u00e3o Tom\u00e9 it rained.", [("S\u00e3o Tom\u00e9", "name")]),
        ("trains to porto stopped", []),
        ("It took 1,204 men, 3.5 days and two boats.", [("1,204", "number"), ("3.5", "number"), ("two", "number_word")]),  # noqa: E501
        ("It cost $3,000.", [("3,000", "number")]),
        ("On Monday, 3 May 2015, or May 31", [("Monday", "weekday"), ("3", "day"), ("May", "month"), ("2015", "year"), ("May", "month"), ("31", "day")]),  # noqa: E501
        ("Born in the 1990s, the 18th of 45.", [("45", "number")]),
        ("The 1600 men of 1600.", [("1600", "year"), ("1600", "year")]),
        ("", []),
    ],
)  # fmt: skip
def test_kinds(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_spans_are_in_order_and_apart() -> None:
    text = "On 3 May 2015 the U.N. said Ada Lovelace of Porto owed 1,204 to two of NATO's men. " * 3
    spans = [(one.start, one.end) for one in entities(text)]
    assert len(spans) == 27
    assert all(start < end for start, end in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
