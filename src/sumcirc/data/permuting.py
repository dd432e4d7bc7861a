"""Documents with the summary of another document: a control for what training on pairs teaches.

Training on such pairs takes the same steps on the same texts, without a relation between a document
and its summary. What it changes in a model is not a change by learning to summarize.

The documents are ordered by the SHA-256 of "seed/permute/index", and each gets the references of
the next one in this order, the last those of the first. So no document keeps its own, and the same
seed gives the same pairs with any version of any library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sumcirc.data.inspection import text_key
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice

if TYPE_CHECKING:
    from sumcirc.data.documents import Document

SETTING = "data.permute_summaries"
LEAST = 2  # documents, of which each can have the other's summary


def with_other_summaries(
    documents: Sequence[Document], seed: int
) -> tuple[list[Document], list[Notice]]:
    """Return documents that each have the references of another, in the same order, and notices.

    Args:
        documents: documents with their own references.
        seed: seed of the permutation.

    Raises:
        UserError: there is only one document.
    """
    require_two(len(documents), seed)
    order = sorted(
        range(len(documents)),
        key=lambda index: hashlib.sha256(f"{seed}/permute/{index}".encode()).digest(),
    )
    found, alike = list(documents), 0
    for own, other in zip(order, [*order[1:], order[0]], strict=True):
        found[own] = replace(documents[own], references=documents[other].references)
        alike += _alike(documents[own], documents[other])
    where, total = f"{SETTING}={seed}", len(found)
    words = "training documents have the summary of another document, as a control"
    alike_words = (
        "training documents get a summary that is also one of their own, or that of a document with"
        " the same text"
    )
    return found, [
        Notice(where, "permuted", total, total, words, limit=1.0),
        Notice(where, "permuted_alike", alike, total, alike_words),
    ]


def require_two(documents: int, seed: int) -> None:
    """Raise an error if there are too few documents to exchange their summaries.

    Args:
        documents: number of documents of the training split.
        seed: value of the setting, for the message.

    Raises:
        UserError: there are fewer than two.
    """
    if documents < LEAST:
        raise UserError(
            f"{SETTING}={seed}: the training split has {documents} item, and a document can only"
            f" get the summary of another; give at least {LEAST} (data.train, data.sizes.train), or"
            f" {SETTING}=null"
        )


def _alike(own: Document, other: Document) -> bool:
    """Return whether a document is still paired with its own text or summary."""
    summaries = {text_key(reference) for reference in own.references}
    same_document = text_key(own.document) == text_key(other.document)
    return same_document or text_key(other.references[0]) in summaries
