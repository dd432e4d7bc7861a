"""A wire article: text, reference summary, key facts and their positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

FACTS: tuple[str, ...] = ("who", "where", "when", "how_many")
SPLITS: tuple[str, ...] = ("pretrain", "train", "validation", "test")


@dataclass(frozen=True)
class Span:
    """A span of text in character offsets [start, end); `role` is one of FACTS, or `main`."""

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class WireArticle:
    """An article with everything that is known about it.

    The value of a fact is the string that identifies it, the same in document and summary: surname,
    town, weekday, number.

    Attributes:
        kind: name of the kind of event.
        facts: key facts of the main event, by role.
        distractor: the same facts of the second event that the article mentions.
    """

    id: str
    kind: str
    document: str
    summary: str
    facts: dict[str, str]
    distractor: dict[str, str]
    salient: tuple[Span, ...]  # every mention of a key fact in the document
    salient_sentences: tuple[Span, ...]  # sentences that report key facts of the main event
    answers: tuple[Span, ...]  # each key fact in the summary, in text order
    entities: tuple[str, str, str]  # full name of the person, place, organization


def mentions(text: str, value: str) -> list[int]:
    """Return the offsets at which `value` occurs in `text` as a whole word or number.

    `284` isn't found in `1,284`, nor `Ellery` in `Ellerys`; a possessive or a hyphen ends a word.

    Args:
        text: the text to search.
        value: a word or number.
    """
    edge = r"(?<![\w]){}(?![\w])"
    if value[:1].isdigit():
        edge = r"(?<![\w])(?<![\d][.,]){}(?![\w])(?![.,]\d)"
    return [match.start() for match in re.finditer(edge.format(re.escape(value)), text)]


def facts_found(article: WireArticle, text: str) -> dict[str, bool]:
    """Return for each key fact of the main event whether a text states it.

    Args:
        article: the article.
        text: such as a summary of it.
    """
    return {role: bool(mentions(text, value)) for role, value in article.facts.items()}


def plain_text(article: WireArticle) -> str:
    """Return the text for a pretraining corpus: the article without its summary."""
    return article.document
