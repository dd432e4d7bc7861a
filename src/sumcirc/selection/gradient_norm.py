"""The length of the training gradient: S(W) = mean over batches of ||dL/dW||.

What full fine-tuning's first steps would see; of a layer the length of its modules' gradients
taken together, sqrt(sum of ||dL/dW||^2).
"""

from __future__ import annotations

import numpy as np

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.gradients import squared_gradients
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """Score modules by the length of their gradient."""
    values = np.sqrt(squared_gradients(evidence, evidence.config.selector.batch_size))
    return Scores(values, "the training gradient is largest here", "gradient", "batches", power=2)
