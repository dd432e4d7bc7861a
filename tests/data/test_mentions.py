"""Tests which mentions are found in a text, and which of them another text supports."""

from __future__ import annotations

import pytest

from sumcirc.data.entities import names
from sumcirc.data.mentions import TextIndex, mentions


def found(text: str, context: str = "") -> list[tuple[str, str, object]]:
    return [(text[one.start : one.end], one.kind, one.value) for one in mentions(text, context)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It took 1,204 men, 3.5 days and two boats.", [1204, 3.5, 2]),
        ("twenty-one men, two dozen, three hundred and five", [21, 24, 305]),
        ("a million, 41.1 million, two thousand and one", [1e6, 41.1e6, 2001]),
        ("jailed for eight and six years", [8, 6]),
        ("one of the ones; hundreds, half a dozen", []),
        ("at first, a second, the third and the 18th", [3, 18]),
        ("an 18-year-old won 3-1 in 23,1616", [18, 3, 1, 23, 1616]),
        ("\u00a320m, $5k, 10bn, 5m deep", [20e6, 5000, 10e9, 5]),
        ("model GPT2, 3D glasses", []),
        ("$59. 95, $ 5. 50 off; it cost $1,200. 42", [59.95, 5.5, 1200.42]),
        ("it cost $59. 195 men and $7. 12-year-olds left in 2. 10", [59, 195, 7, 12, 2, 10]),
    ],
)
def test_numbers(text: str, expected: list[float]) -> None:
    assert [value for _, kind, value in found(text) if kind in ("number", "date")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on Monday, Jan. 3, 2015", ["monday", "january", 2015]),
        ("May I ask? It may March on.", []),
        ("in May, since March 2, on Sun", ["may", "march", "sunday"]),
        ("at 4 p.m., 10:30 or 9:00", [4, "10:30", 9]),
        ("in the 1990s, the '80s", ["90s", "80s"]),
        ("1,815 men and $2000", []),
    ],
)
def test_dates(text: str, expected: list[object]) -> None:
    assert [value for _, kind, value in found(text) if kind == "date"] == expected


def test_names_speakers_and_each_value_once() -> None:
    text = "Then #Person_1# met Mr. Smith Jr. and Smith's GANs; U.S. and #person1# left."
    assert found(text) == [
        ("#Person_1#", "speaker", "#person1#"),
        ("Smith Jr", "name", ("smith",)),
        ("GANs", "name", ("GAN",)),
        ("U.S", "name", ("US",)),
    ]
    assert found("at 9:30 AM") == [("9:30 AM", "date", "9:30")]
    assert found("on the Fourth Plinth") == [("Fourth Plinth", "name", ("fourth", "plinth"))]


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        # the first word of a sentence: evidence is in the context, or in what follows
        ("Trains stopped.", "", []),
        ("Lisbon waited.", "Trains to Lisbon ran.", ["Lisbon"]),
        ("Police waited.", "Metropolitan Police said the police wait.", []),
        ("Mary tells #Person1# a story.", "", ["Mary"]),
        ("Mary's story.", "", ["Mary"]),
        ("Mary and John left.", "", ["Mary", "John"]),
        ("Ada Lovelace wrote.", "", ["Ada Lovelace"]),
        ("James is late. Sally says so. Finally Bob left.", "", ["James", "Sally", "Bob"]),
        ("Trains waited for us. Running is fun. Former pilot says so.", "", []),
        ("Smith: Many people agree.", "by Ada Smith", ["Smith"]),
        ("NASA waits.", "", ["NASA"]),
    ],
)
def test_the_first_word_of_a_sentence(text: str, context: str, expected: list[str]) -> None:
    assert [text[one.start : one.end] for one in names(text, context)] == expected


DOCUMENT = (
    "(CNN)John (pictured) Smith, an American, met the United Nations in Iran on 3/5/2015, at 10:30."
    " Convolutional neural networks cost $ 32. 42 twice. Al-Qaeda and the UK's Beyonc\u00e9 left"
    " the prime minister, David Cameron, in Sept. #Person1#: eleven or 5,000 men?"
)


@pytest.mark.parametrize(
    ("statement", "stated"),
    [
        ("John Smith", True),
        ("Smith", True),
        ("Mary Smith", False),
        ("John Cameron", False),  # both words, but of two people
        ("Smith John", False),
        ("Jane Smythe", False),  # the same initials
        ("United Kingdom Independence Party", False),
        ("American John Smith", True),
        ("Prime Minister David Cameron", True),
        ("Iranian", True),
        ("Iraqi", False),
        ("U.N", True),
        ("UN", True),
        ("UNESCO", False),
        ("the US", True),
        ("the EU", False),
        ("the United Kingdom", True),
        ("CNNs", True),
        ("Al Qaeda", True),
        ("BEYONCE", True),
        ("Beyonce", True),
        ("11 and 5,000 and $32.42", True),
        ("two", True),  # twice
        ("12", False),
        ("May, September, 2015 and 10:30", True),
        ("June", False),
        ("2016", False),
        ("#Person1#", True),
        ("#Person2#", False),
    ],
)
def test_what_a_document_states(statement: str, stated: bool) -> None:
    index = TextIndex(DOCUMENT)
    checked = mentions(f"It was in {statement} again", DOCUMENT)
    assert checked
    assert all(index.states(one) for one in checked) is stated


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("Iraqi", "Iraq", True),
        ("Somali", "Somalia", True),
        ("Russian", "Russia", True),
        ("British", "Britain", True),
        ("Chinese", "China", True),
        ("Ruoji", "Ruojia", False),
        ("Juli", "Julia", False),
        ("South African", "South Africa, the African", True),
    ],
)
def test_countries_and_their_adjectives(name: str, other: str, same: bool) -> None:
    for text, document in ((name, other), (other.partition(",")[0], name)):
        (mention,) = mentions(f"It was {text}", "")
        assert TextIndex(f"It is {document} again.").states(mention) is same


def test_a_surname_states_the_full_name_only_where_asked() -> None:
    (name,) = mentions("It was John Smith", "")
    index = TextIndex("Mr. Smith left.")
    assert (index.states(name), index.states(name, partial=True)) == (False, True)


@pytest.mark.parametrize(
    "text", ["", " ", "\u0301", "#_#", "'s 's", "...", "\u00bd \u00b2", "A.", "\u0661"]
)
def test_odd_texts(text: str) -> None:
    index = TextIndex(text)
    assert all(index.states(one) for one in mentions(text, text))
