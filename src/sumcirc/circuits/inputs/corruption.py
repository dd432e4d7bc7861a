"""Clean and corrupted documents for summarization, aligned token by token.

Both inputs consist of the document, the prompt and the reference summary of the clean document.
They differ only in the document, which has the same number of tokens in both. The corruptions:

- `counterfactual`: for the built-in synthetic corpus (the wire), the same article with other key
  facts. Its summary has a different correct token wherever a fact is stated, so a logit difference
  is known at those positions.
- `replace`: the tokens of the salient sentences are replaced by passages from other documents.
- `swap`: the names, numbers and dates in the salient sentences are exchanged for others of the same
  kind and token count from other documents; where this leaves the summary as it is, speakers of a
  dialogue or nouns are exchanged (`swapping`). A logit difference is known wherever the summary
  states one of them.
- `control`: as many tokens of sentences that are not salient are replaced. The effect of this
  cannot come from what the summary says.
- `shuffled`: the whole document is replaced by others, cut or continued to the same number of
  tokens, as if documents were assigned to summaries at random. Salient tokens then differ no more
  than all others do, and text that agrees agrees by chance. This is the null for the claim that a
  circuit is about the salient facts; it is not a null for the claim that the model reads its
  document at all.

`auto` depends on the documents: `swap` if enough of them give a pair whose summary states an
exchanged word, else `replace`; see `settled`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sumcirc.circuits.inputs.counterfactual import counterfactual_pair
from sumcirc.circuits.inputs.donors import Donors, tokens_of
from sumcirc.circuits.inputs.example_pairs import ExamplePair, summary_pair
from sumcirc.circuits.inputs.swapping import swapped_pair
from sumcirc.circuits.inputs.wrong_facts import with_wrong_facts
from sumcirc.data.documents import Document
from sumcirc.data.encoding import DOCUMENT, Encoder
from sumcirc.data.examples import Characters, NoExample, first_made
from sumcirc.errors import UserError
from sumcirc.evaluation.baselines import oracle_finder
from sumcirc.runtime.notices import Notice, left_out, missing
from sumcirc.schema import Corruption, EvaluationConfig

FindSalient = Callable[[Document], Characters]  # from a document to its salient sentences

TRIED = 32  # documents by which `auto` is settled: the first ones, or all if there are fewer
SHARE = 0.5  # of these, the share that must give a pair for `swap`


@dataclass(frozen=True)
class MadePairs:
    """Clean and corrupted pairs made from a corpus.

    Attributes:
        corruption: how documents are corrupted, never `auto`.
        pairs: the pairs of clean and corrupted documents.
        dropped: number of documents for which no pair could be made, by reason.
        notices: messages for the user about what `auto` was settled as, about documents that were
            truncated or for which no pair could be made, and about fewer pairs than requested.
    """

    corruption: Corruption
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
    """Make clean and corrupted pairs from documents, taking oracle sentences as salient.

    The oracle sentences of a document are those that score best against its reference summary.

    Args:
        encoder: turns texts into tokens.
        documents: documents of the corpus, in the order in which they are used.
        corruption: name of the corruption, one of those described at the top of the module, or
            `auto`, see `settled`.
        count: number of pairs to make; None to make a pair of every document.
        evaluation: settings of the oracle: how many sentences it selects, and how words are
            counted.
        setting: name of the setting that gives `count`, for error messages.
        seed: as in `make_pairs`.
        progress: called with 1 after each pair.

    Raises:
        UserError: for the reasons given in `make_pairs`.
    """
    salient = oracle_finder(evaluation, documents)
    told: list[Notice] = []
    corruption = Corruption.of(corruption, "corruption")
    if corruption is Corruption.auto:
        where = ".".join([*setting.split(".")[:-1], "corruption"])
        corruption, notice = settled(encoder, documents, salient, where, seed)
        told.append(notice)
    pairs, dropped = make_pairs(encoder, documents, corruption, count, salient, seed, progress)
    looked_at = len(pairs) + sum(dropped.values())
    why = f"{len(documents):,} documents give {len(pairs):,}"
    cut = sum(pair.clean.truncated for pair in pairs)
    words = f"documents are cut to fit the {encoder.max_length} tokens of the context"
    notices = [
        *told,
        *left_out(setting, "documents", dropped, looked_at),
        missing(setting, "pairs", count, len(pairs), why),
        Notice(setting, "cut", cut, len(pairs), words),
        exchanged_notice(setting, pairs),
    ]
    return MadePairs(corruption, pairs, dropped, notices)


def settled(
    encoder: Encoder,
    documents: Sequence[Document],
    find_salient: FindSalient,
    setting: str,
    seed: int = 0,
) -> tuple[Corruption, Notice]:
    """Return the corruption that suits documents whose facts aren't known, and why.

    It is `swap` if at least half of the first 32 documents give a pair by it whose summary states
    an exchanged word (so that the words exchanged matter, and a logit difference is known), else
    `replace`.

    Args:
        encoder, documents, find_salient, seed: as in `make_pairs`.
        setting: name of the setting that is `auto`, for the notice.
    """
    tried = documents[:TRIED]
    swap = _maker(encoder, documents, Corruption.swap, find_salient, seed)
    pairs, _ = first_made(tried, None, swap)
    told = sum(bool(pair.clean.diverges.any()) for pair in pairs)
    which = "a pair by `swap` whose summary states an exchanged word"
    if tried and told >= SHARE * len(tried):
        words = f"documents tried give {which}, half or more: `auto` is `swap`"
        return Corruption.swap, Notice(setting, "auto", told, len(tried), words, limit=1.0)
    words = f"documents tried don't give {which}, more than half: `auto` is `replace`"
    rest = len(tried) - told
    return Corruption.replace, Notice(setting, "auto", rest, len(tried), words, limit=1.0)


def exchanged_notice(setting: str, pairs: Sequence[ExamplePair]) -> Notice:
    """Return a notice with the number of pairs in which each kind of word was exchanged.

    Args:
        setting: name of the setting that names the pairs.
        pairs: the pairs; the notice has the count 0 if none says what was exchanged.
    """
    kinds = Counter(kind for pair in pairs for kind in {one.name for one in pair.exchanged})
    count = sum(bool(pair.exchanged) for pair in pairs)
    by_kind = ", ".join(
        f"{kind} {kinds[kind]}" for kind in sorted(kinds, key=lambda k: (-kinds[k], k))
    )
    words = f"pairs exchange words (pairs by kind: {by_kind})"
    return Notice(setting, "exchanged", count, len(pairs), words, limit=1.0)


def make_pairs(
    encoder: Encoder,
    documents: Sequence[Document],
    corruption: Corruption | str,
    count: int | None,
    find_salient: FindSalient,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[ExamplePair], dict[str, int]]:
    """Make clean and corrupted pairs from documents.

    Args:
        encoder: turns texts into tokens.
        documents: documents in the order in which they are used; they also provide replacement
            text.
        corruption: name of the corruption, one of those described at the top of the module.
        count: number of pairs to make; None to make a pair of every document.
        find_salient: function that returns the character ranges of a document's salient sentences.
        seed: seed with which the built-in corpus was generated; it also determines the order in
            which other documents provide replacement text.
        progress: called with 1 after each pair.

    Returns:
        The pairs, and the number of documents for which no pair could be made, by reason.

    Raises:
        UserError: the corruption is unknown, or no pair can be made of any document.
    """
    corruption = Corruption.of(corruption, "corruption", Corruption.auto)
    make = _maker(encoder, documents, corruption, find_salient, seed)
    found, dropped = first_made(documents, count, make, progress)
    if not found:
        reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise UserError(f"corruption={corruption}: no document gives a pair ({reasons})")
    return found, dropped


def _maker(
    encoder: Encoder,
    documents: Sequence[Document],
    corruption: Corruption,
    find_salient: FindSalient,
    seed: int,
) -> Callable[[Document], ExamplePair]:
    """Return a function that makes a pair of a document, or raises NoExample."""
    donors = Donors(encoder, documents, seed)

    def plain(item: Document) -> ExamplePair:
        if corruption is Corruption.counterfactual:
            return counterfactual_pair(encoder, item, seed)
        salient = find_salient(item)
        if corruption is Corruption.swap:
            return swapped_pair(encoder, item, salient, donors)
        return _replaced_pair(encoder, item, corruption, salient, donors)

    return lambda item: with_wrong_facts(plain(item), encoder, item, seed)


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
        # from the end of the document: as far from the lead as salient text is near it on average
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
    """Return the first `length` tokens of other documents, as many documents as needed.

    Args:
        space: whether the first token begins with a space, like the text that is replaced.
    """
    found: list[int] = []
    for donor in donors:
        text = f" {donor.document}" if space or found else donor.document
        found += tokens_of(encoder, text)[: length - len(found)]
        if len(found) == length:
            return found
    raise NoExample("too few other documents")
