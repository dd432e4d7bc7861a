"""Every phrasing can be told, and every kind has enough of them."""

from __future__ import annotations

import pytest

from sumcirc.wire import FACTS, KINDS
from sumcirc.wire.event_kind import EventKind, phrasings
from sumcirc.wire.kinds import BY_NAME
from sumcirc.wire.template import slots_always, slots_ever

KNOWN = {*FACTS, "org", "rival", "he", "his", "him"}
ELSEWHERE = {name: [text.replace("||", " ") for text in BY_NAME[name].elsewhere] for name in KINDS}
EACH = pytest.mark.parametrize("kind", BY_NAME.values(), ids=KINDS)


def test_about_a_dozen_kinds() -> None:
    assert len(KINDS) >= 12
    assert all(BY_NAME[name].name == name for name in KINDS)


@EACH
def test_slots_are_known(kind: EventKind) -> None:
    keys = set.intersection(*(set(setting) for setting in kind.settings))
    allowed = KNOWN | keys | {f"a {key}" for key in keys}
    told = (kind.leads, kind.details, kind.background, kind.person_quotes, kind.other_quotes)
    for templates in (*told, kind.official_quotes, ELSEWHERE[kind.name], kind.summaries):
        for template in templates:
            assert slots_ever(template) <= allowed, template
    for source in kind.sources:
        assert slots_ever(source) <= allowed | {"voice"}, source
    assert all(len(set(map(len, kind.settings))) == 1 for _ in kind.settings)


@EACH
def test_every_fact_has_several_sentences(kind: EventKind) -> None:
    assert len(kind.leads) >= 7
    for fact in FACTS:
        assert sum(fact in slots_always(template) for template in kind.details) >= 3, fact
    for template in kind.details:
        assert slots_always(template) & set(FACTS), template
    for pool in (kind.background, kind.person_quotes, kind.other_quotes, kind.official_quotes):
        assert len(pool) >= 4


@EACH
def test_no_sentence_states_everything_but_the_summaries(kind: EventKind) -> None:
    for template in (*kind.leads, *kind.details):
        assert len(slots_ever(template) & set(FACTS)) <= 3, template
    for template in kind.summaries:
        assert slots_always(template) >= set(FACTS), template
        assert all(template.count("{" + fact + "}") == 1 for fact in FACTS), template
    for template in ELSEWHERE[kind.name]:
        assert slots_always(template) >= set(FACTS), template
    for template in kind.elsewhere_summaries:
        assert slots_always(template) == slots_ever(template) >= set(FACTS), template
        assert all(template.count("{" + fact + "}") == 1 for fact in FACTS), template
        # where the event was on an unnamed Friday, `on {when}` is exchanged for `on a {when}`
        assert "on {when}" in template, template


@EACH
def test_the_second_events_summary_needs_no_more_than_is_told_of_it(kind: EventKind) -> None:
    def topics(names: frozenset[str]) -> set[str]:
        return {name.removeprefix("a ") for name in names}

    for told, summary in zip(ELSEWHERE[kind.name], kind.elsewhere_summaries, strict=True):
        assert topics(slots_ever(summary)) <= topics(slots_always(told)), summary
        assert not summary.startswith(tuple("{" + fact for fact in FACTS[1:])), summary


@EACH
def test_nothing_but_key_facts_of_details_is_optional(kind: EventKind) -> None:
    for template in (*kind.leads, *kind.details):
        always, ever = slots_always(template), slots_ever(template)
        assert always & set(FACTS) == ever & set(FACTS), template


@EACH
def test_pronouns_follow_their_person(kind: EventKind) -> None:
    told = (*kind.leads, *kind.details, *kind.background, *ELSEWHERE[kind.name], *kind.summaries)
    for template in told:
        for pronoun in ("{he}", "{his}", "{him}"):
            if pronoun in template:
                assert -1 < template.index("{who}") < template.index(pronoun), template


@EACH
def test_background_states_no_key_fact(kind: EventKind) -> None:
    for template in (*kind.background, *kind.person_quotes, *kind.other_quotes):
        assert not slots_ever(template) & set(FACTS), template


def test_phrasings_are_lines_with_deeper_lines_joined() -> None:
    text = """
        one sentence
        another that
            goes on
            and on
        last
    """
    assert phrasings(text) == ("one sentence", "another that goes on and on", "last")
    with pytest.raises(ValueError, match="outside the margin: '  b'"):
        phrasings("    a\n  b")
