"""Empirical Fisher information: S(W) = mean over documents of ||dL_d/dW||^2.

The trace of W's diagonal block, with the reference summary as the label (not one drawn from the
model, as in the true Fisher information), and L_d the mean loss of a document's summary tokens. As
layer importance it is used by FLoE and for ranks by eFIM (PEFT issues 3203 and 3204).
"""

from __future__ import annotations

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.gradients import squared_gradients
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """Score modules by their squared gradient, document by document."""
    values = squared_gradients(evidence, 1)
    return Scores(
        values, "the loss of single documents is sensitive to it", "squared gradient", "documents"
    )
