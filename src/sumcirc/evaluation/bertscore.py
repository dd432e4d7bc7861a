"""BERTScore: how well the tokens of a summary and its reference match, by an encoder's states.

For a summary with unit hidden states x_1..x_n and a reference with y_1..y_m, at one layer of an
encoder and without special tokens,

    precision = 1/n sum_i max_j x_i . y_j      recall = 1/m sum_j max_i x_i . y_j
    F1        = 2 precision recall / (precision + recall)

T. Zhang et al. (BERTScore: Evaluating Text Generation with BERT, 2020), without the weights by
inverse document frequency and without the rescaling by a baseline, which exist for some models
only. With several references, the one with the highest F1 counts. An empty summary scores 0.

`torchmetrics` computes it, one pair of texts at a time: given several, version 1.9 puts the sorted
texts back in a wrong order and compares summaries with other references (its issue 2728).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sumcirc.data.documents import Document
from sumcirc.models.modes import inference
from sumcirc.models.scoring_models import ScoringModel

PARTS = ("precision", "recall", "f1")
MEASURES = tuple(f"bertscore_{part}" for part in PARTS)


class BertScore:
    """Scores summaries by BERTScore.

    Args:
        scorer: the encoder.
        layer: number of the layer whose output is compared, from 1; 0 is the embedding, and None
            the last.

    Attributes:
        label: name of the score for people.
        measures: names of the values that `score` returns for each document.
    """

    label = "BERTScore"
    measures = MEASURES

    def __init__(self, scorer: ScoringModel, layer: int | None = None) -> None:
        self.scorer = scorer
        self.layer = layer
        self.cut: set[int] = set()

    @property
    def record(self) -> dict[str, Any]:
        """The model and the settings that determine the scores, for summary.json."""
        layers = self.scorer.model.config.num_hidden_layers
        layer = layers if self.layer is None else self.layer
        return {**self.scorer.record, "layer": layer, "limit": self.scorer.limit}

    def score(
        self,
        documents: Sequence[Document],
        predictions: Sequence[str],
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, float | None]]:
        """Return the values of `measures` for one summary of each document.

        Texts that are longer than the encoder reads are cut at their end; the indices of their
        documents are in `cut` afterwards.

        Args:
            documents: the documents with their references.
            predictions: one summary per document, in the same order.
            progress: called after each document with 1.
        """
        found: list[dict[str, float | None]] = []
        self.cut = set()
        with inference(self.scorer.model):
            for index, (item, summary) in enumerate(zip(documents, predictions, strict=True)):
                lengths = self._lengths([summary, *item.references])
                if max(lengths) > self.scorer.limit:
                    self.cut.add(index)
                empty = self._lengths([""])[0]
                pairs = [
                    self._pair(summary, reference)
                    for reference, length in zip(item.references, lengths[1:], strict=True)
                    if min(lengths[0], length) > empty
                ]
                best = max(pairs, key=lambda values: values[2], default=(0.0, 0.0, 0.0))
                found.append(dict(zip(MEASURES, best, strict=True)))
                if progress is not None:
                    progress(1)
        return found

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Return each text's number of tokens, special ones included."""
        return [len(ids) for ids in self.scorer.tokenizer(list(texts))["input_ids"]]

    def _pair(self, summary: str, reference: str) -> tuple[float, float, float]:
        """Return precision, recall and F1 of one pair of texts."""
        from torchmetrics.functional.text.bert import bert_score

        values: Any = bert_score(
            [summary],
            [reference],
            model=self.scorer.model,
            user_tokenizer=self.scorer.tokenizer,
            num_layers=self.layer,
            device=self.scorer.model.device,
            max_length=self.scorer.limit,
            truncation=True,
            batch_size=1,
        )
        precision, recall, f1 = (float(values[part]) for part in PARTS)
        return precision, recall, f1
