"""Projected adapter gradient energy: how large a gradient a fresh adapter would get.

A LoRA adapter on W (out x in) starts with B = 0 and A drawn at random. With G = dL/dW of a batch
and scale s its first gradients are dL/dA = s B' G = 0 and dL/dB = s G A'. Averaged over draws of A
(r x in, independent entries of variance v)

    E ||s G A'||^2 = s^2 r v ||G||^2,  v = 1 / (3 in) for PEFT's Kaiming-uniform A.

Scale and rank are the same for all targets and left out: S(W) = E over batches ||G||^2 / (3 in).
Wide inputs (the MLP's output projection) are thus discounted. The name is that of DomLoRA (arXiv
2605.06183), whose own formula could not be read; this is the derivation above, tested against
gradients of real adapters.
"""

from __future__ import annotations

from torch import nn

from sumcirc.models.effective_weights import input_width
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.gradients import squared_gradients
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """Score modules by the energy of an adapter's first gradient, for scale 1 and rank 1."""
    values = squared_gradients(evidence, evidence.config.selector.batch_size, _variance)
    return Scores(values, "a fresh adapter gets most gradient here", "squared gradient", "batches")


def _variance(linear: nn.Module) -> float:
    """Of the entries of an adapter's A: uniform between -1 / sqrt(in) and 1 / sqrt(in)."""
    return 1 / (3 * input_width(linear))
