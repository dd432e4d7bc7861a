"""Documents with their reference summaries as items: the summary is read token by token.

Both models read the document in its prompt and the reference summary; the metric is the mean
log-probability of the summary's tokens and EOS.

The first token is in no span: attention that finds nothing to attend to goes there, whatever token
it is (the attention sink), and would swamp what a head gives to the words of the span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from sumcirc.circuits.inputs.donors import EncodedDocument, NoPair, encode
from sumcirc.circuits.inputs.example import DOCUMENT, PROMPT, SUMMARY
from sumcirc.compare.items.items import NOTHING, Item
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.wire import WireArticle, article_of
from sumcirc.wire.article import mentions

# from a document to character spans of its text
FindSpans = Callable[[Document], Sequence[tuple[int, int]]]


class NoItem(Exception):
    """Why a document gives no item, in words fit for counting."""


def document_items(
    encoder: Encoder,
    documents: Iterable[Document],
    count: int | None,
    salient: FindSpans,
    distractor: FindSpans | None = None,
) -> tuple[list[Item], dict[str, int]]:
    """The first `count` items, or all, and how many documents gave none, by reason.

    Spans: `document` (what is in neither of the next two), `salient`, `distractor` where asked
    for, `prompt` (its frame) and `summary` (with all but the last of its tokens, EOS, after which
    nothing is read).

    Args:
        salient, distractor: characters whose tokens, all that touch them, are in the span.

    Raises:
        UserError: no document gives an item, or the tokenizer does not know its tokens' places.
    """

    def make(item: Document) -> Item:
        text = encode_document(encoder, item)
        marked = {"salient": salient(item)}
        if distractor is not None:
            marked["distractor"] = distractor(item)
        ids = np.array([*text.prompt, *text.answer[:-1]], dtype=np.int64)
        good = np.full(len(ids), NOTHING, dtype=np.int64)
        good[len(text.prompt) - 1 :] = text.answer
        spans = document_spans(text, marked, len(ids))
        return Item(item.id, ids, good, np.full_like(good, NOTHING), spans)

    return items_of(documents, count, make)


def items_of(
    documents: Iterable[Document], count: int | None, make: Callable[[Document], Item]
) -> tuple[list[Item], dict[str, int]]:
    """The first `count` items, or all, and how many documents gave none, by reason.

    Args:
        make: raises NoItem where a document gives none.

    Raises:
        UserError: no document gives an item.
    """
    found: list[Item] = []
    dropped: dict[str, int] = {}
    for item in documents:
        if len(found) == count:
            break
        try:
            found.append(make(item))
        except NoItem as reason:
            dropped[str(reason)] = dropped.get(str(reason), 0) + 1
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise UserError(
            f"compare: no document gives an item ({reasons or 'there is none'}); take other"
            " documents or a model with a longer context"
        )
    return found, dropped


def encode_document(encoder: Encoder, item: Document) -> EncodedDocument:
    """A document as the encoder feeds it in training.

    Raises:
        NoItem: its summary leaves it no room.
        UserError: the tokenizer does not know its tokens' places.
    """
    try:
        return encode(encoder, item)
    except NoPair as reason:
        raise NoItem(str(reason)) from None


def document_spans(
    text: EncodedDocument, marked: Mapping[str, Sequence[tuple[int, int]]], length: int
) -> dict[str, np.ndarray]:
    """Spans of an item's tokens.

    Args:
        marked: characters of the document by name; a token that touches two is of the first.
        length: of the item; from the prompt's end on it is `summary`.

    Returns:
        [length] true at the tokens of `document`, which are those that aren't marked, of every
        name in `marked`, `prompt` and `summary`; the first token is in none of them.
    """
    kinds = text.kinds[:length]
    behind_first = np.arange(length) > 0
    rest = (kinds == DOCUMENT) & behind_first
    found: dict[str, np.ndarray] = {}
    for name, characters in marked.items():
        touched = np.zeros(length, dtype=bool)
        touched[: len(text.prompt)] = text.touching(characters)
        found[name] = rest & touched
        rest = rest & ~touched
    frame = (kinds == PROMPT) & behind_first
    return {"document": rest, **found, "prompt": frame, "summary": kinds == SUMMARY}


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
