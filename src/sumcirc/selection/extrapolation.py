"""A selector by the attribution that fine-tuning would lead to, extrapolated from its first steps.

H. Chen et al. (arXiv 2608.24482) estimate which parts will matter after fine-tuning. The weights t
move to t + d in a few small steps of fine-tuning, on 1 % of the training data at 1 % of the
learning rate. With E(t) the attribution of a part in a model of weights t
(`selection.linear_effects`), that of the fine-tuned model is the trapezoid (their equation 7)

    E(t) + K/2 [E'(0) + E'(K)],    E'(x) = the derivative of E(t + x d) by x

averaged over K, the number of such moves that fine-tuning is worth. The paper replaces one term of
a derivative by a difference of gradients (equation 8); here the whole derivative at x is the
difference of E between x - 2 and x + 2. K is uniform between 10 and 80, which the authors found
right for tasks that the model can't do yet; three Gauss-Legendre points take the place of their ten
random draws. They rank weight matrices and set LoRA's ranks by that. That a module has the sum over
its linears and a layer the sum over its modules is our reading, and so is the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sumcirc.circuits.inputs.example_pairs import TokenPairs, pair_metric
from sumcirc.circuits.inputs.filtering import answerable
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.runtime.progress import counted
from sumcirc.schema import SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.linear_effects import linear_effects
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores, require_defined
from sumcirc.selection.tuned import train_first_steps

LEAST, MOST = 10.0, 80.0  # range of K
POINTS = 3  # values of K, by Gauss-Legendre
REACH = 2.0  # half the distance of a difference, in moves d

Effects = NDArray[np.float64]


@selector(SelectorName.extrapolated, steps=True, pairs=True, gradients=True)
def extrapolated(context: SelectionContext) -> Scores:
    """Score modules by how much restoring the clean outputs of their linears will help later.

    The formula is at the top of this file; the metric is `selector.metric`, and pairs are those of
    `circuit`. `selector.after` and `selector.probe_steps` have no effect.

    Cost: the few steps of full fine-tuning, and nine attributions of two forward passes and one
    backward pass per pair. In memory are, beside the base, a copy of it and
    its change, in float32 at least.

    Raises:
        UserError: the first steps change no weight or diverge, no pair can be made, or a score is
            not finite.
    """
    options = context.config.selector.circuit
    pairs = TokenPairs.of(answerable(context.pairs, options.metric))
    metric = pair_metric(options.metric, pairs)
    with context.preserving_training_state():
        moved = train_first_steps(context.config, context.model, context.data)
    move = _mover(context.model, moved)
    hooked = HookedModel(moved)
    with counted("attribute along the first steps", 2 * POINTS + 3) as advance:

        def effects(moves: float) -> Effects:
            move(moves)
            found = linear_effects(hooked, pairs, metric, options.batch_size)
            advance(1)
            return found

        values = extrapolation(effects)
    return Scores(
        require_defined(values, "extrapolated"),
        "restoring its outputs will help most once the model is tuned",
        options.metric.unit,
        "documents",
    )


def extrapolation(effects: Callable[[float], Effects]) -> Effects:
    """Return the trapezoid E(0) + K/2 [E'(0) + E'(K)], averaged over K between LEAST and MOST.

    Args:
        effects: the function E, of the number of moves, with values of any shape.
    """

    def slope(moves: float) -> Effects:
        return (effects(moves + REACH) - effects(moves - REACH)) / (2 * REACH)

    start, first = effects(0.0), slope(0.0)
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    found = start.copy()
    for point, weight in zip(points, weights / 2, strict=True):
        moves = float((LEAST + MOST) / 2 + point * (MOST - LEAST) / 2)
        found += weight * moves / 2 * (first + slope(moves))
    return found


def _mover(base: PreTrainedModel, moved: PreTrainedModel) -> Callable[[float], None]:
    """Return a function that sets the weights of `moved` to the base's plus x times its change.

    Args:
        base: the model before the first steps.
        moved: the model after them, which is changed in place.

    Raises:
        UserError: no weight differs.
    """
    starts = dict(base.named_parameters())
    weights = dict(moved.named_parameters())
    with torch.no_grad():
        changes = {name: one - starts[name] for name, one in weights.items()}
    if not any(bool(change.any()) for change in changes.values()):
        raise UserError(
            "selector=extrapolated: the first steps of full fine-tuning change no weight, so there"
            " is nothing to extrapolate; raise model.learning_rate, or take another selector"
        )

    @torch.no_grad()
    def move(moves: float) -> None:
        for name, weight in weights.items():
            weight.copy_(starts[name]).add_(changes[name], alpha=moves)

    return move
