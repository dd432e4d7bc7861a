"""A selector by the condition number of the base's weights, which reads no documents.

KappaTune (arXiv 2506.16289) adapts the linears whose weights have the smallest condition number:
they amplify all directions of their input alike, so changing them should disturb less of what the
model knows. The number is that of PEFT's `find_kappa_target_modules`, which ranks single linears
and leaves out GPT-2's `Conv1D`; here these are scored too.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sumcirc.errors import UserError
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.schema import MODULES, SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linears import linears_of
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores

SMALL = 1e-8  # added to the smallest singular value, as in PEFT


@selector(SelectorName.kappa, documents=False, weights=True)
def kappa(context: SelectionContext) -> Scores:
    """Score modules by -kappa(W), the negative condition number of their weights.

    kappa = s_1 / (s_n + 1e-8), where s_1 is the largest and s_n the smallest singular value of W.
    The score of a module with several linears is that of the mean of their condition numbers, and
    a layer's is the sum over its modules. These two are our reading: KappaTune ranks linears, and
    PEFT takes the mean over the experts that share a parameter.

    Raises:
        UserError: a weight is all zeros, or not finite.
    """
    values = np.zeros((context.layers, len(MODULES), 1))
    for place, linears in linears_of(context.hooked).items():
        numbers = [_condition_number(name, linear) for name, linear in linears.items()]
        values[(*place, 0)] = -sum(numbers) / len(numbers)
    return Scores(values, "its weights have a small condition number", "negative condition number")


def _condition_number(name: str, linear: torch.nn.Module) -> float:
    sizes = torch.linalg.svdvals(effective_weight(linear)[0].float())
    found = float(sizes[0] / (sizes[-1] + SMALL))
    if not math.isfinite(found) or found == 0:
        raise UserError(
            f"selector=kappa: the weight of {name} is"
            f" {'all zeros' if found == 0 else 'not finite'}, so its condition number is undefined;"
            " take another selector"
        )
    return found
