"""Documents with their reference summaries as items; every token of the summary is predicted.

Both models read the document in its prompt and the reference summary; the metric is the mean
log-probability of the summary's tokens and EOS.

The first token belongs to no span: attention that has no target goes there, whatever token it is
(the attention sink), and would dominate the attention that a head pays to the words of a span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY, Encoder
from sumcirc.data.examples import Characters, TokenExample, first_made
from sumcirc.errors import UserError
from sumcirc.wire import WireArticle, article_of
from sumcirc.wire.article import mentions

FindSpans = Callable[[Document], Characters]


def document_items(
    encoder: Encoder,
    documents: Iterable[Document],
    count: int | None,
    salient: FindSpans,
    distractor: FindSpans | None = None,
) -> tuple[list[TokenExample], dict[str, int]]:
    """Return the first `count` items, or all, and how many documents gave none, by reason.

    Spans: `document` (the rest of it), `salient`, `distractor` if requested, `prompt` (the text
    around the document) and `summary` (without the last token, EOS, after which nothing is
    predicted).

    Args:
        encoder: makes the tokens.
        documents: in the order in which they are used.
        count: number of items wanted; None for all.
        salient, distractor: return character ranges of a document; tokens that overlap them form
            the span.

    Raises:
        UserError: no document gives an item, or the tokenizer does not report character offsets.
    """

    def make(item: Document) -> TokenExample:
        marked = {"salient": salient(item)}
        if distractor is not None:
            marked["distractor"] = distractor(item)
        return with_spans(encoder.located(item), marked).until(-1)

    return items_of(documents, count, make)


def items_of(
    documents: Iterable[Document], count: int | None, make: Callable[[Document], TokenExample]
) -> tuple[list[TokenExample], dict[str, int]]:
    """Return the first `count` items, or all, and how many documents gave none, by reason.

    Args:
        documents: in the order in which they are used.
        count: number of items wanted; None for all.
        make: returns a document's item, or raises NoExample.

    Raises:
        UserError: no document gives an item.
    """
    found, dropped = first_made(documents, count, make)
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise UserError(
            f"compare: no document gives an item ({reasons or 'there is none'}); take other"
            " documents or a model with a longer context"
        )
    return found, dropped


def with_spans(example: TokenExample, marked: Mapping[str, Characters]) -> TokenExample:
    """Return a document's example (`Encoder.located`) with further spans of its document.

    Args:
        example: of the document.
        marked: character ranges of the document by name; a token that overlaps two belongs to the
            first.

    Returns:
        The example with the spans `document` (tokens that are not marked), every name in `marked`,
        `prompt` and `summary`; the first token is in none of them.
    """
    behind_first = np.arange(len(example)) > 0
    rest = example.spans[DOCUMENT] & behind_first
    found: dict[str, np.ndarray] = {}
    for name, characters in marked.items():
        touched = example.touching(characters)
        found[name] = rest & touched
        rest = rest & ~touched
    frame, summary = example.spans[PROMPT] & behind_first, example.spans[SUMMARY]
    spans = {DOCUMENT: rest, **found, PROMPT: frame, SUMMARY: summary}
    return replace(example, spans=spans, offsets=None)


def wire_salient(seed: int) -> FindSpans:
    """Return a function from an article of the wire to all mentions of its key facts.

    The wire is the built-in synthetic corpus; its articles are known in full.

    Args:
        seed: of the articles, `data.seed`; the function raises UserError like `wire_article`.
    """
    return lambda item: [(span.start, span.end) for span in wire_article(item, seed).salient]


def wire_distractor(seed: int) -> FindSpans:
    """Return a function from an article of the wire to all mentions of its second event's facts.

    Args:
        seed: of the articles, `data.seed`; the function raises UserError like `wire_article`.
    """

    def find(item: Document) -> list[tuple[int, int]]:
        facts = wire_article(item, seed).distractor
        return [place for value in facts.values() for place in mentioned(item.document, value)]

    return find


def mentioned(text: str, value: str) -> list[tuple[int, int]]:
    """Return the character ranges at which a fact occurs in a text.

    Args:
        text: to search.
        value: the fact.
    """
    return [(start, start + len(value)) for start in mentions(text, value)]


def wire_article(item: Document, seed: int) -> WireArticle:
    """Return the article from which a document of the wire was made.

    Args:
        item: the document.
        seed: of the articles, `data.seed`.

    Raises:
        UserError: the document is not of the wire, or was made with another seed.
    """
    try:
        article = article_of(item.id, seed)
    except UserError:
        article = None
    if article is None or article.document != item.document:
        raise UserError(
            f"compare: `{item.id}` is not an article of the built-in wire with seed {seed}, so its"
            " facts are unknown; use data=wire"
        )
    return article
