"""Clean and corrupted documents for summarization, aligned token by token.

Both inputs are the document, the prompt and the reference summary of the clean document; they
differ in the document alone, at the same number of tokens. The corruptions:

- `counterfactual`: of the built-in wire, the same article with other key facts; its summary has
  another right token wherever a fact is told, so a logit difference is known at those places.
- `replace`: the tokens of the salient sentences are replaced by stretches of other documents.
- `swap`: the names, numbers and dates of the salient sentences are exchanged for others of the same
  kind and token count from other documents; where the summary tells one, a logit difference is
  known.
- `control`: as many tokens of sentences that are not salient are replaced; what this changes is not
  about what the summary says.
- `shuffled`: the whole document is another one, cut or continued to the same number of tokens. It
  is the pair that remains when documents are dealt out at random: salient tokens differ no more
  than all others do, and what stands at one place in both is there by chance. So it is the null for
  a claim that a circuit is about the salient facts; it is no null for the claim that the model
  reads its document at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from sumcirc.circuits.inputs.counterfactual import counterfactual_pair, swapped_pair
from sumcirc.circuits.inputs.donors import Donors, NoPair, encode, tokens_of
from sumcirc.circuits.inputs.example import DOCUMENT, PROMPT, SALIENT, Pair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import Corruption

# from a document to the character spans of its salient sentences
FindSalient = Callable[[Document], Sequence[tuple[int, int]]]


def make_pairs(
    encoder: Encoder,
    documents: Iterable[Document],
    corruption: Corruption | str,
    count: int | None,
    find_salient: FindSalient,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Pair], dict[str, int]]:
    """The first `count` pairs, or all, and how many documents gave none, by reason.

    Args:
        seed: of the wire's articles, and of which document gives which its text.
        progress: called with 1 for each pair.

    Raises:
        UserError: an unknown corruption, or no document gives a pair.
    """
    corruption = Corruption.of(corruption, "corruption", Corruption.auto)
    pool = list(documents)
    donors = Donors(encoder, pool, seed)
    found: list[Pair] = []
    dropped: dict[str, int] = {}
    for item in pool:
        if len(found) == count:
            break
        try:
            found.append(_pair(encoder, item, corruption, find_salient, donors, seed))
        except NoPair as reason:
            dropped[str(reason)] = dropped.get(str(reason), 0) + 1
        else:
            if progress is not None:
                progress(1)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise UserError(f"corruption={corruption}: no document gives a pair ({reasons})")
    return found, dropped


def pair_notices(
    encoder: Encoder,
    documents: Sequence[Document],
    made: tuple[Sequence[Pair], dict[str, int]],
    asked: int | None,
    setting: str,
) -> list[Notice]:
    """Return notices of documents that gave no pair, are missing, or were cut.

    Args:
        asked: how many pairs were wanted; None: all.
        setting: which says so.
    """
    pairs, dropped = made
    looked_at = len(pairs) + sum(dropped.values())
    found = left_out(setting, "documents", dropped, looked_at)
    why = f"{len(documents):,} documents give {len(pairs):,}"
    found.append(missing(setting, "pairs", asked, len(pairs), why))
    used = {pair.id for pair in pairs}
    encoded = [encoder.pair(item) for item in documents if item.id in used]
    cut = sum(one is not None and one.cut for one in encoded)
    words = f"documents are cut to fit the {encoder.max_length} tokens of the context"
    return [*found, Notice(setting, "cut", cut, len(pairs), words)]


def _pair(
    encoder: Encoder,
    item: Document,
    corruption: Corruption,
    find_salient: FindSalient,
    donors: Donors,
    seed: int,
) -> Pair:
    if corruption is Corruption.counterfactual:
        return counterfactual_pair(encoder, item, seed)
    salient = find_salient(item)
    if corruption is Corruption.swap:
        return swapped_pair(encoder, item, salient, donors)
    return _replaced_pair(encoder, item, corruption, salient, donors)


def _replaced_pair(
    encoder: Encoder,
    item: Document,
    corruption: Corruption,
    spans: Sequence[tuple[int, int]],
    donors: Donors,
) -> Pair:
    clean = encode(encoder, item)
    kinds = clean.kinds.copy()
    for at, place in enumerate(clean.places):
        # by a token's end: its start may be the space before the sentence
        if place is not None and any(start < place[1] <= end for start, end in spans):
            kinds[at] = SALIENT
    salient = np.flatnonzero(kinds == SALIENT)
    if not len(salient):
        raise NoPair("no salient sentence")
    chosen = salient
    if corruption is Corruption.control:
        rest = np.flatnonzero(kinds == DOCUMENT)
        if len(rest) < len(salient):
            raise NoPair("less other text than salient text")
        # the end of the document: as far from the lead as salient text, on average, is near it
        chosen = rest[-len(salient) :]
    elif corruption is Corruption.shuffled:
        chosen = np.flatnonzero(kinds < PROMPT)
    corrupted = np.array(clean.prompt)
    others = donors.of(item)
    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
        place = clean.places[run[0]]
        assert place is not None
        space = item.document[place[0]].isspace()
        corrupted[run] = _stretch(encoder, others, len(run), space)
    prompts = clean.prompt, corrupted.tolist()
    return Pair.of(item.id, corruption.value, prompts, kinds, clean.answer)


def _stretch(encoder: Encoder, donors: Iterator[Document], length: int, space: bool) -> list[int]:
    """The first tokens of as many other documents as it takes.

    Args:
        space: whether the first one begins with a space, as the text does that it replaces.
    """
    found: list[int] = []
    for donor in donors:
        text = f" {donor.document}" if space or found else donor.document
        found += tokens_of(encoder, text)[: length - len(found)]
        if len(found) == length:
            return found
    raise NoPair("too few other documents")
