"""A selector by the ranks that EVA gives adapters, according to the variance of their inputs.

EVA (explained variance adaptation, arXiv 2410.07170; PEFT's `get_eva_state_dict`) computes for each
linear which share of the variance of its inputs each principal component explains. With r ranks for
each linear on average, the components that explain most get them: all linears' shares are sorted,
and the largest (number of linears) * r of them keep their rank; no linear gets more than rho * r.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linears import Place, linears_of, of_inputs
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores

RANK = 8  # mean rank r
RHO = 2.0  # PEFT's default
ITERATIONS = 4  # of the randomized decomposition, as in PEFT
SEED = 42  # of the same


@selector(SelectorName.eva)
def eva(context: SelectionContext) -> Scores:
    """Score modules by the rank that EVA would give them, averaged over batches.

    Ranks are distributed among all linears of all layers, whichever may get adapters, with r = 8
    and rho = 2. The score of a module with several linears is the mean of their ranks, and a
    layer's is the sum over its modules: our reading, as EVA drops single linears only. Shares are
    computed batch by batch, so that the ranks' spread over documents is known; PEFT goes through
    batches until the components converge.

    Raises:
        UserError: the inputs of a linear don't vary.
    """
    count = {place: len(linears) for place, linears in linears_of(context.hooked).items()}

    def shares(place: Place, inputs: Tensor) -> NDArray[np.float64]:
        found = explained(inputs, round(RHO * RANK))
        if not np.isfinite(found).all():
            raise UserError(
                f"selector=eva: the inputs of {MODULES[place[1]]} in layer {place[0]} don't vary on"
                " a batch of documents, so no component explains their variance; raise"
                " selector.batch_size, or take another selector"
            )
        return found

    with context.preserving_training_state():
        batches = of_inputs(context, context.config.selector.batch_size, shares)
    values = np.zeros((context.layers, len(MODULES), len(batches)))
    for number, batch in enumerate(batches):
        for place, rank in distributed(batch, count, RANK).items():
            values[(*place, number)] = rank
    return Scores(values, "EVA gives its inputs' components more ranks", "rank", "batches")


def explained(inputs: Tensor, most: int) -> NDArray[np.float64]:
    """Return the share of the variance that each of the largest principal components explains.

    Args:
        inputs: [samples, width] vectors.
        most: number of components.

    Returns:
        [components] shares, the largest first: `most` of them, or fewer if there are fewer samples
        or features; NaN if the vectors don't vary.
    """
    centered = inputs - inputs.mean(0)
    torch.manual_seed(SEED)
    width = min(2 * most, *centered.shape)
    _, sizes, _ = torch.svd_lowrank(centered, q=width, niter=ITERATIONS)
    total = centered.double().square().sum()
    return (sizes[:most].double().square() / total).cpu().numpy()


def distributed(
    shares: Mapping[Place, NDArray[np.float64]], linears: Mapping[Place, int], mean: int
) -> dict[Place, float]:
    """Return the rank that each module's linears get on average.

    Args:
        shares: explained shares of the variance of each module's inputs.
        linears: number of linears of each module, which all have the same inputs.
        mean: mean rank of a linear.
    """
    places = [place for place in shares for _ in range(linears[place] * len(shares[place]))]
    every = np.concatenate([np.repeat(shares[place], linears[place]) for place in shares])
    kept = np.argsort(-every, kind="stable")[: mean * sum(linears[place] for place in shares)]
    ranks = dict.fromkeys(shares, 0.0)
    for index in kept:
        ranks[places[index]] += 1 / linears[places[index]]
    return ranks
