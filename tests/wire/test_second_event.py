"""Articles whose summary reports the second event: the same text with the roles exchanged."""

from __future__ import annotations

import re

import pytest

from sumcirc.data.sentences import split_sentences
from sumcirc.errors import UserError
from sumcirc.wire import (
    FACTS,
    MAIN,
    SECOND,
    WireArticle,
    article,
    article_of,
    articles,
    facts_found,
    wrong_facts_found,
)
from sumcirc.wire.article import mentions
from sumcirc.wire.kinds import BY_NAME


@pytest.fixture(scope="module")
def both() -> list[tuple[WireArticle, WireArticle]]:
    pairs = zip(articles("train", 1500), articles("train", 1500, event=SECOND), strict=True)
    return list(pairs)


def test_the_text_is_the_same_and_the_events_exchange_their_roles(
    both: list[tuple[WireArticle, WireArticle]],
) -> None:
    for main, second in both:
        assert second.document == main.document
        assert second.summary != main.summary
        assert second.id == f"{main.id}-second"
        assert (second.facts, second.distractor) == (main.distractor, main.facts)
        assert second.salient_sentences == main.distractor_sentences
        assert second.distractor_sentences == main.salient_sentences
        assert not set(second.salient) & set(main.salient)


def test_the_summary_states_the_facts_of_its_event_alone(
    both: list[tuple[WireArticle, WireArticle]],
) -> None:
    for main, second in both:
        for item in (main, second):
            assert all(facts_found(item, item.summary).values())
            assert not any(wrong_facts_found(item, item.summary).values())
        assert not any(facts_found(second, main.summary).values())
        assert all(wrong_facts_found(second, main.summary).values())


def test_spans_are_all_mentions_of_the_facts(both: list[tuple[WireArticle, WireArticle]]) -> None:
    for _, item in both:
        assert tuple(item.facts) == FACTS
        for text, spans in ((item.document, item.salient), (item.summary, item.answers)):
            for role, value in item.facts.items():
                marked = [span.start for span in spans if span.role == role]
                assert marked == mentions(text, value) != []
            assert all(text[span.start : span.end] == item.facts[span.role] for span in spans)
            # a byte-level BPE has other tokens for a word without a space before it
            assert all(text[span.start - 1] == " " for span in spans)
        for fact in item.salient:
            assert any(s.start <= fact.start < s.end for s in item.salient_sentences)


def test_an_id_gives_the_article_again(both: list[tuple[WireArticle, WireArticle]]) -> None:
    for main, second in both[:20]:
        assert article_of(main.id) == main == article("train", int(main.id[-6:]), event=MAIN)
        assert article_of(second.id) == second
    assert article_of("test-000004-second", seed=3) == article("test", 4, 3, SECOND)
    for bad in ("test-000004-first", "test-000004-main", "test-second"):
        with pytest.raises(UserError, match=f"wire article '{bad}': ids look like test-000017 or"):
            article_of(bad)
    with pytest.raises(UserError, match="wire event 'third': choose from main, second"):
        article("test", 4, event="third")


def test_the_summary_is_a_clean_sentence_in_other_words(
    both: list[tuple[WireArticle, WireArticle]],
) -> None:
    for main, item in both:
        text = item.summary
        assert text.rstrip(".") not in item.document
        assert len(split_sentences(text)) == 1
        assert 11 < len(text.split()) < 24
        assert re.match(r"[A-Z]", text)
        assert text.endswith(".")
        assert not re.search(r"  |\s[.,;:]|,,|\.\.|[{}\[\]|<>*]|\b(\w+) \1\b", text), text
        assert not re.search(r"\b[Aa] (?=[aeio]|u(?!ni|ti|se))|\b[Aa]n (?![aeiou]|honor)", text)
        # whether it was on Friday or on a Friday is as the document has it
        day = item.facts["when"]
        assert (f"a {day}" in text) == (f"a {day}" in main.document), item


def test_the_summary_says_nothing_that_the_document_does_not(
    both: list[tuple[WireArticle, WireArticle]],
) -> None:
    for _, item in both:
        assert item.entities[0] in item.document
        kind = BY_NAME[item.kind]
        values = {value for setting in kind.settings for value in setting.values()}
        for value in {*values, *kind.roles}:
            if mentions(item.summary.lower(), value.lower()):
                assert mentions(item.document.lower(), value.lower()), (value, item)
