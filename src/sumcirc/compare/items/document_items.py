"""Documents with their reference summaries as items; every token of the summary is predicted.

Both models read the document in its prompt and the reference summary; the metric is the mean
log-probability of the summary's tokens and EOS, or the logit of a wrong fact minus that of the
right one where the summary states a fact.

The first token belongs to no span: attention that has no target goes there, whatever token it is
(the attention sink), and would dominate the attention that a head pays to the words of a span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sumcirc.circuits.inputs.donors import Donors
from sumcirc.circuits.inputs.swapping import swapped_pair
from sumcirc.circuits.inputs.wrong_facts import unsupported_tokens, wrong_event_tokens
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, PROMPT, SUMMARY, Encoder
from sumcirc.data.examples import NONE, Characters, NoExample, TokenExample, first_made
from sumcirc.data.wire_spans import FindSpans, wire_article
from sumcirc.errors import UserError

FindWrong = Callable[[Document, TokenExample], np.ndarray]

WITHOUT_ITEMS = "take other documents or a model with a longer context"
WITHOUT_WRONG = (
    "take data=wire, other documents whose summaries state names or numbers, or compare.metric=auto"
)


def document_items(
    encoder: Encoder,
    documents: Iterable[Document],
    count: int | None,
    salient: FindSpans,
    distractor: FindSpans | None = None,
    wrong: FindWrong | None = None,
) -> tuple[list[TokenExample], dict[str, int]]:
    """Make items from documents until there are `count` items.

    The spans of an item are `salient`, `distractor` if requested, `document` (the document's other
    tokens), `prompt` (the text around the document) and `summary` (without its last token, EOS,
    after which nothing is predicted).

    Args:
        encoder: turns documents into tokens.
        documents: the documents, in the order in which they are used.
        count: number of items to make; None to make an item of every document.
        salient, distractor: functions that return character ranges of a document; the tokens that
            overlap these ranges form the span of that name.
        wrong: function that takes a document and its example from `Encoder.located`, and returns
            the first token of a wrong fact at positions where one is known, as in
            `TokenExample.wrong`. Items are then read at these positions only, with the wrong fact
            as `good` and the right one as `bad`. None for items of which all tokens of the summary
            are read.

    Returns:
        The items, and the number of documents of which no item could be made, by reason.

    Raises:
        UserError: no item can be made of any document, or the tokenizer does not report character
            offsets.
    """

    def make(item: Document) -> TokenExample:
        marked = {"salient": salient(item)}
        if distractor is not None:
            marked["distractor"] = distractor(item)
        located = encoder.located(item)
        found = with_spans(located, marked).until(-1)
        return found if wrong is None else _contrasted(found, wrong(item, located)[: len(found)])

    if wrong is None:
        return items_of(documents, count, make)
    return items_of(documents, count, make, "compare.metric=wrong_fact", WITHOUT_WRONG)


def _contrasted(example: TokenExample, wrong: np.ndarray) -> TokenExample:
    """Return an example in which wrong facts are `good` and right ones `bad`, and others unread."""
    known = wrong != NONE
    if not known.any():
        raise NoExample("no wrong fact is known")
    right = np.where(known, example.good, NONE)
    return replace(example, good=wrong, bad=right, wrong=wrong)


def items_of(
    documents: Iterable[Document],
    count: int | None,
    make: Callable[[Document], TokenExample],
    setting: str = "compare",
    remedy: str = WITHOUT_ITEMS,
) -> tuple[list[TokenExample], dict[str, int]]:
    """Make items from documents with a given function until there are `count` items.

    Args:
        documents: the documents, in the order in which they are used.
        count: number of items to make; None to make an item of every document.
        make: function that returns the item of a document, or raises NoExample with the reason.
        setting, remedy: the setting that asks for the items, and what helps if there are none, for
            the message.

    Returns:
        The items, and the number of documents of which no item could be made, by reason.

    Raises:
        UserError: no item can be made of any document.
    """
    found, dropped = first_made(documents, count, make)
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise UserError(
            f"{setting}: no document gives an item ({reasons or 'there is none'}); {remedy}"
        )
    return found, dropped


def with_spans(example: TokenExample, marked: Mapping[str, Characters]) -> TokenExample:
    """Return a document's example with additional spans inside the document.

    Args:
        example: the result of `Encoder.located` for the document.
        marked: character ranges of each span, by the span's name. A token that overlaps ranges of
            two spans belongs to the one that is listed first.

    Returns:
        The example with all spans in `marked`, and the spans `document` (its other tokens),
        `prompt` and `summary`; the first token is in none of them.
    """
    behind_first = np.arange(len(example)) > 0
    found, rest = example.divided(example.spans[DOCUMENT] & behind_first, marked)
    frame, summary = example.spans[PROMPT] & behind_first, example.spans[SUMMARY]
    spans = {DOCUMENT: rest, **found, PROMPT: frame, SUMMARY: summary}
    return replace(example, spans=spans, offsets=None)


def wire_wrong(encoder: Encoder, seed: int) -> FindWrong:
    """Return a function that finds the facts of an article's other event, for `document_items`.

    The function raises UserError if the document is not an article of the built-in corpus.

    Args:
        encoder: turns texts into tokens.
        seed: setting `data.seed`, with which the articles were generated.
    """
    return lambda item, located: wrong_event_tokens(encoder, wire_article(item, seed), located)


def swapped_wrong(
    encoder: Encoder, documents: Sequence[Document], salient: FindSpans, seed: int
) -> FindWrong:
    """Return a function that finds words that a document does not state, for `document_items`.

    These are the words that `swap` would put into its summary; see `circuits.inputs.swapping`. The
    function raises NoExample if nothing can be exchanged.

    Args:
        encoder: turns texts into tokens.
        documents: all documents, which provide each other's words.
        salient: function that returns the character ranges of a document's salient sentences.
        seed: determines the order in which other documents provide words.
    """
    donors = Donors(encoder, documents, seed)

    def find(item: Document, located: TokenExample) -> np.ndarray:
        return unsupported_tokens(swapped_pair(encoder, item, salient(item), donors))

    return find
