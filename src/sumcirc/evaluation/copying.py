"""How much of a summary is copied: extractive fragments and novel n-grams.

Take a summary of |S| words, a document of |A| words, and as F the fragments that they share: the
longest word runs, found greedily from left to right. Then (M. Grusky, M. Naaman and Y. Artzi,
Newsroom, 2018, section 4)

    coverage    = sum over F of |f| / |S|     share of summary words inside a shared run
    density     = sum over F of |f|^2 / |S|   mean length of the run that a summary word is in
    compression = |A| / |S|

`novel_ngrams_k` is the share of the summary's distinct k-grams that the document doesn't have
(S. Narayan, S. B. Cohen and M. Lapata, 2018). Words are lower-cased runs of letters and digits of
any script, or single characters of scripts without spaces; punctuation counts nowhere.
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
    """Return the lower-cased words of `text`, an apostrophe inside a word included."""
    return _WORD.findall(text.lower())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each of `words(text)` stands in `text`, as (start, end)."""
    # lower-casing may make two characters of one: each lower-cased one leads back to its origin
    origins = [place for place, character in enumerate(text) for _ in character.lower()]
    return [
        (origins[found.start()], origins[found.end() - 1] + 1)
        for found in _WORD.finditer(text.lower())
    ]


def copy_statistics(document: str, summary: str) -> dict[str, float]:
    """Return the measures named in `STATISTICS`.

    What isn't defined is NaN: all of them for a summary without words, and `novel_ngrams_k` for one
    of fewer than k words.
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
    """Return the copied runs as (start in target, start in source, length), left to right.

    From each target word take the longest run that also stands in the source (the first of equals),
    then go on behind it; a word that the source lacks is passed over.
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
