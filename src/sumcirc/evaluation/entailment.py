"""Entailment: whether a document entails the sentences of its summary, by an NLI classifier.

With the document's sentences d_1..d_k and the summary's s_1..s_n,

    premises       windows of `sentences` consecutive d, each beginning half a window after the last
    e_j          = max over premises p of P(entailment | p, s_j)
    nli_entailment = mean_j e_j              nli_entailed = share of j with e_j > 1/2

With windows of one sentence this is SummaC-ZS of P. Laban et al. (SummaC: Re-Visiting NLI-based
Models for Inconsistency Detection in Summarization, 2022), by the probability of entailment alone.
A summary without a sentence has no value.

A sentence of the summary is cut to half of what the classifier reads, then a premise to what is
left, both at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sumcirc.data.documents import Document
from sumcirc.data.sentences import split_sentences
from sumcirc.errors import UserError
from sumcirc.models.modes import inference
from sumcirc.models.scoring_models import ScoringModel

BATCH = 16  # pairs per forward pass
BLOCK = 16  # documents whose pairs are sorted by length together
MEASURES = ("nli_entailment", "nli_entailed")
LABELS = ("entailment", "entail", "entails", "entailed")


class Entailment:
    """Scores summaries by whether their document entails their sentences.

    Args:
        scorer: the classifier.
        sentences: number of the document's sentences in a premise.

    Attributes:
        label: name of the score for people.
        measures: names of the values that `score` returns for each document.

    Raises:
        UserError: as in `entailment_label`.
    """

    label = "entailment"
    measures = MEASURES

    def __init__(self, scorer: ScoringModel, sentences: int = 1) -> None:
        self.scorer = scorer
        self.sentences = sentences
        self.index = entailment_label(scorer.model.config.id2label, scorer.given)
        self.cut: set[int] = set()

    @property
    def record(self) -> dict[str, Any]:
        """The model and the settings that determine the scores, for summary.json."""
        settings = {"label": self.index, "sentences": self.sentences, "limit": self.scorer.limit}
        return {**self.scorer.record, **settings}

    def score(
        self,
        documents: Sequence[Document],
        predictions: Sequence[str],
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, float | None]]:
        """Return the values of `measures` for one summary of each document.

        The indices of documents with a premise or a sentence of the summary that had to be cut are
        in `cut` afterwards.

        Args:
            documents: the documents.
            predictions: one summary per document, in the same order.
            progress: called after each block with the number of documents in it.
        """
        found: list[dict[str, float | None]] = []
        self.cut = set()
        with inference(self.scorer.model):
            for start in range(0, len(documents), BLOCK):
                block = documents[start : start + BLOCK]
                found += self._block(start, block, predictions[start : start + BLOCK])
                if progress is not None:
                    progress(len(block))
        return found

    def _block(
        self, start: int, documents: Sequence[Document], predictions: Sequence[str]
    ) -> list[dict[str, float | None]]:
        pairs: list[tuple[str, str]] = []
        shapes = []
        for item, prediction in zip(documents, predictions, strict=True):
            premises = windows(split_sentences(item.document), self.sentences)
            claims = split_sentences(str(prediction))
            pairs += [(premise, claim) for claim in claims for premise in premises]
            shapes.append((len(claims), len(premises)))
        probabilities, cut = self._probabilities(pairs)
        found: list[dict[str, float | None]] = []
        at = 0
        for index, (claims, premises) in enumerate(shapes):
            own = slice(at, at := at + claims * premises)
            if any(cut[own]):
                self.cut.add(start + index)
            if not claims or not premises:
                found.append(dict.fromkeys(MEASURES))
                continue
            best = probabilities[own].view(claims, premises).amax(1)
            values = best.mean().item(), (best > 0.5).double().mean().item()
            found.append(dict(zip(MEASURES, values, strict=True)))
        return found

    def _probabilities(self, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, list[bool]]:
        """Return P(entailment) of each (premise, sentence), and whether one of the two was cut."""
        tokenizer, limit = self.scorer.tokenizer, self.scorer.limit
        found = torch.zeros(len(pairs), dtype=torch.float64)
        if not pairs:
            return found, []
        claims, cut_claims = self._cut([claim for _, claim in pairs])
        lengths = [
            len(ids)
            for ids in tokenizer([premise for premise, _ in pairs], claims, verbose=False)[
                "input_ids"
            ]
        ]
        order = sorted(range(len(pairs)), key=lambda index: -lengths[index])
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            encoded = tokenizer(
                [pairs[index][0] for index in chosen],
                [claims[index] for index in chosen],
                padding=True,
                truncation="only_first",
                max_length=limit,
                return_tensors="pt",
            ).to(self.scorer.model.device)
            logits = self.scorer.model(**encoded).logits.double()
            found[chosen] = logits.softmax(-1)[:, self.index].cpu()
        long = [length > limit for length in lengths]
        return found, [a or b for a, b in zip(cut_claims, long, strict=True)]

    def _cut(self, claims: Sequence[str]) -> tuple[list[str], list[bool]]:
        """Return texts whose tokens beyond half of the limit are left out, and which were cut."""
        most = self.scorer.limit // 2
        encoded = self.scorer.tokenizer(
            list(claims), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        found, cut = [], []
        for text, offsets in zip(claims, encoded["offset_mapping"], strict=True):
            cut.append(len(offsets) > most)
            found.append(text[: offsets[most - 1][1]] if cut[-1] else text)
        return found, cut


def windows(sentences: Sequence[str], size: int) -> list[str]:
    """Return the premises of a document: `size` consecutive sentences, joined by spaces.

    Each window begins half a window (rounded up) after the one before, and the last ends with the
    document. A document with at most `size` sentences is one premise.

    Args:
        sentences: the document's sentences.
        size: number of sentences in a window.
    """
    if not sentences:
        return []
    step = (size + 1) // 2
    starts = [*range(0, max(len(sentences) - size, 0), step), max(len(sentences) - size, 0)]
    return [" ".join(sentences[start : start + size]) for start in starts]


def entailment_label(names: Mapping[Any, str] | None, given: str) -> int:
    """Return the index of the label that stands for entailment.

    Args:
        names: the classifier's labels by index (`id2label` of its config.json).
        given: text that names the classifier in error messages: the user's setting and its value.

    Raises:
        UserError: not exactly one label is called entailment, or it is the only label.
    """
    names = names or {}
    found = [int(index) for index, name in names.items() if str(name).strip().lower() in LABELS]
    if len(found) != 1 or len(names) < 2:
        shown = ", ".join(str(name) for name in names.values())
        raise UserError(
            f"{given}: its labels are {shown:.100}; one of several must be called entailment"
            " (id2label in config.json)"
        )
    return found[0]
