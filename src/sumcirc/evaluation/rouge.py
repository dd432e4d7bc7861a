"""ROUGE-1, -2, -L and -Lsum of a summary (C.-Y. Lin, 2004), by the rouge-score package.

- ROUGE-n: n-grams that prediction and reference share (each counted at most as often as in either),
  over the prediction's n-grams (precision) and the reference's (recall).
- ROUGE-L: the same with the longest common subsequence of the two texts as the overlap.
- ROUGE-Lsum: for each reference sentence, the union of its longest common subsequences with the
  prediction's sentences. This is the "ROUGE-L" of the summarization literature.

`data.word_tokenizers` defines what a word is; it is the same for all systems of a table. For Lsum
both sides are split by `split_sentences`, and a line break always ends a sentence. With several
references each metric is taken from the reference with the best F1. All scores are fractions
between 0 and 1; tables show them times 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sumcirc.data.sentences import split_sentences
from sumcirc.data.word_tokenizers import ASCII, Tokenizer

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True)
class Score:
    """A ROUGE score.

    Attributes:
        precision: fraction of the prediction that the reference contains.
        recall: fraction of the reference that the prediction contains.
        f1: harmonic mean of precision and recall.
    """

    precision: float
    recall: float
    f1: float


def score(
    prediction: str, references: Sequence[str], tokenizer: Tokenizer = ASCII
) -> dict[str, Score]:
    """Return the ROUGE scores of a summary against its references.

    Args:
        prediction: the summary to score.
        references: one or more reference summaries.
        tokenizer: splits text into words.

    Returns:
        A score for each metric in `METRICS`.

    Raises:
        ValueError: there is no reference.
    """
    if not references:
        raise ValueError("a summary can't be scored without a reference")
    best = _scorer(tokenizer).score_multi(
        [_by_line(text) for text in references], _by_line(prediction)
    )
    return {
        metric: Score(float(found.precision), float(found.recall), float(found.fmeasure))
        for metric, found in best.items()
    }


@lru_cache(maxsize=4096)
def _by_line(text: str) -> str:
    return "\n".join(split_sentences(text))


@lru_cache(maxsize=2)
def _scorer(tokenizer: Tokenizer) -> RougeScorer:
    # imported on first use: it imports nltk, which commands that score nothing shouldn't wait for
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(METRICS), tokenizer=tokenizer)  # type: ignore[arg-type]
