"""Settings for decoding and scoring summaries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.choices import Choice
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, require


@dataclass
class GenerationConfig:
    """Decoding of summaries."""

    num_beams: int = 1  # number of beams; 1: greedy decoding
    max_new_tokens: int = 128  # largest length of a summary, in tokens
    min_new_tokens: int = 0  # EOS is not generated before
    no_repeat_ngram: int = 3  # length of n-grams that may not repeat among generated tokens; 0: off
    length_penalty: float = 1.0  # for beam search
    batch_size: int = 16  # documents per batch

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


class RougeTokenizer(Choice):
    """Tokenizer that splits text into words for ROUGE."""

    auto = "auto"  # unicode if ascii would lose letters in more than 1 % of the references' words
    ascii = "ascii"  # that of rouge-score: a-z and digits, stemmed
    unicode = "unicode"  # letters of any script, not stemmed; characters in scripts without spaces


@dataclass
class EvaluationConfig:
    """Scoring of summaries."""

    rouge_tokenizer: RougeTokenizer = RougeTokenizer.auto

    bootstrap: int = 1000  # bootstrap resamples for each interval
    confidence: float = 0.95  # level of the intervals
    min_sentence_words: int = 6  # shorter sentences are not used by the baselines
    sentences: int = 3  # sentences in the lead, random and oracle baselines
    at_end: bool = True  # score on data.test at the end of training
    base: bool = True  # also score the untrained model (cached per base model)
    bertscore: Optional[str] = None  # folder or hub id of an encoder: score by BERTScore as well
    bertscore_layer: Optional[int] = None  # layer whose output is compared; null: the last
    nli: Optional[str] = None  # folder or hub id of a classifier of entailment: score by it as well
    nli_sentences: int = 1  # consecutive sentences of the document in a premise
    # other texts, on which the model before and after training is measured: files or patterns
    retention: list[str] = field(default_factory=list)
    retention_column: str = "document"  # column of these texts; a .txt file is one text
    retention_documents: Optional[int] = None  # texts of each file or pattern; null takes all
    summaries: bool = True  # write and score summaries; false measures only `retention`

    def __post_init__(self) -> None:
        lists_of_one(self)
        at_least(self, "evaluation.", 1, "retention_documents")
        require(
            self.summaries or bool(self.retention),
            "evaluation.summaries=false: then only evaluation.retention is measured, which is not"
            " set; add evaluation.retention=FILE, or leave it out",
        )
        at_least(self, "evaluation.", 100, "bootstrap")
        require(
            0 < self.confidence < 1,
            f"evaluation.confidence={self.confidence}: must lie between 0 and 1",
        )
        at_least(self, "evaluation.", 1, "sentences", "nli_sentences")
        at_least(self, "evaluation.", 0, "min_sentence_words", "bertscore_layer")
        require(
            self.bertscore is not None or self.bertscore_layer is None,
            f"evaluation.bertscore_layer={self.bertscore_layer}: has no effect without"
            " evaluation.bertscore=FOLDER_OR_ID",
        )
        require(
            self.nli is not None or self.nli_sentences == 1,
            f"evaluation.nli_sentences={self.nli_sentences}: has no effect without"
            " evaluation.nli=FOLDER_OR_ID",
        )

    @property
    def scores(self) -> bool:
        """Whether summaries are written and scored at the end of training."""
        return self.at_end and self.summaries
