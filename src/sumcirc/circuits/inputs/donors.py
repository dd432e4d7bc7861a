"""Other documents that provide replacement text and entities."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder

MOST = 64  # number of other documents that are searched for a replacement

Found = TypeVar("Found")


class Donors:
    """Documents that provide text to replace parts of another document.

    Args:
        encoder: turns texts into tokens.
        documents: all documents, each of which gets text from the others.
        seed: seed of the order in which documents provide text.
    """

    def __init__(self, encoder: Encoder, documents: Sequence[Document], seed: int) -> None:
        self.encoder = encoder
        self._seed = seed
        self._order = sorted(documents, key=lambda item: self._hash(f"document/{item.id}"))
        self._tokens: dict[str, list[int]] = {}
        self._found: dict[tuple[Callable[[str], object], str], object] = {}

    def _hash(self, name: str) -> int:
        return int(hashlib.sha256(f"{self._seed}/{name}".encode()).hexdigest(), 16)

    def of(self, item: Document) -> Iterator[Document]:
        """Yield all documents except one and its copies, in an order determined by the seed.

        Which document comes first depends on the id of `item`.

        Args:
            item: the document to leave out.
        """
        count = len(self._order)
        start = self._hash(f"start/{item.id}") % count
        for step in range(count):
            other = self._order[(start + step) % count]
            if other.id != item.id and other.document != item.document:
                yield other

    def found(self, item: Document, find: Callable[[str], Sequence[Found]]) -> Iterator[Found]:
        """Yield what `find` returns for each of the first MOST documents that `of(item)` yields.

        Args:
            item: the document for which words of other documents are needed.
            find: a function of a text; its results are kept, so it must be the same object in each
                call.
        """
        for other in islice(self.of(item), MOST):
            key = find, other.id
            if key not in self._found:
                self._found[key] = find(other.document)
            yield from self._found[key]  # type: ignore[misc]

    def shuffled(self, item: Document, words: Sequence[str]) -> list[str]:
        """Return words in an order determined by the seed and the id of `item`."""
        return sorted(words, key=lambda word: self._hash(f"word/{item.id}/{word}"))

    def tokens(self, text: str) -> list[int]:
        """Return the token ids that a short text, such as a name, has inside a longer text.

        Args:
            text: the short text.
        """
        if text not in self._tokens:
            self._tokens[text] = tokens_of(self.encoder, text)
        return self._tokens[text]


def tokens_of(encoder: Encoder, text: str) -> list[int]:
    """Return the token ids of a text without a start token.

    Args:
        encoder: turns texts into tokens.
        text: the text; the text of a special token is treated as plain text.
    """
    return encoder.codec.ids(encoder.codec.plain(text))
