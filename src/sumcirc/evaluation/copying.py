"""Measures of how much a summary copies: extractive fragments and novel n-grams.

Let a summary have |S| words and its document |A| words, and let F be the fragments they share: the
longest common word runs, searched greedily from left to right. Then (M. Grusky, M. Naaman and Y.
Artzi, Newsroom, 2018, section 4)

    coverage    = sum over F of |f| / |S|     fraction of summary words inside a shared run
    density     = sum over F of |f|^2 / |S|   mean length of the run that a summary word is in
    compression = |A| / |S|

`novel_ngrams_k` is the fraction of the summary's distinct k-grams that the document doesn't contain
(S. Narayan, S. B. Cohen and M. Lapata, 2018). Words are lower-cased runs of letters and digits of
any script, or single characters of scripts without spaces; punctuation is ignored.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import regex

from sumcirc.data.word_tokenizers import UNSPACED

# Runs of letters, marks, digits and underscores; one character of a script without spaces.
_PART = rf"[[\w\p{{N}}\p{{M}}]--{UNSPACED}]+"
_WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|{_PART}(?:['\u2019]{_PART})*")
STATISTICS = (
    "coverage",
    "density",
    "compression",
    "novel_ngrams_1",
    "novel_ngrams_2",
    "novel_ngrams_3",
)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case. An apostrophe inside a word belongs to the word.

    Args:
        text: the text.
    """
    return _WORD.findall(text.lower())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the character spans (start, end) of the words that `words` finds in a text.

    Args:
        text: the text.
    """
    # lower-casing can turn one character into two: map each lower-cased character to its origin
    origins = [place for place, character in enumerate(text) for _ in character.lower()]
    return [
        (origins[found.start()], origins[found.end() - 1] + 1)
        for found in _WORD.finditer(text.lower())
    ]


def copy_statistics(document: str, summary: str) -> dict[str, float]:
    """Return how much a summary copies, by the measures that are defined at the top of this file.

    Args:
        document: text of the document that was summarized.
        summary: the summary.

    Returns:
        The value of each measure in `STATISTICS`, by its name. All values are NaN if the summary
        has no words, and `novel_ngrams_k` is NaN if the summary has fewer than k words.
    """
    source, target = words(document), words(summary)
    size = len(target)
    lengths = [length for _, _, length in extractive_fragments(source, target)]
    statistics = {
        "coverage": sum(lengths) / size if size else math.nan,
        "density": sum(length**2 for length in lengths) / size if size else math.nan,
        "compression": len(source) / size if size else math.nan,
    }
    for order in (1, 2, 3):
        mine, theirs = _ngrams(target, order), _ngrams(source, order)
        share = len(mine - theirs) / len(mine) if mine else math.nan
        statistics[f"novel_ngrams_{order}"] = share
    return statistics


def extractive_fragments(
    source: Sequence[str], target: Sequence[str]
) -> list[tuple[int, int, int]]:
    """Return the runs of words that a summary copies from its document, from left to right.

    At each word of the summary, the longest run of words that also occurs in the document is taken
    (the first of equally long ones), and the search continues after the run. Words that the
    document lacks are skipped.

    Args:
        source: words of the document.
        target: words of the summary.

    Returns:
        For each run, (start in `target`, start in `source`, length), counted in words.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(source):
        places[word].append(position)
    fragments = []
    start = 0
    while start < len(target):
        longest, where = 0, -1
        for position in places.get(target[start], ()):
            length = 1
            while (
                start + length < len(target)
                and position + length < len(source)
                and target[start + length] == source[position + length]
            ):
                length += 1
            if length > longest:
                longest, where = length, position
        if longest:
            fragments.append((start, where, longest))
        start += max(longest, 1)
    return fragments


def _ngrams(tokens: list[str], order: int) -> set[tuple[str, ...]]:
    return set(zip(*(tokens[start:] for start in range(order)), strict=False))
