"""Finds the salient places of a document: its key facts, or the sentences that a summary needs.

On the built-in wire these are all mentions of the key facts of the summary's event, which are
known, and for comparison the mentions of the other event's facts. In other documents they are the
oracle's sentences, whose ROUGE against the reference a greedy search finds to be highest.
"""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.data.documents import Document
from sumcirc.data.wire_spans import FindSpans, wire_distractor, wire_salient
from sumcirc.evaluation.baselines import oracle_finder
from sumcirc.schema import DataConfig, EvaluationConfig, Source

SALIENT, DISTRACTOR = "salient", "distractor"  # names of the spans


def salient_finders(
    data: DataConfig, evaluation: EvaluationConfig, documents: Sequence[Document]
) -> dict[str, FindSpans]:
    """Return functions that find a document's salient places, by the name of the span.

    Each takes a document and returns character ranges. `salient` is always among them, and
    `distractor`, the other event's facts, if the documents are articles of the wire.

    Args:
        data: settings of the documents.
        evaluation: settings of the oracle that chooses sentences.
        documents: the whole corpus, for the oracle's choice of a tokenizer.
    """
    if data.source is Source.wire:
        return {SALIENT: wire_salient(data.seed), DISTRACTOR: wire_distractor(data.seed)}
    return {SALIENT: oracle_finder(evaluation, documents)}
