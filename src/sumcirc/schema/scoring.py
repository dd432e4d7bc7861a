"""Decoding summaries and scoring them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from sumcirc.schema.require import at_least, require


@dataclass
class GenerationConfig:
    """Decoding of summaries."""

    num_beams: int = 1  # 1 is greedy
    max_new_tokens: int = 128  # a summary is at most so long
    min_new_tokens: int = 0  # EOS is not taken before
    no_repeat_ngram: int = 3  # blocked among generated tokens only; 0 is off
    length_penalty: float = 1.0  # beam search only
    batch_size: int = 16  # documents at once

    def __post_init__(self) -> None:
        at_least(self, "generation.", 1, "num_beams", "max_new_tokens", "batch_size")
        at_least(self, "generation.", 0, "min_new_tokens", "no_repeat_ngram")
        require(
            math.isfinite(self.length_penalty),
            f"generation.length_penalty={self.length_penalty}: must be a number",
        )
        require(
            self.min_new_tokens <= self.max_new_tokens,
            f"generation.min_new_tokens={self.min_new_tokens}: more than"
            f" generation.max_new_tokens={self.max_new_tokens}",
        )


class RougeTokenizer(Enum):
    """How ROUGE splits text into words."""

    auto = "auto"  # unicode where ascii would lose letters of 1 % of the references' words
    ascii = "ascii"  # rouge-score's own: a-z and digits, stemmed
    unicode = "unicode"  # letters of any script, not stemmed; characters in scripts without spaces


@dataclass
class EvaluationConfig:
    """Scoring of summaries."""

    rouge_tokenizer: RougeTokenizer = RougeTokenizer.auto

    bootstrap: int = 1000  # resamples behind each interval
    confidence: float = 0.95  # of intervals
    min_sentence_words: int = 6  # shorter sentences are passed over by lead, random and oracle
    sentences: int = 3  # sentences of the lead, random and oracle baselines
    at_end: bool = True  # training ends with scoring on data.test
    base: bool = True  # the untrained model is scored on the same items, once per base (cached)

    def __post_init__(self) -> None:
        at_least(self, "evaluation.", 100, "bootstrap")
        require(
            0 < self.confidence < 1,
            f"evaluation.confidence={self.confidence}: must lie between 0 and 1",
        )
        at_least(self, "evaluation.", 1, "sentences")
        at_least(self, "evaluation.", 0, "min_sentence_words")
