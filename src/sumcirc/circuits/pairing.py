"""Clean and corrupted documents for summarization, aligned token by token.

Both inputs are the document, the prompt and the reference summary of the clean document; they
differ in the document alone, at the same number of tokens. Three corruptions:

- `twin`: of the built-in wire, the counterfactual article with other key facts; its summary has
  another right token wherever a fact is told, so a logit difference is known at those places.
- `replace`: the tokens of the salient sentences are replaced by stretches of another document.
- `control`: as many tokens of sentences that are not salient are replaced; what this changes is not
  about what the summary says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sumcirc.circuits.metrics import Divergence, LogitDifference, Metric, ReferenceSurprise
from sumcirc.circuits.pairs import TokenPairs
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.wire import article_of, twin
from sumcirc.errors import UserError

SPANS = ("salient", "document", "prompt", "summary")  # 0 to 3 in `kinds`
SALIENT, DOCUMENT, PROMPT, SUMMARY = range(len(SPANS))
CORRUPTIONS = ("twin", "replace", "control")
METRICS = ("kl", "surprise", "logit_difference")

# from a document to the character spans of its salient sentences
FindSalient = Callable[[Document], Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class SummaryPair:
    """One document, clean and corrupted, with its reference summary.

    Attributes:
        clean, corrupted: [length] tokens.
        kinds: [length] index into SPANS.
        other: [length] the token that the corrupted document's own summary has at each summary
            token; the same token where it says the same, and everywhere else.
    """

    id: str
    clean: np.ndarray
    corrupted: np.ndarray
    kinds: np.ndarray
    other: np.ndarray

    @property
    def summary_start(self) -> int:
        """Index of the first summary token."""
        return int(np.argmax(self.kinds == SUMMARY))


def make_pairs(
    encoder: Encoder,
    documents: Iterable[Document],
    corruption: str,
    count: int,
    find_salient: FindSalient,
    seed: int = 0,
) -> tuple[list[SummaryPair], dict[str, int]]:
    """The first `count` pairs, and how many documents gave none, by reason.

    Args:
        seed: of the wire's articles, and of which document replaces which.

    Raises:
        UserError: an unknown corruption, or no document gives a pair.
    """
    if corruption not in CORRUPTIONS:
        raise UserError(f"circuit.corruption={corruption}: choose from {', '.join(CORRUPTIONS)}")
    pool = list(documents)
    found: list[SummaryPair] = []
    dropped: dict[str, int] = {}
    for item in pool:
        if len(found) == count:
            break
        try:
            if corruption == "twin":
                found.append(_twin_pair(encoder, item, seed))
            else:
                donors = _donors(item, pool, seed)
                found.append(_replaced_pair(encoder, item, corruption, find_salient, donors))
        except _NoPair as reason:
            dropped[str(reason)] = dropped.get(str(reason), 0) + 1
    if not found:
        raise UserError(f"circuit.corruption={corruption}: no document gives a pair ({dropped})")
    return found, dropped


class _NoPair(Exception):
    """Why a document gives no pair."""


def _encoded(encoder: Encoder, item: Document) -> tuple[np.ndarray, np.ndarray, list]:
    """Tokens, kinds without salience, and the characters of each prompt token."""
    placed = encoder.placed(item)
    if placed is None:
        raise _NoPair("summary too long")
    kinds = placed.parts.astype(np.int64) + DOCUMENT  # behind SALIENT come the encoder's PARTS
    return placed.pair.ids.astype(np.int64), kinds, placed.places


def _twin_pair(encoder: Encoder, item: Document, seed: int) -> SummaryPair:
    original = article_of(item.id, seed)

    def encode(text: str) -> Sequence[int]:
        return encoder.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    try:
        other = twin(original, encode)
    except UserError:
        raise _NoPair("no facts of the same token lengths") from None
    clean, kinds, _ = _encoded(encoder, item)
    swapped, their_kinds, _ = _encoded(encoder, Document(item.id, other.document, (other.summary,)))
    if len(swapped) != len(clean) or (kinds != their_kinds).any():
        raise _NoPair("documents of unequal length")
    corrupted = np.where(kinds == SUMMARY, clean, swapped)
    kinds[(corrupted != clean) & (kinds == DOCUMENT)] = SALIENT
    return SummaryPair(item.id, clean, corrupted, kinds, np.where(kinds == SUMMARY, swapped, clean))


def _replaced_pair(
    encoder: Encoder,
    item: Document,
    corruption: str,
    find_salient: FindSalient,
    donors: Iterator[Document],
) -> SummaryPair:
    clean, kinds, offsets = _encoded(encoder, item)
    spans = find_salient(item)
    for place, span in enumerate(offsets):
        # by a token's end: its start may be the space before the sentence
        if span is not None and any(start < span[1] <= end for start, end in spans):
            kinds[place] = SALIENT
    salient = np.flatnonzero(kinds == SALIENT)
    if not len(salient):
        raise _NoPair("no salient sentence")
    chosen = salient
    if corruption == "control":
        rest = np.flatnonzero(kinds == DOCUMENT)
        if len(rest) < len(salient):
            raise _NoPair("less other text than salient text")
        # the end of the document: as far from the lead as salient text, on average, is near it
        chosen = rest[-len(salient) :]
    corrupted = clean.copy()
    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
        corrupted[run] = _stretch(encoder, donors, len(run))
    return SummaryPair(item.id, clean, corrupted, kinds, clean)


def _stretch(encoder: Encoder, donors: Iterator[Document], length: int) -> list[int]:
    """The first tokens of as many other documents as it takes."""
    found: list[int] = []
    for donor in donors:
        text = f" {donor.document}"
        tokens = encoder.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        found += tokens[: length - len(found)]
        if len(found) == length:
            return found
    raise _NoPair("too few other documents")


def _donors(item: Document, pool: Sequence[Document], seed: int) -> Iterator[Document]:
    """Other documents in an order of each document's own."""

    def key(other: Document) -> str:
        return hashlib.sha256(f"{seed}/{item.id}/{other.id}".encode()).hexdigest()

    return iter(sorted((other for other in pool if other.id != item.id), key=key))


