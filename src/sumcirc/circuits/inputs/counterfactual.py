"""Pairs a document with another of the same token length, such as a counterfactual article.

Both texts are tokenized as they are. Where the summary of the corrupted document is known to differ
from the reference, the correct and the wrong token are known.
"""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.circuits.inputs.donors import tokens_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair, summary_pair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.examples import NoExample, TokenExample
from sumcirc.errors import UserError
from sumcirc.wire import article_of, twin


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
    return paired(encoder, item, clean, other.document, "counterfactual", answer)


def paired(
    encoder: Encoder,
    item: Document,
    clean: TokenExample,
    document: str,
    corruption: str,
    answer: list[int],
) -> ExamplePair:
    """Pair an item with another document, and mark the tokens that differ as salient.

    Args:
        encoder: turns texts into tokens.
        item: the item.
        clean: its tokens, from `Encoder.located`.
        document: the other document.
        corruption: how the other document was made.
        answer: tokens of the other document's summary; empty if it is unknown.

    Raises:
        NoExample: the two documents have different numbers of tokens.
    """
    other = encoder.located(Document(item.id, document, item.references))
    if len(other) != len(clean) or any(
        (other.spans[name] != inside).any() for name, inside in clean.spans.items()
    ):
        raise NoExample("documents of unequal length")
    salient = (clean.ids != other.ids) & clean.spans[DOCUMENT]
    return summary_pair(clean, other.ids, salient, corruption, answer)
