"""Pairs whose corrupted document states other facts: counterfactual articles, swapped entities.

Both texts are tokenized as they are, and a pair is made only if all tokens outside the exchanged
facts are the same at the same positions. Where the reference summary states an exchanged fact, the
summary of the corrupted document would state the other one, so the correct and the wrong token are
known there.
"""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.circuits.inputs.donors import Donors, tokens_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair, summary_pair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.entities import Entity, entities
from sumcirc.data.examples import Characters, NoExample, TokenExample
from sumcirc.errors import UserError
from sumcirc.wire import article_of, twin
from sumcirc.wire.article import mentions


def counterfactual_pair(encoder: Encoder, item: Document, seed: int) -> ExamplePair:
    """Return an article of the built-in corpus, paired with the same article with other key facts.

    Args:
        encoder: turns texts into tokens.
        item: the article.
        seed: seed with which the corpus was generated.

    Raises:
        NoExample: there are no other facts with the same number of tokens.
    """

    def tokens(text: str) -> Sequence[int]:
        return tokens_of(encoder, text)

    try:
        other = twin(article_of(item.id, seed), tokens)
    except UserError:
        raise NoExample("no facts of the same token lengths") from None
    clean, answer = encoder.located(item), encoder.summary(other.summary)
    return _pair(encoder, item, clean, other.document, "counterfactual", answer)


def swapped_pair(
    encoder: Encoder, item: Document, salient: Characters, donors: Donors
) -> ExamplePair:
    """Return a document paired with one in which entities of salient sentences are exchanged.

    Entities are names, numbers and dates. Each replacement is an entity of the same kind with the
    same numbers of words and tokens. An entity of a salient sentence is exchanged wherever it
    occurs in document and summary, so that no other mention reveals the original.

    Args:
        encoder: turns texts into tokens.
        item: the clean document.
        salient: [start, end) character ranges of the salient sentences.
        donors: documents that provide the replacements.

    Raises:
        NoExample: there is no entity to exchange or no replacement for it, or the tokens of the two
            documents don't align.
    """
    clean = encoder.located(item)
    text, reference = item.document[: clean.kept], item.references[0]
    wanted = [
        one
        for one in entities(text)
        if any(start <= one.start and one.end <= end for start, end in salient)
    ]
    if not wanted:
        raise NoExample("no name, number or date in a salient sentence")
    others = _others(item, text, wanted, donors)
    if not others:
        raise NoExample("nothing of the same kind and tokens in other documents")
    places = _occurrences(text, others)
    document, _ = _exchanged(text, places, others)
    answer = _other_answer(encoder, reference, others)
    pair = _pair(encoder, item, clean, document, "swap", answer)
    if (pair.differs & ~clean.touching(places)[:-1]).any():
        raise NoExample("tokens that don't align")
    return pair


def _pair(
    encoder: Encoder,
    item: Document,
    clean: TokenExample,
    document: str,
    corruption: str,
    answer: list[int],
) -> ExamplePair:
    """Return the item paired with another document; tokens in which the two differ are salient.

    Args:
        answer: tokens of the other document's summary; empty if it is unknown.
    """
    other = encoder.located(Document(item.id, document, item.references))
    if len(other) != len(clean) or any(
        (other.spans[name] != inside).any() for name, inside in clean.spans.items()
    ):
        raise NoExample("documents of unequal length")
    salient = (clean.ids != other.ids) & clean.spans[DOCUMENT]
    return summary_pair(clean, other.ids, salient, corruption, answer)


def _others(item: Document, text: str, wanted: Sequence[Entity], donors: Donors) -> dict[str, str]:
    """Return a replacement for each wanted text that has one."""
    known = f"{text}\n{item.references[0]}"
    found: dict[str, str] = {}
    for one in wanted:
        own = text[one.start : one.end]
        if own in found:
            continue
        # the space before a word is part of its first token
        leads = {" " if known[at - 1 : at] == " " else "" for at in mentions(known, own)}
        for kind, other in donors.entities(item):
            if kind != one.kind or other.count(" ") != own.count(" ") or other in found.values():
                continue
            tokens = [(donors.tokens(lead + own), donors.tokens(lead + other)) for lead in leads]
            aligned = all(len(a) == len(b) and a[0] != b[0] for a, b in tokens)
            if aligned and not mentions(known, other):
                found[own] = other
                break
    return found


def _occurrences(text: str, others: dict[str, str]) -> list[tuple[int, int]]:
    """Return the ranges of the texts to exchange, except inside a longer entity ("New York")."""
    taken = [
        (one.start, one.end) for one in entities(text) if text[one.start : one.end] not in others
    ]
    found = []
    for own in sorted(others, key=len, reverse=True):
        for start in mentions(text, own):
            end = start + len(own)
            if not any(start < last and first < end for first, last in taken):
                taken.append((start, end))
                found.append((start, end))
    return sorted(found)


def _exchanged(
    text: str, places: Characters, others: dict[str, str]
) -> tuple[str, list[tuple[int, int]]]:
    """Return the text with the replacements, and their ranges in it."""
    pieces: list[str] = []
    moved: list[tuple[int, int]] = []
    at = length = 0
    for start, end in places:
        other = others[text[start:end]]
        pieces += [text[at:start], other]
        length += start - at
        moved.append((length, length + len(other)))
        length += len(other)
        at = end
    return "".join([*pieces, text[at:]]), moved


def _other_answer(encoder: Encoder, summary: str, others: dict[str, str]) -> list[int]:
    """Return tokens of the summary with replacements; empty if it has none or they don't align."""
    places = _occurrences(summary, others)
    if not places:
        return []
    text, moved = _exchanged(summary, places, others)
    ends = [(end, other) for (_, end), (_, other) in zip(places, moved, strict=True)]
    for mine, theirs in [*ends, (len(summary), len(text))]:
        if len(encoder.summary(summary[:mine])) != len(encoder.summary(text[:theirs])):
            return []
    return encoder.summary(text)
