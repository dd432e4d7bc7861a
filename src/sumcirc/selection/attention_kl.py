"""Where training changes attention: KL(tuned || base) of attention rows, mean over heads.

Both models read the same documents with their reference summaries; rows are those that predict the
summary. A differential score (it compares two models and intervenes in none), in nats. The idea of
arXiv 2505.17073, with its own definition (see `probes.attention`).
"""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, require_defined


def score(evidence: Evidence) -> Scores:
    """Score layers by the mean KL of their heads."""
    record = evidence.tuned_record("divergence")
    values = record.values["attention/kl_tuned_base"].mean(1, keepdims=True, dtype="float64")
    values = require_defined(values, "attention_kl")
    return Scores(values, "training changes where its heads attend", "nats", "documents", scale=1.0)
