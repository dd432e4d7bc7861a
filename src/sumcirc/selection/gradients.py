"""Squared gradients of the training loss with respect to every linear that may get an adapter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.data.batches import TrainingBatch
from sumcirc.models.architectures import anatomy
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.runtime.progress import counted
from sumcirc.schema import MODULES
from sumcirc.selection.evidence import Evidence
from sumcirc.training.module import summary_loss


def squared_gradients(
    evidence: Evidence, size: int, weight: Callable[[nn.Module], float] = lambda linear: 1.0
) -> NDArray[np.float64]:
    """||dL/dW||^2 (Frobenius) of each batch of `size` training documents.

    L is the loss of training: mean cross-entropy over summary tokens, without dropout. One backward
    pass a batch; gradients of all linears are held at once, no others.

    Args:
        weight: factor of a linear's square.

    Returns:
        [layers, modules, batches]; linears of one module (query, key and value) add up.
    """
    parts = evidence.parts
    names = anatomy(parts.model.config)
    linears = {
        (layer, place): [parts.model.get_submodule(name) for name in names.linears(layer, module)]
        for layer in range(parts.shape.layers)
        for place, module in enumerate(MODULES)
    }
    batches = evidence.training_batches(size)
    found = np.zeros((parts.shape.layers, len(MODULES), len(batches)))
    with frozen(parts.model), counted("gradients", len(batches)) as advance:
        for number, batch in enumerate(batches):
            weights = [one.get_parameter("weight") for group in linears.values() for one in group]
            gradients = iter(_gradients(parts, weights, batch))
            for place, group in linears.items():
                squares = [
                    weight(one) * float(next(gradients).square().sum(dtype=torch.float64))
                    for one in group
                ]
                found[(*place, number)] = sum(squares)
            advance(1)
    return found


def _gradients(
    parts: HookedModel, weights: list[nn.Parameter], batch: TrainingBatch
) -> tuple[Tensor, ...]:
    for one in weights:
        one.requires_grad_(True)
    try:
        loss = summary_loss(parts.backbone, parts.unembedding, batch)
        return torch.autograd.grad(loss, weights)
    finally:
        for one in weights:
            one.requires_grad_(False)
