"""Baseline summaries that need no model: leading, random and oracle sentences of the document.

The oracle is the best that copying whole sentences can do: a greedy search that knows the reference
summaries.

Only sentences with at least `min_words` words (separated by white space; characters in scripts
without spaces) are candidates, which skips bylines and datelines. If a document has no such
sentence, all of its sentences are candidates; if it has fewer than requested, all of them are
taken. Sentences are returned in document order, one per line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

from sumcirc.data.documents import Document
from sumcirc.data.sentences import sentence_spans, split_sentences
from sumcirc.data.word_tokenizers import ASCII, Tokenizer, tokenizer_for, word_count
from sumcirc.schema import EvaluationConfig


def lead(document: str, sentences: int = 3, min_words: int = 6) -> str:
    """Return the first candidate sentences of a document, one per line.

    Args:
        document: text of the document.
        sentences: largest number of sentences to return.
        min_words: smallest number of words of a candidate sentence, see the top of this file.
    """
    return "\n".join(candidate_sentences(document, min_words)[:sentences])


def random_sentences(
    document: str, item_id: str, sentences: int = 3, min_words: int = 6, seed: int = 0
) -> str:
    """Return candidate sentences of a document, drawn at random without replacement, one per line.

    The draw depends only on `seed`, `item_id` and the number of candidates: sentences are ranked by
    a SHA-256 hash, so the result is the same on every machine and independent of earlier draws.

    Args:
        document: text of the document.
        item_id: id of the document.
        sentences: largest number of sentences to return.
        min_words: smallest number of words of a candidate sentence, see the top of this file.
        seed: seed of the draw.
    """
    candidates = candidate_sentences(document, min_words)
    ranks = [
        hashlib.sha256(f"{seed}\0{item_id}\0{index}".encode()).digest()
        for index in range(len(candidates))
    ]
    chosen = sorted(range(len(candidates)), key=lambda index: ranks[index])[:sentences]
    return "\n".join(candidates[index] for index in sorted(chosen))


def oracle(
    document: str,
    references: Sequence[str],
    sentences: int = 3,
    min_words: int = 6,
    tokenizer: Tokenizer = ASCII,
) -> str:
    """Return the sentences of a document that together match its references best, one per line.

    A greedy search repeatedly adds the candidate sentence that raises ROUGE-1 F1 + ROUGE-2 F1 most
    (the earliest of equally good ones), until there are `sentences` sentences or none raises the
    sum (Nallapati et al. 2017, Liu and Lapata 2019). Each F1 is the maximum over the references.
    The result is empty if the document shares no word with its references.

    Args:
        document: text of the document.
        references: reference summaries of the document.
        sentences: largest number of sentences to return.
        min_words: smallest number of words of a candidate sentence, see the top of this file.
        tokenizer: splits text into the words that ROUGE counts.
    """
    candidates = candidate_sentences(document, min_words)
    tokens = [tokenizer.tokenize(sentence) for sentence in candidates]
    overlaps = [
        _Overlap(tokenizer.tokenize(reference), order)
        for order in (1, 2)
        for reference in references
    ]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < sentences:
        winner = None
        for index in range(len(candidates)):
            if index in chosen:
                continue
            joined = [token for member in sorted([*chosen, index]) for token in tokens[member]]
            gained = sum(
                max(overlap.f1(joined) for overlap in overlaps if overlap.order == order)
                for order in (1, 2)
            )
            if gained > best:
                best, winner = gained, index
        if winner is None:
            break
        chosen.append(winner)
    return "\n".join(candidates[index] for index in sorted(chosen))


def oracle_spans(
    document: str,
    references: Sequence[str],
    sentences: int = 3,
    min_words: int = 6,
    tokenizer: Tokenizer = ASCII,
) -> list[tuple[int, int]]:
    """Return the character spans (start, end) of the sentences that `oracle` selects.

    Args:
        document, references, sentences, min_words, tokenizer: as in `oracle`.
    """
    found = set(oracle(document, references, sentences, min_words, tokenizer).split("\n"))
    return [(start, end) for start, end in sentence_spans(document) if document[start:end] in found]


def oracle_finder(
    config: EvaluationConfig, documents: Sequence[Document]
) -> Callable[[Document], list[tuple[int, int]]]:
    """Return a function that takes a document and returns the `oracle_spans` of its text.

    Args:
        config: settings that determine the number of sentences, their smallest number of words, and
            ROUGE's tokenizer.
        documents: the whole corpus. If the tokenizer is chosen automatically, the corpus's
            references determine it.
    """
    tokenizer = tokenizer_of(documents, config)
    options = config.sentences, config.min_sentence_words, tokenizer

    def find(item: Document) -> list[tuple[int, int]]:
        return oracle_spans(item.document, item.references, *options)

    return find


def tokenizer_of(documents: Sequence[Document], config: EvaluationConfig) -> Tokenizer:
    """Return the ROUGE tokenizer for a corpus.

    Args:
        documents: the corpus, whose references determine the tokenizer if
            `evaluation.rouge_tokenizer` is `auto`.
        config: settings, of which `rouge_tokenizer` is used.
    """
    references = (text for item in documents for text in item.references)
    return tokenizer_for(references, config.rouge_tokenizer)


def candidate_sentences(document: str, min_words: int) -> list[str]:
    """Return a document's sentences with at least `min_words` words, or all if there are none.

    Args:
        document: text of the document.
        min_words: smallest number of words of a candidate sentence, see the top of this file.
    """
    everything = split_sentences(document)
    return [text for text in everything if word_count(text) >= min_words] or everything


class _Overlap:
    """ROUGE-n F1 against one reference, whose n-grams are counted only once."""

    def __init__(self, reference: list[str], order: int) -> None:
        self.order = order
        self._counts = Counter(_ngrams(reference, order))
        self._total = sum(self._counts.values())

    def f1(self, tokens: list[str]) -> float:
        """Return 2 * shared n-grams / (n-grams of `tokens` + n-grams of the reference)."""
        left = dict(self._counts)
        shared = 0
        for ngram in _ngrams(tokens, self.order):
            if left.get(ngram, 0) > 0:
                left[ngram] -= 1
                shared += 1
        total = self._total + max(len(tokens) - self.order + 1, 0)
        return 2.0 * shared / total if total else 0.0


def _ngrams(tokens: list[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(order)), strict=False))
