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
    """Make items from documents until there are `count`.

    The spans of an item are `salient`, `distractor` if requested, `document` (its other tokens),
    `prompt` (the text around the document) and `summary` (without the last token, EOS, after which
    nothing is predicted).

    Args:
        encoder: turns documents into tokens.
        documents: the documents, in the order in which they are used.
        count: number of items wanted; None for an item from every document.
        salient, distractor: functions that return character ranges of a document; tokens that
            overlap these form the span of the same name.

    Returns:
        The items, and the number of documents that gave no item, by reason.

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
    """Make items from documents with `make` until there are `count`.

    Args:
        documents: the documents, in the order in which they are used.
        count: number of items wanted; None for an item from every document.
        make: returns the item of a document, or raises NoExample with the reason.

    Returns:
        The items, and the number of documents that gave no item, by reason.

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
    """Return the example of a document with further spans inside the document.

    Args:
        example: the result of `Encoder.located` for the document.
        marked: character ranges of the document, by name of the span; a token that overlaps
            ranges of two names belongs to the name that is listed first.

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
    """Return a function that finds all mentions of an article's key facts.

    The function takes an article of the wire, the built-in synthetic corpus whose facts are known,
    and returns character ranges. It raises UserError if the document is not such an article.

    Args:
        seed: setting `data.seed`, with which the articles were made.
    """
    return lambda item: [(span.start, span.end) for span in wire_article(item, seed).salient]


def wire_distractor(seed: int) -> FindSpans:
    """Return a function that finds all mentions of the facts of an article's second event.

    The function takes an article of the wire, the built-in synthetic corpus, and returns character
    ranges. It raises UserError if the document is not such an article.

    Args:
        seed: setting `data.seed`, with which the articles were made.
    """

    def find(item: Document) -> list[tuple[int, int]]:
        facts = wire_article(item, seed).distractor
        return [place for value in facts.values() for place in mentioned(item.document, value)]

    return find


def mentioned(text: str, value: str) -> list[tuple[int, int]]:
    """Return the character ranges at which a fact occurs in a text.

    Args:
        text: the text to search.
        value: the fact as it is written in the text.
    """
    return [(start, start + len(value)) for start in mentions(text, value)]


def wire_article(item: Document, seed: int) -> WireArticle:
    """Return the article of the wire (the built-in corpus) from which a document was made.

    Args:
        item: the document.
        seed: setting `data.seed`, with which the articles were made.

    Raises:
        UserError: the document is not an article of the wire with this seed.
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
