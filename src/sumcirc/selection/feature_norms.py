"""A selector by how well a module's weights are aligned with its inputs (PLoP).

PLoP (S. Hayou et al., arXiv 2506.20629) compares the output norm of a linear on the task's inputs
with that on random ones. Its normalized feature norm is

    NFN(W) = mean over tokens of |W z| / |z|  /  mean over random g of |W g| / |g|

with the linear's inputs z and standard normal g; biases are left out. Linears with a small NFN
learn the task least by themselves and get adapters. The formula is that of the authors' code; that
small values are chosen is from reviews of the paper, which could not be read itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linears import Place, linears_of, of_inputs
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores

DRAWS = 4096  # random inputs of a linear
SEED = 0


@selector(SelectorName.plop, weights=True)
def plop(context: SelectionContext) -> Scores:
    """Score modules by the negative mean of the NFN of their linears.

    A layer's score is the sum over its modules: our reading, as PLoP chooses module types, not
    layers. Unlike in the authors' code, the denominator is the same for all documents.

    Raises:
        UserError: a module's inputs or weights are all zeros.
    """
    linears = linears_of(context.hooked)
    weights = {
        place: [effective_weight(linear)[0].float() for linear in some.values()]
        for place, some in linears.items()
    }
    usual = {place: [_on_random_inputs(one) for one in some] for place, some in weights.items()}

    def norm(place: Place, inputs: Tensor) -> float:
        found = [
            float(gains(inputs, weight).mean()) / random
            for weight, random in zip(weights[place], usual[place], strict=True)
            if random
        ]
        if len(found) < len(weights[place]) or not all(np.isfinite(found)):
            layer, module = place[0], MODULES[place[1]]
            raise UserError(
                f"selector=plop: inputs or weights of {module} in layer {layer} are all zeros, so"
                " its normalized feature norm is undefined; take another selector"
            )
        return sum(found) / len(found)

    documents = of_inputs(context, 1, norm)
    values = np.zeros((context.layers, len(MODULES), len(documents)))
    for number, document in enumerate(documents):
        for place, value in document.items():
            values[(*place, number)] = -value
    return Scores(values, "its weights are least aligned with its inputs", "-NFN", "documents")


def gains(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return |W z| / |z| of each input.

    Args:
        inputs: [samples, in] vectors z; those of norm 0 are left out.
        weight: [in, out] the transposed W.
    """
    norms = inputs.norm(dim=1)
    kept = norms > 0
    return (inputs[kept] @ weight).norm(dim=1) / norms[kept]


def _on_random_inputs(weight: Tensor) -> float:
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.randn(DRAWS, len(weight), generator=generator)
    return float(gains(draws.to(weight.device), weight).mean())
