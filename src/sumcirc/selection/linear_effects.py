"""Attribution patching of the outputs of linears (arXiv 2310.10348), document by document.

With the outputs A_c of a linear on the clean and A_r on the corrupted input, and the metric m,

    E = - sum over positions of (A_c - A_r)'dm/dA    at the corrupted input

estimates how much the metric, a loss, falls if the clean output is restored in the corrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.circuits.attribution.memory import groups
from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.metrics import Metric
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from sumcirc.schema import MODULES
from sumcirc.selection.linears import Place, linears_of


def linear_effects(
    hooked: HookedModel, pairs: TokenPairs, metric: Metric, size: int
) -> NDArray[np.float64]:
    """Return the sum of E over the linears of each module, for each pair.

    Each batch takes two forward passes and one backward pass. In memory at once are the outputs of
    all linears on its clean and its corrupted inputs, and the gradients at the latter.

    Args:
        hooked: the model.
        pairs: clean and corrupted inputs.
        metric: the metric, created for `pairs`.
        size: largest number of pairs in a batch.

    Returns:
        [layers, modules, pairs] in the metric's unit, with modules in the order of
        `schema.MODULES`.
    """
    passes = AttributionPasses(hooked, Graph(hooked.shape), metric, pairs)
    places = [
        (place, linear)
        for place, linears in linears_of(hooked).items()
        for linear in linears.values()
    ]
    found = np.zeros((hooked.shape.layers, len(MODULES), len(pairs)))
    with frozen(hooked.model):
        for batch in batches(hooked, pairs, groups(pairs, metric, size, None, None)):
            with torch.no_grad(), _outputs(places) as clean:
                hidden, _ = passes.run(batch.clean, batch.mask)
                reference = None
                if metric.against_clean:
                    logits = passes.logits(hidden, batch.items, batch.columns)
                    reference = metric.reference(logits)
            with _outputs(places) as corrupted:
                hidden, _ = passes.run(batch.corrupted.detach().requires_grad_(), batch.mask)
            logits = passes.logits(hidden, batch.items, batch.columns)
            loss = metric.values(logits, batch.items, reference).sum()
            slopes = torch.autograd.grad(loss, corrupted)
            for (place, _), one, other, slope in zip(places, clean, corrupted, slopes, strict=True):
                effect = ((one - other.detach()) * slope).sum((1, 2), dtype=torch.float64)
                found[(*place, batch.items.numpy())] -= effect.cpu().numpy()
    return found


@contextmanager
def _outputs(places: list[tuple[Place, nn.Module]]) -> Iterator[list[Tensor]]:
    """Record the output of each linear in a `with` block, in the order of `places`."""
    seen: dict[nn.Module, Tensor] = {}
    found: list[Tensor] = []

    def see(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        seen[module] = output

    with ExitStack() as stack:
        for _, linear in places:
            stack.callback(linear.register_forward_hook(see).remove)
        yield found
        found.extend(seen[linear] for _, linear in places)
