"""A selector by the part of the loss that a linear adapter can remove (Layer Card).

The Layer Card (Y. Xu et al., arXiv 2602.04019) describes a layer by its projected residual norm,
the part of the loss's residual that an adapter of the layer can correct. For squared loss and
linear adapters it equals a gradient norm that is normalized by the covariance of the inputs. Only
the paper's abstract and a summary of it could be read, so the formula is our reading. The loss L
near a linear's outputs h_t = W x_t, with curvature 1, is

    L(h + d) = L(h) - sum over t of r_t'd_t + sum over t of |d_t|^2 / 2,    r_t = -dL/dh_t

so a change D of W turns it into the squared loss of predicting the residual r_t by D x_t. The best
D, with a ridge l, removes the following from it, up to the factor 2 N for N tokens:

    S = tr(G (C + l)^-1 G'),    G = dL/dW = - sum over t of r_t x_t',    C = mean over t of x_t x_t'

The ridge is 1 % of the mean eigenvalue of C; without one, noise along directions in which the
inputs hardly vary would count most. The curvature of the real loss differs between tokens and
directions, of which this knows nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.models.modes import frozen
from sumcirc.runtime.progress import counted
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.gradients import weight_gradients
from sumcirc.selection.linears import Place, linears_of, of_inputs
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores

RIDGE = 0.01  # share of the mean eigenvalue of the inputs' covariance


@selector(SelectorName.resnorm, gradients=True)
def resnorm(context: SelectionContext) -> Scores:
    """Score modules by the squared projected residual norm of their linears, summed.

    G is the mean over batches of the gradients G_b, so the score is the mean over batches of
    <G_b, G (C + l)^-1>. C is taken over all tokens of the same documents. A layer has the sum over
    its modules, as if they were uncoupled: the paper finds contributions nearly additive if layers
    are weakly coupled. The Layer Card also lists compute cost and the performance of each layer
    tuned alone; neither enters here.

    Cost: one forward and two backward passes per batch. In memory at once are a gradient of all
    linears in float32, and a covariance [in, in] in float32 for each module.

    Raises:
        UserError: the inputs of a module are all zeros or not finite.
    """
    hooked, size = context.hooked, context.config.selector.batch_size
    places = [
        (place, linear)
        for place, linears in linears_of(hooked).items()
        for linear in linears.values()
    ]
    weights = [linear.get_parameter("weight") for _, linear in places]
    covariances = _covariances(context, size)
    batches = context.training_batches(size)
    values = np.zeros((context.layers, len(MODULES), len(batches)))
    with frozen(hooked.model), counted("gradients", 2 * len(batches)) as advance:
        mean = [torch.zeros_like(one, dtype=torch.float32) for one in weights]
        for batch in batches:
            for total, gradient in zip(mean, weight_gradients(hooked, weights, batch), strict=True):
                total.add_(gradient, alpha=1 / len(batches))
            advance(1)
        for (place, linear), total in zip(places, mean, strict=True):
            by_input = _by_input(linear, total)  # a view, so `total` becomes G (C + l)^-1
            by_input.copy_(normalized(by_input, covariances[place]))
        del covariances
        for number, batch in enumerate(batches):
            found = weight_gradients(hooked, weights, batch)
            for (place, _), gradient, other in zip(places, found, mean, strict=True):
                product = (gradient.float() * other).sum(dtype=torch.float64)
                values[(*place, number)] += float(product)
            advance(1)
    return Scores(
        values,
        "a linear adapter can remove most of the residual here",
        "squared gradient / squared input",
        "batches",
    )


def normalized(gradient: Tensor, covariance: Tensor) -> Tensor:
    """Return (C + l)^-1 G, where l is a ridge relative to the mean eigenvalue of C.

    Args:
        gradient: [in, out] the gradient G.
        covariance: [in, in] the uncentered covariance C of the inputs.
    """
    wide = covariance.double()
    ridge = RIDGE * wide.diagonal().mean()
    wide = wide + ridge * torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    return torch.cholesky_solve(gradient.double(), torch.linalg.cholesky(wide)).to(gradient)


def _covariances(context: SelectionContext, size: int) -> dict[Place, Tensor]:
    """Return the uncentered covariance [in, in] of each module's inputs over all tokens."""
    sums: dict[Place, Tensor] = {}
    tokens: dict[Place, int] = {}

    def add(place: Place, inputs: Tensor) -> None:
        wide = inputs.double()
        found = (wide.T @ wide).float()
        sums[place] = sums[place].add_(found) if place in sums else found
        tokens[place] = tokens.get(place, 0) + len(inputs)

    of_inputs(context, size, add)
    for place, total in sums.items():
        total.div_(tokens[place])
        energy = float(total.diagonal().sum())
        if not 0 < energy < float("inf"):
            layer, module = place[0], MODULES[place[1]]
            raise UserError(
                f"selector=resnorm: the inputs of {module} in layer {layer} are"
                f" {'all zeros' if energy == 0 else 'not finite'}, so its gradient can't be"
                " normalized by their covariance; take another selector"
            )
    return sums


def _by_input(linear: nn.Module, matrix: Tensor) -> Tensor:
    """Return a matrix of the shape of a linear's weight as a view [in, out]."""
    return matrix if isinstance(linear, Conv1D) else matrix.T
