"""Scores by other models, BERTScore and entailment, added to the records of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sumcirc.data.documents import Document
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice
from sumcirc.runtime.progress import counted

if TYPE_CHECKING:
    import torch

    from sumcirc.evaluation.bertscore import BertScore
    from sumcirc.evaluation.entailment import Entailment
    from sumcirc.evaluation.scoring import Evaluation
    from sumcirc.schema import EvaluationConfig

BERTSCORE, NLI = "evaluation.bertscore", "evaluation.nli"


def check_model_scores(config: EvaluationConfig) -> None:
    """Raise an error if a model that scores summaries can't be used; no weights are read.

    Args:
        config: scoring settings.

    Raises:
        UserError: as in `check_scoring_model` and `entailment_label`, or there is no such layer.
    """
    from sumcirc.models.scoring_models import check_scoring_model

    if config.bertscore is not None:
        layers = check_scoring_model(config.bertscore, BERTSCORE, False).num_hidden_layers
        if config.bertscore_layer is not None and config.bertscore_layer > layers:
            raise UserError(
                f"evaluation.bertscore_layer={config.bertscore_layer}: {config.bertscore} has"
                f" {layers} layers"
            )
    if config.nli is not None:
        from sumcirc.evaluation.entailment import entailment_label

        found = check_scoring_model(config.nli, NLI, True)
        entailment_label(found.id2label, f"{NLI}={config.nli}")


def load_model_scores(config: EvaluationConfig) -> dict[str, BertScore | Entailment]:
    """Return what computes the scores that are configured, by `bertscore` and `nli`.

    Args:
        config: scoring settings.

    Raises:
        UserError: as in `check_model_scores`.
    """
    from sumcirc.models.scoring_models import load_scoring_model

    found: dict[str, BertScore | Entailment] = {}
    if config.bertscore is not None:
        from sumcirc.evaluation.bertscore import BertScore

        scorer = load_scoring_model(config.bertscore, BERTSCORE, False)
        found["bertscore"] = BertScore(scorer, config.bertscore_layer)
    if config.nli is not None:
        from sumcirc.evaluation.entailment import Entailment

        scorer = load_scoring_model(config.nli, NLI, True)
        found["nli"] = Entailment(scorer, config.nli_sentences)
    return found


def with_model_scores(
    evaluation: Evaluation,
    documents: Sequence[Document],
    scores: dict[str, BertScore | Entailment],
    device: torch.device | str,
) -> tuple[Evaluation, list[Notice]]:
    """Return an evaluation with further measures, and notices about texts that had to be cut.

    A model is on `device` only while it scores.

    Args:
        evaluation: the scores of one system, whose records are extended.
        documents: the documents, in the records' order.
        scores: result of `load_model_scores`.
        device: where the models compute.
    """
    notices = []
    for one in scores.values():
        system = evaluation.records[0]["system"]
        predictions = [record["prediction"] for record in evaluation.records]
        one.scorer.model.to(device)  # type: ignore[arg-type]
        with counted(f"{one.label} of {system}", len(documents)) as advance:
            values = one.score(documents, predictions, advance)
        one.scorer.model.to("cpu")  # type: ignore[arg-type]
        for record, found in zip(evaluation.records, values, strict=True):
            record |= found
        words = f"have texts that {one.label}'s model read in part, up to {one.scorer.limit} tokens"
        notices.append(
            Notice(
                f"{one.label} of {system}", "scored_in_part", len(one.cut), len(documents), words
            )
        )
        evaluation = replace(evaluation, measures=(*evaluation.measures, *one.measures))
    return evaluation, notices
