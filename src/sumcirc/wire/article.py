"""A wire article: text, reference summary, key facts and their positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

FACTS: tuple[str, ...] = ("who", "where", "when", "how_many")
SPLITS: tuple[str, ...] = ("pretrain", "train", "validation", "test")
MAIN, SECOND = "main", "second"
EVENTS: tuple[str, ...] = (MAIN, SECOND)


@dataclass(frozen=True)
class Span:
    """A part of a text.

    Attributes:
        start, end: character offsets; `end` is that after the last character.
        role: what the part is: a key fact (one of `FACTS`), or `main` for a sentence about the main
            event and `other` for one about the second event.
    """

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class WireArticle:
    """A generated article with its summary and its key facts.

    The summary reports the main event, or with the same text the second event. In the latter case
    the two events exchange their roles: `facts` are those of the second event, and `distractor`
    those of the main event.

    A key fact is given as the text that stands for it in document and summary: the person's surname
    (`who`), the town (`where`), the weekday (`when`) or the number (`how_many`).

    Attributes:
        id: id of the article, such as `test-000017`, or `test-000017-second` if the summary reports
            the second event.
        kind: name of the kind of event that the summary reports, such as `fire`.
        document: text of the article.
        summary: the reference summary.
        facts: key facts of the summary's event, by role (`FACTS`).
        distractor: those facts of the other event that the document states, by role.
        salient: every mention of a key fact of the summary's event in the document.
        salient_sentences: the sentences of the document that report the key facts of this event.
        distractor_sentences: the sentences of the document that report those of the other event.
        answers: the key facts in the summary, in the order of the text.
        entities: full name of the person, the place, and the organization of the summary's event.
    """

    id: str
    kind: str
    document: str
    summary: str
    facts: dict[str, str]
    distractor: dict[str, str]
    salient: tuple[Span, ...]  # every mention of a key fact in the document
    salient_sentences: tuple[Span, ...]  # sentences that report key facts of the summary's event
    distractor_sentences: tuple[Span, ...]  # sentences that report the other event
    answers: tuple[Span, ...]  # each key fact in the summary, in text order
    entities: tuple[str, str, str]  # full name of the person, place, organization


def mentions(text: str, value: str) -> list[int]:
    """Return the offsets at which `value` occurs in `text` as a whole word or number.

    For example, `284` isn't found in `1,284`, and `Ellery` isn't found in `Ellerys`. A word also
    ends before `'s` or a hyphen.

    Args:
        text: the text to search.
        value: a word or number.
    """
    edge = r"(?<![\w]){}(?![\w])"
    if value[:1].isdigit():
        edge = r"(?<![\w])(?<![\d][.,]){}(?![\w])(?![.,]\d)"
    return [match.start() for match in re.finditer(edge.format(re.escape(value)), text)]


def facts_found(article: WireArticle, text: str) -> dict[str, bool]:
    """Return for each key fact of the summary's event, by role, whether a text states it.

    Args:
        article: the article.
        text: the text, such as a summary of the article.
    """
    return {role: bool(mentions(text, value)) for role, value in article.facts.items()}


def wrong_facts_found(article: WireArticle, text: str) -> dict[str, bool]:
    """Return, by role, whether a text states each fact of the event that the summary leaves out.

    A summary reports one of two events, so a fact of the other one is of the wrong event.

    Args:
        article: the article; of the other event, only facts that the document states are counted.
        text: the text, such as a summary of the article.
    """
    return {role: bool(mentions(text, value)) for role, value in article.distractor.items()}


def plain_text(article: WireArticle) -> str:
    """Return the text of an article that pretraining uses: the document without the summary."""
    return article.document
