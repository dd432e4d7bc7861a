"""The notation of phrasings, and how a person is introduced."""

from __future__ import annotations

import pytest

from sumcirc.wire.draw import Draw
from sumcirc.wire.template import (
    Alternatives,
    Cast,
    Slot,
    Teller,
    parse,
    slots_always,
    slots_ever,
    with_article,
)

CAST = Cast(
    kind="fire",
    first_name="Grace",
    surname="Okafor",
    woman=True,
    role="firefighter",
    place="Port Ellery",
    weekday="Tuesday",
    number="37",
    organization="the Harbor Fire Department",
    rival="the Heron Fire Brigade",
    voice="Ivo Brandt",
    setting={"site": "apartment block"},
)


def _teller(*styles: str) -> Teller:
    return Teller(CAST, Draw("test"), styles=styles or ("role",))


def test_parse_reads_alternatives_slots_and_quotes() -> None:
    assert parse("a [b|{who} [c|d]]: <x>") == (
        "a ",
        Alternatives((("b",), (Slot("who"), " ", Alternatives((("c",), ("d",)))))),
        ': "x"',
    )


@pytest.mark.parametrize("template", ["a [b", "a] b", "a | b", "a {b", "a b}"])
def test_parse_refuses_stray_brackets(template: str) -> None:
    with pytest.raises(ValueError, match="template"):
        parse(template)


def test_slots_always_and_ever() -> None:
    template = "{who} [in {where}|at home in {where} on {when}] [|{org}]"
    assert slots_always(template) == {"who", "where"}
    assert slots_ever(template) == {"who", "where", "when", "org"}


def test_person_is_introduced_once() -> None:
    teller = _teller("role")
    assert (
        teller.tell("{who} ran, and {who} fell").text
        == "Firefighter Grace Okafor ran, and Okafor fell."
    )
    assert teller.tell("then {who} rose").text == "Then Okafor rose."


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{who} ran", "Grace Okafor, a firefighter, ran."),
        ("{who}, who ran, fell", "Grace Okafor, a firefighter, who ran, fell."),
        ("it was {who}", "It was Grace Okafor, a firefighter."),
        ("{who}'s hat", "Firefighter Grace Okafor's hat."),
    ],
)
def test_apposition_takes_the_commas_it_needs(template: str, text: str) -> None:
    assert _teller("apposition").tell(template).text == text


def test_facts_are_where_their_offsets_say() -> None:
    sentence = _teller("apposition").tell("in {where}, {who} saw {how_many} [men|men] on {when}")
    assert sentence.text == "In Port Ellery, Grace Okafor, a firefighter, saw 37 men on Tuesday."
    found = {role: sentence.text[at:].split(" ")[0].strip(",.") for at, role in sentence.facts}
    assert found == {"where": "Port", "who": "Okafor", "how_many": "37", "when": "Tuesday"}


def test_sentences_end_once_and_begin_with_a_capital() -> None:
    teller = _teller()
    assert (
        teller.tell("{org} said: <We know.>").text == 'The Harbor Fire Department said: "We know."'
    )
    assert (
        teller.tell("<We know,> {org} said").text == '"We know," the Harbor Fire Department said.'
    )
    assert teller.tell("from {where} - {capital}{a site} fell").text == (
        "From Port Ellery - An apartment block fell."
    )


def test_speaker_is_a_pronoun_only_where_that_is_clear() -> None:
    said = {_said(["{who} ran"], seed) for seed in range(40)}
    assert said == {"She said.", "Okafor said."}
    assert {_said(["{who} ran", "it rained"], seed) for seed in range(40)} == {"Okafor said."}
    assert {_said(["{who} saw {voice}"], seed) for seed in range(40)} == {"Okafor said."}
    assert {_said([], seed) for seed in range(40)} == {"Firefighter Grace Okafor said."}


def _said(before: list[str], seed: int) -> str:
    teller = Teller(CAST, Draw(str(seed)), styles=("role",))
    for template in before:
        teller.tell(template)
    return teller.tell("{speaker} said").text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("hotel", "a hotel"),
        ("apartment block", "an apartment block"),
        ("utility chief", "a utility chief"),
        ("union leader", "a union leader"),
        ("epidemiologist", "an epidemiologist"),
        ("honorary consul", "an honorary consul"),
    ],
)
def test_indefinite_article(words: str, told: str) -> None:
    assert with_article(words) == told
