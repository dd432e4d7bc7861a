"""Where training changes attention entropy: |mean over documents of H_tuned - H_base|, by head.

A layer's score is the mean over its heads; whether a head becomes more focused or less does not
matter. Each document counts with the sign that the head's mean change has, so that the mean over
documents is that of the absolute changes. A differential score, in nats.
"""

from __future__ import annotations

import numpy as np

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, require_defined
from sumcirc.statistics.resampling import resampled

MEASURE = "attention/entropy"


def score(evidence: Evidence) -> Scores:
    """Score layers by the mean change of their heads' entropy."""
    tuned = evidence.tuned_record("attention").values[MEASURE].astype(np.float64)
    change = tuned - evidence.base.record.values[MEASURE]
    aligned = change * np.sign(change.mean(-1, keepdims=True))
    values = require_defined(aligned.mean(1, keepdims=True), "entropy")
    again = resampled(change, evidence.config.selector.resamples)
    return Scores(
        values,
        "training changes how focused its heads are",
        "nats",
        "documents",
        resamples=np.abs(again).mean(1, keepdims=True),
        scale=1.0,
    )
