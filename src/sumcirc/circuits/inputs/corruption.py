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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sumcirc.circuits.inputs.counterfactual import counterfactual_pair, swapped_pair
from sumcirc.circuits.inputs.donors import Donors, tokens_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair, summary_pair
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.examples import Characters, NoExample, first_made
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_finder
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import Corruption, EvaluationConfig

FindSalient = Callable[[Document], Characters]  # the salient sentences of a document


@dataclass(frozen=True)
class MadePairs:
    """Pairs of a corpus.

    Attributes:
        dropped: how many documents gave none, by reason.
        notices: of documents that gave no pair, are missing, or were cut.
    """

    pairs: list[ExamplePair]
    dropped: dict[str, int]
    notices: list[Notice]


def corpus_pairs(
    encoder: Encoder,
    documents: Sequence[Document],
    corruption: Corruption | str,
    count: int | None,
    evaluation: EvaluationConfig,
    setting: str,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> MadePairs:
    """Make pairs whose salient sentences are those of the oracle summary.

    Args:
        count: how many pairs are wanted; None: all.
        evaluation: how many sentences the oracle takes, and what a word is.
        setting: the setting that says `count`, for notices.
        seed: as of `make_pairs`.
        progress: called with 1 for each pair.

    Raises:
        UserError: as `make_pairs`.
    """
    salient = oracle_finder(evaluation, documents)
    pairs, dropped = make_pairs(encoder, documents, corruption, count, salient, seed, progress)
    looked_at = len(pairs) + sum(dropped.values())
    why = f"{len(documents):,} documents give {len(pairs):,}"
    cut = sum(pair.clean.truncated for pair in pairs)
    words = f"documents are cut to fit the {encoder.max_length} tokens of the context"
    notices = [
        *left_out(setting, "documents", dropped, looked_at),
        missing(setting, "pairs", count, len(pairs), why),
        Notice(setting, "cut", cut, len(pairs), words),
    ]
    return MadePairs(pairs, dropped, notices)


def make_pairs(
    encoder: Encoder,
    documents: Sequence[Document],
    corruption: Corruption | str,
    count: int | None,
    find_salient: FindSalient,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[ExamplePair], dict[str, int]]:
    """Return the first `count` pairs, or all, and how many documents gave none, by reason.

    Args:
        find_salient: from a document to the characters of its salient sentences.
        seed: of the wire's articles, and of which document gives which its text.
        progress: called with 1 for each pair.

    Raises:
        UserError: an unknown corruption, or no document gives a pair.
    """
    corruption = Corruption.of(corruption, "corruption", Corruption.auto)
    donors = Donors(encoder, documents, seed)

    def make(item: Document) -> ExamplePair:
        if corruption is Corruption.counterfactual:
            return counterfactual_pair(encoder, item, seed)
        salient = find_salient(item)
        if corruption is Corruption.swap:
            return swapped_pair(encoder, item, salient, donors)
        return _replaced_pair(encoder, item, corruption, salient, donors)

    found, dropped = first_made(documents, count, make, progress)
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise UserError(f"corruption={corruption}: no document gives a pair ({reasons})")
    return found, dropped


def _replaced_pair(
    encoder: Encoder,
    item: Document,
    corruption: Corruption,
    sentences: Characters,
    donors: Donors,
) -> ExamplePair:
    clean = encoder.located(item)
    inside = clean.spans[DOCUMENT]
    salient = clean.ending_in(sentences)
    if not salient.any():
        raise NoExample("no salient sentence")
    chosen = np.flatnonzero(salient)
    if corruption is Corruption.control:
        rest = np.flatnonzero(inside & ~salient)
        if len(rest) < len(chosen):
            raise NoExample("less other text than salient text")
        # the end of the document: as far from the lead as salient text, on average, is near it
        chosen = rest[-len(chosen) :]
    elif corruption is Corruption.shuffled:
        chosen = np.flatnonzero(inside)
    corrupted = clean.ids.copy()
    others = donors.of(item)
    assert clean.offsets is not None
    for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
        space = item.document[clean.offsets[run[0], 0]].isspace()
        corrupted[run] = _stretch(encoder, others, len(run), space)
    return summary_pair(clean, corrupted, salient, corruption.value)


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
    raise NoExample("too few other documents")
