"""Selectors that score modules by the gradient of the training loss with respect to their weights.

L is the mean cross-entropy over a batch's summary tokens, without dropout; G = dL/dW.

`page` (projected adapter gradient energy) estimates the size of the gradient that a fresh adapter
would get. A LoRA adapter on W (out x in) starts with B = 0 and A drawn at random. With scale s its
first gradients are dL/dA = s B' G = 0 and dL/dB = s G A'. Averaged over draws of A (r x in,
independent entries of variance v)

    E ||s G A'||^2 = s^2 r v ||G||^2,  v = 1 / (3 in) for PEFT's Kaiming-uniform A.

Scale and rank are the same for all targets and omitted: S(W) = E over batches ||G||^2 / (3 in).
Wide inputs (the MLP's output projection) are thus discounted. The name is that of DomLoRA (arXiv
2605.06183), whose formula could not be read; this derivation is tested against gradients of real
adapters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.data.batches import TrainingBatch
from sumcirc.models.activations.effective_weights import input_width
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.runtime.progress import counted
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linears import linears_of
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores
from sumcirc.training.module import summary_loss


@selector(SelectorName.page, gradients=True)
def page(context: SelectionContext) -> Scores:
    """Score modules by the expected squared norm of the first gradient of a LoRA adapter on them.

    The adapter has scale 1 and rank 1. The derivation is at the top of this file.
    """
    values = squared_gradients(context, context.config.selector.batch_size, _variance)
    return Scores(values, "a fresh adapter gets most gradient here", "squared gradient", "batches")


@selector(SelectorName.fisher, gradients=True)
def fisher(context: SelectionContext) -> Scores:
    """Score modules by the empirical Fisher information: mean over documents of ||dL_d/dW||^2.

    L_d is the loss of document d. The score is the trace of the diagonal block for W. The labels
    are the reference summaries, whereas the true Fisher information draws labels from the model.
    FLoE uses this trace as the importance of layers, and eFIM uses it to set ranks (PEFT issues
    3203 and 3204).
    """
    values = squared_gradients(context, 1)
    return Scores(
        values, "the loss of single documents is sensitive to it", "squared gradient", "documents"
    )


@selector(SelectorName.gradient_norm, gradients=True)
def gradient_norm(context: SelectionContext) -> Scores:
    """Score modules by the norm of the training gradient: mean over batches of ||dL/dW||.

    A layer's score is the norm of its modules' gradients together, sqrt(sum of ||dL/dW||^2).
    """
    values = np.sqrt(squared_gradients(context, context.config.selector.batch_size))
    return Scores(values, "the training gradient is largest here", "gradient", "batches", power=2)


def squared_gradients(
    context: SelectionContext, size: int, weight: Callable[[nn.Module], float] = lambda linear: 1.0
) -> NDArray[np.float64]:
    """Return ||dL/dW||^2 (the squared Frobenius norm) for each batch of training documents.

    Each batch takes one backward pass, which holds the gradients of all linear modules in memory.

    Args:
        context: the base model and its training documents.
        size: number of documents in a batch.
        weight: function that returns the factor by which the squared norm of a linear module's
            gradient is multiplied.

    Returns:
        [layers, modules, batches], with modules in the order of `schema.MODULES`; a module with
        several linear maps (query, key and value) gets the sum of their squared norms.
    """
    hooked = context.hooked
    linears = {place: list(some.values()) for place, some in linears_of(hooked).items()}
    batches = context.training_batches(size)
    found = np.zeros((hooked.shape.layers, len(MODULES), len(batches)))
    with frozen(hooked.model), counted("gradients", len(batches)) as advance:
        for number, batch in enumerate(batches):
            weights = [one.get_parameter("weight") for group in linears.values() for one in group]
            gradients = iter(weight_gradients(hooked, weights, batch))
            for place, group in linears.items():
                squares = [
                    weight(one) * float(next(gradients).square().sum(dtype=torch.float64))
                    for one in group
                ]
                found[(*place, number)] = sum(squares)
            advance(1)
    return found


def weight_gradients(
    hooked: HookedModel, weights: list[nn.Parameter], batch: TrainingBatch
) -> tuple[Tensor, ...]:
    """Return the gradients of a batch's loss with respect to some weights.

    Args:
        hooked: the model, whose parameters are frozen.
        weights: the weights.
        batch: the batch.
    """
    for one in weights:
        one.requires_grad_(True)
    try:
        loss = summary_loss(hooked.backbone, hooked.unembedding, batch)
        return torch.autograd.grad(loss, weights)
    finally:
        for one in weights:
            one.requires_grad_(False)


def _variance(linear: nn.Module) -> float:
    """Return the variance of the entries of A, uniform between -1 / sqrt(in) and 1 / sqrt(in)."""
    return 1 / (3 * input_width(linear))
