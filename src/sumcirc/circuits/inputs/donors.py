"""Documents as aligned tokens, and other documents to take text from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sumcirc.circuits.inputs.example import DOCUMENT
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.entities import entities

MOST = 64  # other documents in which an entity is looked for


class NoPair(Exception):
    """Why a document gives no pair, in words fit for counting."""


@dataclass(frozen=True)
class EncodedDocument:
    """A document and its summary as tokens.

    Attributes:
        prompt: tokens of the document in its prompt.
        answer: tokens of the summary and EOS.
        kinds: [prompt and all but the last token of the answer] index into SPANS, none salient.
        places: of each prompt token its characters in the document, or None.
    """

    prompt: list[int]
    answer: list[int]
    kinds: np.ndarray
    places: list[tuple[int, int] | None]

    @property
    def kept(self) -> int:
        """How many characters of the document went in."""
        return max(place[1] for place in self.places if place is not None)

    def touching(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """[prompt] true where a token has a character of one of the spans."""
        return np.array(
            [
                place is not None and any(s < place[1] and place[0] < e for s, e in spans)
                for place in self.places
            ]
        )


def encode(encoder: Encoder, item: Document) -> EncodedDocument:
    """A document as tokens.

    Raises:
        NoPair: its summary leaves it no room.
        UserError: the tokenizer does not know its tokens' places.
    """
    placed = encoder.placed(item)
    if placed is None:
        raise NoPair("summary too long")
    ids, start = placed.pair.ids.tolist(), placed.pair.summary_start
    kinds = placed.parts[:-1].astype(np.int64) + DOCUMENT  # behind salient come the encoder's parts
    return EncodedDocument(ids[:start], ids[start:], kinds, placed.places)


class Donors:
    """Documents to take text from, for each item in an order of its own.

    Args:
        seed: of that order.
    """

    def __init__(self, encoder: Encoder, documents: Sequence[Document], seed: int) -> None:
        self.encoder = encoder
        self._seed = seed
        self._order = sorted(documents, key=lambda item: self._hash(f"document/{item.id}"))
        self._tokens: dict[str, list[int]] = {}
        self._entities: dict[str, list[tuple[str, str]]] = {}

    def _hash(self, name: str) -> int:
        return int(hashlib.sha256(f"{self._seed}/{name}".encode()).hexdigest(), 16)

    def of(self, item: Document) -> Iterator[Document]:
        """All documents but the item, from a place of its own on."""
        count = len(self._order)
        start = self._hash(f"start/{item.id}") % count
        for step in range(count):
            other = self._order[(start + step) % count]
            if other.id != item.id and other.document != item.document:
                yield other

    def entities(self, item: Document) -> Iterator[tuple[str, str]]:
        """Kind and text of the entities in the first other documents."""
        for other in islice(self.of(item), MOST):
            if other.id not in self._entities:
                text = other.document
                found = [(one.kind, text[one.start : one.end]) for one in entities(text)]
                self._entities[other.id] = list(dict.fromkeys(found))
            yield from self._entities[other.id]

    def tokens(self, text: str) -> list[int]:
        """Tokens of a short text, as it stands within another."""
        if text not in self._tokens:
            self._tokens[text] = tokens_of(self.encoder, text)
        return self._tokens[text]


def tokens_of(encoder: Encoder, text: str) -> list[int]:
    """Return the tokens of a text, without a start token."""
    return encoder.codec.ids(encoder.codec.plain(text))