def token_pairs(pairs: Sequence[SummaryPair]) -> TokenPairs:
    """Pairs as padded tensors."""
    return TokenPairs.from_tokens(
        [pair.clean.tolist() for pair in pairs],
        [pair.corrupted.tolist() for pair in pairs],
        [pair.id for pair in pairs],
        [pair.kinds.tolist() for pair in pairs],
    )


def summary_metric(name: str, pairs: Sequence[SummaryPair], tokens: TokenPairs) -> Metric:
    """A loss read at the positions that predict the summary.

    `kl`: KL(clean || patched) of next tokens. `surprise`: -log p of the reference. Both are means
    over summary tokens and EOS. `logit_difference`: -(right token - twin's) where the two differ.

    Raises:
        UserError: an unknown metric, or a logit difference where no other token is known.
    """
    if name not in METRICS:
        raise UserError(f"circuit.metric={name}: choose from {', '.join(METRICS)}")
    assert tokens.kinds is not None
    summary = tokens.kinds == SUMMARY
    if name == "surprise":
        return ReferenceSurprise.of_tokens(tokens.clean_ids, summary)
    positions = summary.roll(-1, 1)
    positions[:, -1] = False
    if name == "kl":
        return Divergence(positions)
    other = torch.zeros_like(tokens.clean_ids)
    for row, pair in zip(other, pairs, strict=True):
        row[: len(pair.other)] = torch.from_numpy(pair.other)
    # of tokens in a row that differ the first tells the fact, the others follow from it
    differs = (other != tokens.clean_ids) & summary
    first = differs & ~differs.roll(1, 1)
    if not first.any(1).all():
        missing = tokens.ids[int((~first.any(1)).nonzero()[0])]
        raise UserError(
            f"circuit.metric=logit_difference: no other answer is known for `{missing}`; take"
            " circuit.metric=kl or surprise, or circuit.corruption=twin on data=wire"
        )
    places = first.roll(-1, 1)
    good, bad = tokens.clean_ids.roll(-1, 1), other.roll(-1, 1)
    return LogitDifference(places, good, bad)


def changed_pairs(
    pairs: Sequence[SummaryPair], clean: np.ndarray, corrupted: np.ndarray
) -> tuple[list[SummaryPair], int]:
    """Pairs whose loss is higher when the document is corrupted, and how many are not.

    Args:
        clean, corrupted: each pair's loss in the two runs.
    """
    kept = [pair for pair, low, high in zip(pairs, clean, corrupted, strict=True) if high > low]
    return kept, len(pairs) - len(kept)
