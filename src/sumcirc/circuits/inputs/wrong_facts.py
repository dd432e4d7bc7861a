"""Wrong facts: the token that would begin a wrong fact where a summary states the right one.

What a wrong fact is depends on the documents:

- an article of the built-in corpus reports a main event, and in passing a second one. At each fact
  in the reference summary, the wrong fact is the one with the same role in the event that the
  summary leaves out, such as its town in place of the right one;
- for other documents, a word of the summary is exchanged for one of the same kind that another
  document states (`swapping`). At such a word, the wrong fact is that other word, which the
  document does not state; in place of a speaker it is the dialogue's other speaker.

Only the first token of each is compared, and facts that begin with the same token are left out.
"""

from __future__ import annotations

import numpy as np

from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, NoExample, TokenExample
from sumcirc.errors import UserError
from sumcirc.schema import Corruption
from sumcirc.wire import WireArticle, article_of
from sumcirc.wire.article import mentions


def known_article(item: Document, seed: int) -> WireArticle | None:
    """Return the article of the built-in corpus that a document is, or None if it is none.

    Args:
        item: the document.
        seed: seed with which the corpus was generated.
    """
    try:
        article = article_of(item.id, seed)
    except UserError:
        return None
    return article if article.document == item.document else None


def wrong_event_tokens(encoder: Encoder, article: WireArticle, located: TokenExample) -> np.ndarray:
    """Return the first token of the other event's fact wherever a summary's fact is predicted.

    Args:
        encoder: turns texts into tokens.
        article: the article.
        located: its tokens with the reference summary, from `Encoder.located`.

    Returns:
        [length] tokens, NONE at all other positions. Facts that the kept part of the document
        doesn't state of both events are left out.
    """
    found = np.full(len(located), NONE)
    kept, start = article.document[: located.kept], located.prompt_length
    for role, value in article.distractor.items():
        if not (mentions(kept, article.facts[role]) and mentions(kept, value)):
            continue
        try:
            summary, right, wrong = fact_answers(encoder, article, role)
        except NoExample:
            continue
        stop = start + len(summary)
        if located.ids[start : stop + 1].tolist() == [*summary, right]:
            found[stop - 1] = wrong
    return found


def fact_answers(encoder: Encoder, article: WireArticle, role: str) -> tuple[list[int], int, int]:
    """Return a summary's tokens up to a fact, and the first tokens of the right and the wrong one.

    Args:
        encoder: turns texts into tokens.
        article: the article.
        role: role of the fact, which both events have.

    Raises:
        NoExample: a fact changes the tokens before it, or both begin with the same token.
    """
    start = next(span.start for span in article.answers if span.role == role)
    text = article.summary[:start]
    # the space before a word is part of its first token
    summary = encoder.summary_start(text.removesuffix(" "))
    firsts: list[int] = []
    for facts in (article.facts, article.distractor):
        whole = encoder.summary_start(text + facts[role])
        if whole[: len(summary)] != summary or len(whole) == len(summary):
            raise NoExample("fact within a token")
        firsts.append(whole[len(summary)])
    if firsts[0] == firsts[1]:
        raise NoExample("answers with the same first token")
    return summary, firsts[0], firsts[1]


def unsupported_tokens(pair: ExamplePair) -> np.ndarray:
    """Return the first token of the replacement of each word of the summary that `swap` exchanges.

    Args:
        pair: a pair of which words were exchanged.

    Returns:
        [length of the pair] tokens, NONE at all other positions.
    """
    return np.where(pair.clean.diverges, pair.clean.bad, NONE)


def with_wrong_facts(pair: ExamplePair, encoder: Encoder, item: Document, seed: int) -> ExamplePair:
    """Return a pair with the wrong facts that are known for its document, if any are.

    Args:
        pair: the pair.
        encoder: turns texts into tokens.
        item: the clean document.
        seed: seed with which the built-in corpus was generated.
    """
    article = known_article(item, seed)
    if article is not None:
        wrong = wrong_event_tokens(encoder, article, encoder.located(item))
        return pair.with_wrong(wrong[: len(pair.clean)])
    if pair.corruption == Corruption.swap.value:
        return pair.with_wrong(unsupported_tokens(pair))
    return pair
