"""A selector by how much a short full fine-tuning changes the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sumcirc.errors import UserError
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linears import linears_of
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores


@selector(SelectorName.delta_energy, compares=True, gradients=True)
def delta_energy(context: SelectionContext) -> Scores:
    """Score modules by the energy of their change, the sum over their linears of |W' - W|^2.

    W' are the weights after `selector.probe_steps` steps of full fine-tuning, or those of the model
    that `selector.after` names, with its adapter; |.| is the Frobenius norm. A layer has the sum
    over its modules. Large modules have larger energies, since AdamW moves all entries by similar
    steps. The score is defined here; it has no interval, as one training run gives one change.

    Raises:
        UserError: the tuned model's weights are those of the base.
    """
    tuned = linears_of(HookedModel(context.fully_tuned))
    values = np.zeros((context.layers, len(MODULES), 1))
    for place, linears in linears_of(context.hooked).items():
        pairs = zip(linears.values(), tuned[place].values(), strict=True)
        values[(*place, 0)] = sum(_energy(*pair) for pair in pairs)
    if not values.any():
        raise UserError(
            "selector=delta_energy: the tuned model's weights are those of the base, so there is"
            " nothing to rank; give another selector.after, or raise selector.probe_steps"
        )
    return Scores(values, "full fine-tuning changes its weights most", "squared weight change")


def _energy(before: nn.Module, after: nn.Module) -> float:
    change = effective_weight(after)[0].float() - effective_weight(before)[0].float()
    return float(change.square().sum(dtype=torch.float64))
