"""The scores of summaries and the systems that are scored: names in files, and labels."""

from __future__ import annotations

BASE = "base"  # the model before training
TRAINED = "trained"  # the system that a training run made; its row carries the run's name

ROUGE_LSUM = "rougeLsum_f1"
ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
# whether a summary is faithful to its document, and how often it is degenerate, with headings
ENTITIES = {"entity_precision": "entities supported", "entity_recall": "entities recalled"}
DEGENERATE = {
    "repeated_ngrams_2": "repeated 2-grams",
    "unended": "not ended",
    "empty": "empty",
    "copied": "copied whole",
}
# by a model that the user named
BY_MODEL = {"bertscore_f1": "BERTScore", "nli_entailment": "entailed"}
FAITHFUL = {"facts_wrong": "wrong facts", **ENTITIES, **BY_MODEL, **DEGENERATE}
# columns of documents.parquet that are compared, with their headings; not all data has facts, and
# runs of version 0.1 have none of `FAITHFUL`
SCORES = {
    **{f"{name}_f1": heading for name, heading in ROUGE.items()},
    "facts": "facts",
    **FAITHFUL,
    "length": "words",
    "coverage": "coverage",
    "density": "density",
    "novel_ngrams_1": "novel 1-grams",
    "novel_ngrams_2": "novel 2-grams",
    "novel_ngrams_3": "novel 3-grams",
}
SHARES = {
    *(f"{name}_f1" for name in ROUGE),
    "facts",
    *FAITHFUL,
}  # fractions that are shown times 100
UNBOUNDED = {"length", "density"}  # the others lie between 0 and 1, but for
SIGNED = {"bertscore_f1"}  # which lies between -1 and 1


def scale_of(score: str) -> float:
    """Return the factor by which a score is multiplied for display: 100 for fractions, else 1.

    Args:
        score: name of the score, such as `rouge1_f1`.
    """
    return 100.0 if score in SHARES else 1.0


def shown_in_wandb(score: str) -> tuple[str, float]:
    """Return the name that a score has in W&B, and the factor by which it is multiplied there.

    ROUGE, facts and the scores in `FAITHFUL` are fractions, which are multiplied by 100;
    `rouge1_f1` becomes `rouge1_x100`, `rouge1_recall` becomes `rouge1_recall_x100`. Other scores
    stay as they are.

    Args:
        score: name of the score in the run's files.
    """
    if score.startswith(("rouge", "fact")) or score in FAITHFUL:
        return f"{score.removesuffix('_f1')}_x100", 100.0
    return score, 1.0
