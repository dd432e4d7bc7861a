"""What a wire article is made of: text, reference summary, key facts and where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass

FACTS: tuple[str, ...] = ("who", "where", "when", "how_many")
SPLITS: tuple[str, ...] = ("pretrain", "train", "validation", "test")


@dataclass(frozen=True)
class Span:
    """A stretch of text in character offsets; `role` is a fact of FACTS, or `main`."""

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class WireArticle:
    """One article with everything that is known about it.

    A fact is the string by which it is recognised, the same in document and summary: surname,
    town, weekday, number. `distractor` holds the same facts of the article's second event.
    """

    id: str
    kind: str
    document: str
    summary: str
    facts: dict[str, str]
    distractor: dict[str, str]
    salient: tuple[Span, ...]  # every mention of a key fact in the document
    salient_sentences: tuple[Span, ...]  # sentences which report the main event's key facts
    answers: tuple[Span, ...]  # each key fact in the summary, in the order of the text
    entities: tuple[str, str, str]  # full name of the person, place, organization


def mentions(text: str, value: str) -> list[int]:
    """Offsets at which `value` stands in `text` as a whole word, or as a whole number.

    `284` isn't found in `1,284`, nor `Ellery` in `Ellerys`; a possessive or a hyphen ends a word.
    """
    edge = r"(?<![\w]){}(?![\w])"
    if value[:1].isdigit():
        edge = r"(?<![\w])(?<![\d][.,]){}(?![\w])(?![.,]\d)"
    return [match.start() for match in re.finditer(edge.format(re.escape(value)), text)]


def facts_found(article: WireArticle, text: str) -> dict[str, bool]:
    """Say for each key fact of the main event whether `text`, such as a summary, states it."""
    return {role: bool(mentions(text, value)) for role, value in article.facts.items()}


def plain_text(article: WireArticle) -> str:
    """The text for a pretraining corpus: the article alone, without its summary."""
    return article.document
