"""Detects degenerate summaries: repetitive, unended, empty, or copied whole.

For a summary of words w (as for copying, `evaluation.copying.words`)

    repeated_ngrams_k = 1 - |distinct k-grams of w| / |k-grams of w|
    unended = 1 if the model generated `generation.max_new_tokens` tokens without an end token
    empty   = 1 if the summary has no word
    copied  = 1 if it has words and each of its sentences is a run of words of the document

`repeated_ngrams_k` is seq-rep-k of S. Welleck et al. (Neural text generation with unlikelihood
training, 2020); it is None if the summary has fewer than k words. `unended` is None for a baseline,
which no model generated. With `generation.no_repeat_ngram=3`, the default, decoding itself keeps
`repeated_ngrams_3` near 0, and a loop shows in `repeated_ngrams_2`.
"""

from __future__ import annotations

from functools import lru_cache

from sumcirc.data.sentences import split_sentences
from sumcirc.evaluation.copying import words

MEASURES = ("repeated_ngrams_2", "repeated_ngrams_3", "unended", "empty", "copied")


class Summary(str):
    """A summary that a model generated.

    Attributes:
        ended: whether the model ended it with an end token; if not, it was cut at
            `generation.max_new_tokens` tokens.
    """

    ended: bool

    def __new__(cls, text: str, ended: bool) -> Summary:
        """Make a summary of a text."""
        found = super().__new__(cls, text)
        found.ended = ended
        return found


def degeneration(document: str, summary: str) -> dict[str, float | None]:
    """Return one summary's values, which are defined at the top of this file.

    Args:
        document: text of the document.
        summary: a summary of the document; a `Summary` if a model generated it.

    Returns:
        The value of each measure in `MEASURES`, by its name; None where it is undefined.
    """
    written = words(summary)
    sentences = [found for text in split_sentences(summary) if (found := words(text))]
    source = _joined_words(document)
    return {
        "repeated_ngrams_2": _repeated(written, 2),
        "repeated_ngrams_3": _repeated(written, 3),
        "unended": float(not summary.ended) if isinstance(summary, Summary) else None,
        "empty": float(not written),
        "copied": float(bool(sentences) and all(_joined(one) in source for one in sentences)),
    }


def _repeated(written: list[str], order: int) -> float | None:
    ngrams = list(zip(*(written[start:] for start in range(order)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else None


@lru_cache(maxsize=256)  # all systems of a table are scored on the same documents
def _joined_words(text: str) -> str:
    return _joined(words(text))


def _joined(written: list[str]) -> str:
    return f" {' '.join(written)} "
