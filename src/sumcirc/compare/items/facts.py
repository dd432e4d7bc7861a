"""Prompts with a known answer, made from the built-in corpus: which of two facts comes next.

A prompt consists of an article in its frame and its reference summary up to just before a key fact,
such as the town. The good answer is that fact; the bad one is the fact with the same role in the
article's other event, which occurs in the same article. Either may have several tokens; only the
first of each is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from sumcirc.circuits.inputs.wrong_facts import fact_answers
from sumcirc.compare.items.document_items import items_of, with_spans
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE, NoExample, TokenExample
from sumcirc.data.wire_spans import mentioned, wire_article
from sumcirc.wire import FACTS
from sumcirc.wire.draw import Draw


def fact_items(
    encoder: Encoder, documents: Iterable[Document], count: int | None, seed: int
) -> tuple[list[TokenExample], dict[str, int]]:
    """Make items that ask for a fact of an article until there are `count` items.

    An article gives at most one item, so that items are independent; the fact is chosen at random.
    The spans of an item are `fact` and `distractor` (the mentions of the two answers in the
    article), `document` (the article's other tokens), `prompt` (the text around the article) and
    `summary` (the beginning of the summary). The first token belongs to no span, see
    `document_items`.

    Args:
        encoder: turns articles into tokens.
        documents: articles of the built-in corpus, in the order in which they are used.
        count: number of items to make; None to make an item of every article.
        seed: setting `data.seed`, with which the articles were generated; it also determines the
            chosen facts.

    Returns:
        The items, and the number of articles of which no item could be made, by reason.

    Raises:
        UserError: a document is not an article of the built-in corpus with this seed, or no item
            can be made of any article.
    """
    return items_of(documents, count, lambda item: _item(encoder, item, seed))


def _item(encoder: Encoder, item: Document, seed: int) -> TokenExample:
    article = wire_article(item, seed)
    role = Draw("compare", "fact", str(seed), item.id).pick(FACTS)
    text = encoder.located(item)
    kept = item.document[: text.kept]
    marked = {
        "fact": mentioned(kept, article.facts[role]),
        "distractor": mentioned(kept, article.distractor[role]),
    }
    if not all(marked.values()):
        raise NoExample("fact cut off")
    summary, good, bad = fact_answers(encoder, article, role)
    stop = text.prompt_length + len(summary)
    if text.ids[text.prompt_length : stop + 1].tolist() != [*summary, good]:
        raise NoExample("fact within a token")
    answers = np.full((2, stop), NONE)
    answers[:, -1] = good, bad
    return replace(with_spans(text, marked).until(stop), good=answers[0], bad=answers[1])
