"""Scoring of summaries, one record per document, and of the baselines on the same documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sumcirc.data.word_tokenizers import ASCII, Tokenizer, lost_share, unicode_words
from sumcirc.errors import UserError
from sumcirc.evaluation import rouge
from sumcirc.evaluation.baselines import (
    candidate_sentences,
    lead,
    oracle,
    random_sentences,
    tokenizer_of,
)
from sumcirc.evaluation.copying import STATISTICS, copy_statistics, words
from sumcirc.evaluation.degeneration import MEASURES as DEGENERATION
from sumcirc.evaluation.degeneration import degeneration
from sumcirc.evaluation.faithfulness import MEASURES as FAITHFULNESS
from sumcirc.evaluation.faithfulness import faithfulness
from sumcirc.runtime.notices import Notice
from sumcirc.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    from sumcirc.data.documents import Document
    from sumcirc.schema import EvaluationConfig

MEASURES = (
    *(f"{metric}_{part}" for metric in rouge.METRICS for part in ("precision", "recall", "f1")),
    "length",
    "reference_length",
    *STATISTICS,
    *FAITHFULNESS,
    *DEGENERATION,
)


@dataclass(frozen=True)
class Evaluation:
    """The scores of one system's summaries.

    Attributes:
        records: for each document, a mapping with `id`, `system` (the system's name), `prediction`
            (the summary), and the value of every measure, which is None if the measure is undefined
            for this summary.
        config: settings of the scoring.
        measures: names of the measures: those in `MEASURES`, and others that were added. `length`
            and `reference_length` (mean over the references) are in words, `density` and
            `compression` see `evaluation.copying`; the others are fractions.
    """

    records: list[dict[str, Any]]
    config: EvaluationConfig
    measures: tuple[str, ...] = MEASURES

    def values(self, measure: str) -> list[float | None]:
        """Return each document's value of a measure, in order; None where the measure is undefined.

        Args:
            measure: name of the measure.
        """
        return [record[measure] for record in self.records]

    def summary(self, config: EvaluationConfig | None = None) -> dict[str, Interval]:
        """Return the mean and bootstrap interval of every measure over the documents.

        The mean is over the `Interval.n` documents for which the measure is defined. Measures that
        are defined for no document are left out. Resamples have a fixed seed, so that they are the
        same for all systems.

        Args:
            config: settings of the bootstrap; None to use the attribute `config`.
        """
        config = config or self.config
        intervals = {}
        for measure in self.measures:
            defined = [value for value in self.values(measure) if value is not None]
            if defined:
                intervals[measure] = bootstrap_mean(defined, config.bootstrap, config.confidence)
        return intervals


def evaluate_summaries(
    documents: Sequence[Document],
    predictions: Sequence[str],
    config: EvaluationConfig,
    system: str = "model",
) -> Evaluation:
    """Score one summary of each document.

    If ROUGE's tokenizer is chosen automatically, the references of all documents together determine
    it.

    Args:
        documents: the documents with their references.
        predictions: one summary per document, in the same order; a `Summary` also tells whether
            the model ended it.
        config: scoring settings.
        system: name of the system, which is written into the records.

    Raises:
        ValueError: the numbers of documents and predictions differ.
        UserError: there are no documents, or no reference contains a word that ROUGE can see.
    """
    if len(documents) != len(predictions):
        raise ValueError(f"{len(documents)} documents but {len(predictions)} predictions")
    if not documents:
        raise UserError("data: there is no document to evaluate on; check the split and its size")
    tokenizer = tokenizer_of(documents, config)
    if not any(tokenizer.tokenize(text) for item in documents for text in item.references):
        raise UserError(
            "data.summary_column: no reference summary has a word that ROUGE can see"
            f" ({tokenizer.label}); check the column, or evaluation.rouge_tokenizer"
        )
    records = []
    for item, prediction in zip(documents, predictions, strict=True):
        record: dict[str, Any] = {"id": item.id, "system": system, "prediction": str(prediction)}
        for metric, found in rouge.score(prediction, item.references, tokenizer).items():
            record[f"{metric}_precision"] = found.precision
            record[f"{metric}_recall"] = found.recall
            record[f"{metric}_f1"] = found.f1
        record["length"] = len(words(prediction))
        record["reference_length"] = fmean(len(words(text)) for text in item.references)
        for name, value in copy_statistics(item.document, prediction).items():
            record[name] = None if math.isnan(value) else value
        record |= faithfulness(item.document, prediction, item.references)
        record |= degeneration(item.document, prediction)
        records.append(record)
    return Evaluation(records, config)


def unscorable(documents: Sequence[Document], tokenizer: Tokenizer) -> Notice:
    """Return a notice about documents whose references consist mostly of text that ROUGE ignores.

    Args:
        documents: the test documents.
        tokenizer: splits text into the words that ROUGE counts.
    """
    count = 0
    for item in documents:
        words = [word for text in item.references for word in unicode_words(text)]
        count += not words or (tokenizer is ASCII and lost_share(words) > 0.5)
    text = f"references are mostly invisible to ROUGE, which counts {tokenizer.label}"
    return Notice("data.test", "unscorable", count, len(documents), text)


def whole_documents(documents: Sequence[Document], config: EvaluationConfig) -> Notice:
    """Return a notice about documents that are too short for the lead and random baselines.

    Args:
        documents: the test documents.
        config: settings that determine the number of sentences of the baselines, and their smallest
            number of words.
    """
    most = config.sentences
    few = sum(
        len(candidate_sentences(item.document, config.min_sentence_words)) <= most
        for item in documents
    )
    words = (
        f"documents have {most} sentences or fewer, so that lead-{most} and random-{most} are the"
        " whole document; they are no baselines there"
    )
    return Notice("data.test", "few_sentences", few, len(documents), words)


def evaluate_baselines(
    documents: Sequence[Document], config: EvaluationConfig, seed: int = 0
) -> dict[str, Evaluation]:
    """Score lead-k, random-k and the greedy oracle, where k is `config.sentences`.

    Args:
        documents: the documents with their references.
        config: baseline and scoring settings.
        seed: seed of the random sentences.

    Returns:
        The evaluation of each baseline, by its name.

    Raises:
        UserError: there are no documents, or no reference contains a word that ROUGE can see.
    """
    count, minimum = config.sentences, config.min_sentence_words
    tokenizer = tokenizer_of(documents, config)
    systems: dict[str, Callable[[Document], str]] = {
        f"lead-{count}": lambda item: lead(item.document, count, minimum),
        f"random-{count}": lambda item: random_sentences(
            item.document, item.id, count, minimum, seed
        ),
        "oracle": lambda item: oracle(item.document, item.references, count, minimum, tokenizer),
    }
    return {
        name: evaluate_summaries(documents, [write(item) for item in documents], config, name)
        for name, write in systems.items()
    }
