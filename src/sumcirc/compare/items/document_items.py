"""Documents with their reference summaries as items: the summary is read token by token.

Both models read the document in its prompt and the reference summary; the metric is the mean
log-probability of the summary's tokens and EOS.

The first token is in no span: attention that finds nothing to attend to goes there, whatever token
it is (the attention sink), and would swamp what a head gives to the words of the span.
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

    Spans: `document` (what is in neither of the next two), `salient`, `distractor` where asked
    for, `prompt` (its frame) and `summary` (with all but the last of its tokens, EOS, after which
    nothing is read).

    Args:
        salient, distractor: characters whose tokens, all that touch them, are in the span.

    Raises:
        UserError: no document gives an item, or the tokenizer does not know its tokens' places.
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
        make: raises NoExample where a document gives none.

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
        marked: characters of the document by name; a token that touches two is of the first.

    Returns:
        The example with the spans `document` (what is not marked), every name in `marked`,
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
    """From an article of the wire to all mentions of its key facts.

    Args:
        seed: of the articles, `data.seed`; the finder raises UserError as `wire_article` does.
    """
    return lambda item: [(span.start, span.end) for span in wire_article(item, seed).salient]


def wire_distractor(seed: int) -> FindSpans:
    """From an article of the wire to all mentions of its second event's facts.

    Args:
        seed: of the articles, `data.seed`; the finder raises UserError as `wire_article` does.
    """

    def find(item: Document) -> list[tuple[int, int]]:
        facts = wire_article(item, seed).distractor
        return [place for value in facts.values() for place in mentioned(item.document, value)]

    return find


def mentioned(text: str, value: str) -> list[tuple[int, int]]:
    """Where a fact stands in a text."""
    return [(start, start + len(value)) for start in mentions(text, value)]


def wire_article(item: Document, seed: int) -> WireArticle:
    """What is known of a document of the wire.

    Raises:
        UserError: it is none, or one made with another seed.
    """
    try:
        article = article_of(item.id, seed)
    except UserError:
        article = None
    if article is None or article.document != item.document:
        raise UserError(
            f"compare: `{item.id}` is no article of the built-in wire with seed {seed}, so its"
            " facts are not known; take data=wire"
        )
    return article
