"""Spans of the built-in wire's articles, whose facts and sentences are known.

An article reports two events, and its summary one of them; which one its id says. `wire_salient`
and `wire_distractor` find the mentions of the facts of the summary's event and of the other one, to
which `sumcirc compare` measures attention. `wire_parts` divides the whole article, for
circuits by span.
"""

from __future__ import annotations

from collections.abc import Callable

from sumcirc.data.documents import Document
from sumcirc.data.examples import Characters
from sumcirc.errors import UserError
from sumcirc.wire import WireArticle, article_of
from sumcirc.wire.article import Span, mentions

FindSpans = Callable[[Document], Characters]
WIRE_PARTS = FACT, SALIENT, DISTRACTOR = ("fact", "salient", "distractor")


def wire_parts(item: Document, seed: int) -> dict[str, Characters]:
    """Return the character ranges of the parts of an article, by name.

    They are `fact` (all mentions of a key fact), `salient` (the sentences that report these facts)
    and `distractor` (the sentences that report the other event). Where they overlap, the first
    counts; other text is in none.

    Args:
        item: the article.
        seed: setting `data.seed`, with which the articles were generated.

    Raises:
        UserError: the document is not an article of the built-in corpus with this seed.
    """
    article = wire_article(item, seed)
    spans = (article.salient, article.salient_sentences, article.distractor_sentences)
    return {name: _ranges(some) for name, some in zip(WIRE_PARTS, spans, strict=True)}


def _ranges(spans: tuple[Span, ...]) -> Characters:
    return [(span.start, span.end) for span in spans]


def wire_salient(seed: int) -> FindSpans:
    """Return a function that finds all mentions of an article's key facts.

    The function takes an article of the built-in synthetic corpus, whose facts are known, and
    returns character ranges. It raises UserError if the document is not such an article.

    Args:
        seed: setting `data.seed`, with which the articles were generated.
    """
    return lambda item: _ranges(wire_article(item, seed).salient)


def wire_distractor(seed: int) -> FindSpans:
    """Return a function that finds all mentions of the facts of an article's other event.

    The function takes an article of the built-in synthetic corpus, whose facts are known, and
    returns character ranges. It raises UserError if the document is not such an article.

    Args:
        seed: setting `data.seed`, with which the articles were generated.
    """

    def find(item: Document) -> list[tuple[int, int]]:
        facts = wire_article(item, seed).distractor
        return [place for value in facts.values() for place in mentioned(item.document, value)]

    return find


def mentioned(text: str, value: str) -> list[tuple[int, int]]:
    """Return the character ranges at which a fact occurs in a text.

    Args:
        text: the text to search.
        value: the fact, as texts spell it.
    """
    return [(start, start + len(value)) for start in mentions(text, value)]


def wire_article(item: Document, seed: int) -> WireArticle:
    """Return the article of the built-in corpus from which a document was made.

    Args:
        item: the document.
        seed: setting `data.seed`, with which the articles were generated.

    Raises:
        UserError: the document is not an article of the built-in corpus with this seed.
    """
    try:
        article = article_of(item.id, seed)
    except UserError:
        article = None
    if article is None or article.document != item.document:
        raise UserError(
            f"data: `{item.id}` is not an article of the built-in wire with seed {seed}, so its"
            " facts are unknown; use data=wire"
        )
    return article
