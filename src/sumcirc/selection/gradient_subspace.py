"""A selector by the part of the training gradient that LoRA-GA's adapters would follow.

LoRA-GA (S. Wang et al., arXiv 2407.05000; PEFT's `preprocess_loraga` and `init_lora_weights=
"lora_ga"`) starts the two factors of an adapter of rank r from 2r singular vectors of the mean
gradient G: A from r right ones, B from the r left ones of other components. The first step then
changes the product by G A'A + B B'G (with factors of orthonormal rows and columns), which is the
best approximation of G of rank 2r.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sumcirc.models.modes import frozen
from sumcirc.runtime.progress import counted
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.gradients import weight_gradients
from sumcirc.selection.linears import linears_of
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores

RANK = 8  # r
ITERATIONS = 4  # of the randomized decomposition, as in PEFT


@selector(SelectorName.loraga, gradients=True)
def loraga(context: SelectionContext) -> Scores:
    """Score modules by the energy of the first 2r = 16 components of the mean training gradient.

    With G the mean over batches b of G_b = dL_b/dW, and P its best approximation of rank 2r, the
    score is |P|^2 (the squared Frobenius norm), which is the mean over batches of <G_b, P>. In
    contrast to `gradient_norm` and `page`, what changes its sign between batches cancels. As a
    score of modules and layers, which add up their linears', this is our reading: LoRA-GA
    initializes adapters and chooses none.
    """
    hooked = context.hooked
    places = [
        (place, linear)
        for place, linears in linears_of(hooked).items()
        for linear in linears.values()
    ]
    weights = [linear.get_parameter("weight") for _, linear in places]
    batches = context.training_batches(context.config.selector.batch_size)
    values = np.zeros((context.layers, len(MODULES), len(batches)))
    with frozen(hooked.model), counted("gradients", 2 * len(batches)) as advance:
        mean = [torch.zeros_like(one, dtype=torch.float32) for one in weights]
        for batch in batches:
            for total, gradient in zip(mean, weight_gradients(hooked, weights, batch), strict=True):
                total.add_(gradient, alpha=1 / len(batches))
            advance(1)
        with context.preserving_training_state():
            kept = [approximation(gradient, 2 * RANK) for gradient in mean]
        for number, batch in enumerate(batches):
            found = weight_gradients(hooked, weights, batch)
            for (place, _), gradient, part in zip(places, found, kept, strict=True):
                product = (gradient.float() * part).sum(dtype=torch.float64)
                values[(*place, number)] += float(product)
            advance(1)
    return Scores(
        values, "LoRA-GA's adapters would follow most gradient here", "squared gradient", "batches"
    )


def approximation(matrix: Tensor, rank: int) -> Tensor:
    """Return the best approximation of a matrix by one of a lower rank.

    Args:
        matrix: the matrix.
        rank: largest rank of the result.
    """
    torch.manual_seed(0)
    left, sizes, right = torch.svd_lowrank(matrix, q=min(2 * rank, *matrix.shape), niter=ITERATIONS)
    return (left[:, :rank] * sizes[:rank]) @ right[:, :rank].T
