"""BERTScore: how well the tokens of a summary and its reference match, by an encoder's states.

For a summary with unit hidden states x_1..x_n and a reference with y_1..y_m, at one layer of an
encoder and without special tokens,

    precision = 1/n sum_i max_j x_i . y_j      recall = 1/m sum_j max_i x_i . y_j
    F1        = 2 precision recall / (precision + recall)

T. Zhang et al. (BERTScore: Evaluating Text Generation with BERT, 2020), without the weights by
inverse document frequency and without the rescaling by a baseline, which exist for some models
only. With several references, the one with the highest F1 counts. An empty summary scores 0.

`torchmetrics.functional.text.bert_score` computes the same for one pair of texts, with 0 as the
least cosine. For several pairs, version 1.9 puts the sorted texts back in a wrong order, so that
it scores summaries against other references (its issue 2728); so this file doesn't use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sumcirc.data.documents import Document
from sumcirc.models.modes import inference
from sumcirc.models.scoring_models import ScoringModel

BATCH = 16  # texts per forward pass
BLOCK = 32  # documents whose texts are sorted by length together
MEASURES = ("bertscore_precision", "bertscore_recall", "bertscore_f1")


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
            progress: called after each block with the number of documents in it.
        """
        found: list[dict[str, float | None]] = []
        self.cut = set()
        with inference(self.scorer.model):
            for start in range(0, len(documents), BLOCK):
                block = documents[start : start + BLOCK]
                summaries = predictions[start : start + BLOCK]
                found += self._block(start, block, summaries)
                if progress is not None:
                    progress(len(block))
        return found

    def _block(
        self, start: int, documents: Sequence[Document], predictions: Sequence[str]
    ) -> list[dict[str, float | None]]:
        texts, owners = [], []
        for index, (item, prediction) in enumerate(zip(documents, predictions, strict=True)):
            texts += [str(prediction), *item.references]
            owners += [index] * (1 + len(item.references))
        states: list[list[Tensor]] = [[] for _ in documents]
        for owner, (state, whole) in zip(owners, self._states(texts), strict=True):
            states[owner].append(state)
            if not whole:
                self.cut.add(start + owner)
        found = []
        for summary, *references in states:
            best = max((_match(summary, one) for one in references), key=lambda score: score[2])
            found.append(dict(zip(MEASURES, best, strict=True)))
        return found

    def _states(self, texts: Sequence[str]) -> list[tuple[Tensor, bool]]:
        """Return each text's [words, width] unit states, and whether it was read as a whole."""
        tokenizer, limit = self.scorer.tokenizer, self.scorer.limit
        full = tokenizer(list(texts), return_special_tokens_mask=True)
        lengths = [len(ids) for ids in full["input_ids"]]
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])
        found: list[tuple[Tensor, bool]] = [(torch.empty(0, 0), True)] * len(texts)
        for chosen in _batches(order):
            encoded = tokenizer(
                [texts[index] for index in chosen],
                padding=True,
                truncation=True,
                max_length=limit,
                return_special_tokens_mask=True,
                return_tensors="pt",
            ).to(self.scorer.model.device)
            words = (encoded.pop("special_tokens_mask") == 0) & (encoded["attention_mask"] == 1)
            output = self.scorer.model(**encoded, output_hidden_states=True)
            states = output.hidden_states[-1 if self.layer is None else self.layer]
            states = torch.nn.functional.normalize(states.float(), dim=-1)
            for row, index in enumerate(chosen):
                found[index] = states[row][words[row]], lengths[index] <= limit
        return found


def _batches(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def _match(summary: Tensor, reference: Tensor) -> tuple[float, float, float]:
    """Return precision, recall and F1 of [n, width] and [m, width] unit states."""
    if not len(summary) or not len(reference):
        return 0.0, 0.0, 0.0
    cosines = (summary.double() @ reference.double().T).cpu()
    precision, recall = cosines.amax(1).mean().item(), cosines.amax(0).mean().item()
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total > 0 else 0.0
