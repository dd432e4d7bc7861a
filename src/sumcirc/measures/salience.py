"""Salience of source tokens for the reference summary, and which heads attend to salient tokens.

A document's word counts the reference's n-grams that it takes part in: 1 if the reference has its
stem, and 1 for each of its two bigrams (with the previous and with the next word) that the
reference has. Its salience is thus 0 to 3. Words and stems are those of ROUGE
(`data.word_tokenizers`).

A head's salience alignment is the Spearman correlation of its attention over the source tokens with
their salience. It is a cheap analogue of the alignment with the importance of words in arXiv
2602.00459, which derives importance from many summaries of one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.data.word_tokenizers import ASCII, Tokenizer
from sumcirc.measures.representation import spearman


def token_salience(
    document: str,
    offsets: Sequence[tuple[int, int]],
    reference: str,
    tokenizer: Tokenizer = ASCII,
) -> NDArray[np.float32]:
    """Return the ROUGE salience of every source token.

    Args:
        document: the text of the document.
        offsets: range [start, end) of each token's characters in the document.
        reference: the reference summary.
        tokenizer: splits text into words.

    Returns:
        [tokens] float32, 0 to 3. A token has the salience of the word with which it overlaps most,
        or of the first of several such words; punctuation and white space have salience 0.
    """
    spans = tokenizer.spans(document)
    stems = [stem for _, _, stem in spans]
    known = tokenizer.tokenize(reference)
    unigrams, bigrams = set(known), set(pairwise(known))
    salience = np.array([stem in unigrams for stem in stems], dtype=np.float32)
    shared = [pair in bigrams for pair in pairwise(stems)]
    salience[:-1] += shared
    salience[1:] += shared

    word_at = np.full(len(document), -1)
    for word, (start, end, _) in enumerate(spans):
        word_at[start:end] = word
    found = np.zeros(len(offsets), dtype=np.float32)
    for token, (start, end) in enumerate(offsets):
        here = word_at[start:end]
        words, characters = np.unique(here[here >= 0], return_counts=True)
        if len(words):
            found[token] = salience[words[characters.argmax()]]
    return found


def salience_alignment(attention: Tensor, salience: Tensor) -> Tensor:
    """Return the Spearman correlation of attention over source tokens with their salience.

    Args:
        attention: [..., K] attention to K source tokens, for each head, or for each head and row.
        salience: [K] salience of these tokens.

    Returns:
        [...] correlations from -1 to 1; tied values get their average rank. NaN where the
        attention or the salience is the same for all tokens.
    """
    return spearman(attention, salience)
