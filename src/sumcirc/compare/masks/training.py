"""Masks over fine-tuning's change, trained by gradient descent on the metric.

With M(m) the metric of the model whose change of unit i is multiplied by m_i, and with the gain
M_after - M_before of the documents on which masks are trained, each step draws some documents and
descends on

    nested     (M_after - M(m(s, b))) / gain           m(s, b): relaxed set of a budget b that is
                                                       drawn anew, log-uniform from 1 / n to 1
    grafting   (M_after - M(m)) / gain + penalty * max(0, sum_i w_i m_i - size)    m_i: sigmoid(s_i)

so nested scores are one ranking for all sizes at once, and grafting scores are for a single one.

Nested: matryoshka attribution (A. Arora et al. 2026, arXiv:2609.25518) learns scores in this way
for activations, and its public code for parameters (matryoshka-attribution-parameters) with
theta_before + m * delta. The budget of every step and the relaxed set are as there, the order of
documents and the settings are ours. Grafting: A. Panigrahi et al. 2023 (arXiv:2302.06600) learn one
mask over single weights; the mask over units and the penalty are our reading of its abstract.

A relaxed mask can scale a change in part, which no set of units can. How far the ranking carries
over to sets is measured on other documents (`judging.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

from sumcirc.schema import MaskOptions
from sumcirc.statistics.relaxed_top_k import relaxed_set, score_gradient

Values = NDArray[np.float64]
# mean metric of some documents with the units' changes multiplied by factors, and its derivatives
Slope = Callable[[Values, Sequence[int]], tuple[float, Values]]


@dataclass(frozen=True, eq=False)
class Training:
    """The metric and the documents on which masks are trained.

    Attributes:
        slope: runs the model.
        weights: [units] shares of the units, which add up to 1.
        after: [documents] metric of the model after.
        gain: mean gain of the documents.
    """

    slope: Slope
    weights: Values
    after: Values
    gain: float

    def lost(self, mask: Values, places: Sequence[int]) -> tuple[float, Values]:
        """Return the share of the gain that is lost with a mask, and its gradient by the mask.

        Args:
            mask: [units] factors of the units' changes.
            places: indices of the documents.
        """
        value, slopes = self.slope(mask, places)
        return float(self.after[list(places)].mean() - value) / self.gain, -slopes / self.gain


@dataclass(frozen=True, eq=False)
class Learned:
    """Scores that were learned.

    Attributes:
        scores: [units] scores; the best unit has the largest.
        losses: [steps] the loss of each step before its update.
    """

    scores: Values
    losses: Values


def learn_nested(
    training: Training, options: MaskOptions, seed: int, done: Callable[[int], None]
) -> Learned:
    """Learn a ranking whose first units keep the gain, for all sizes at once.

    Args:
        training: runs the model.
        options: the settings.
        seed: seed of the drawn budgets and documents.
        done: called with 1 after each step.
    """
    weights, temperature = training.weights, options.temperature
    draw = np.random.default_rng(seed)
    least = np.log(1 / len(weights))

    def step(scores: Values, places: Sequence[int]) -> tuple[float, Values]:
        budget = float(np.exp(draw.uniform(least, 0)))
        mask = relaxed_set(scores, weights, budget, temperature)
        loss, slopes = training.lost(mask, places)
        return loss, score_gradient(mask, slopes, weights, budget, temperature)

    return _descend(np.zeros(len(weights)), step, training, options, draw, done)


def learn_graft(
    training: Training, options: MaskOptions, seed: int, done: Callable[[int], None]
) -> Learned:
    """Learn one mask of a fixed size.

    Args:
        training, options, seed, done: as in `learn_nested`.
    """
    weights, size = training.weights, options.graft_size
    draw = np.random.default_rng(seed)

    def step(scores: Values, places: Sequence[int]) -> tuple[float, Values]:
        mask = expit(scores)
        loss, slopes = training.lost(mask, places)
        over = float(mask @ weights) - size
        if over > 0:
            loss += options.penalty * over
            slopes = slopes + options.penalty * weights
        return loss, slopes * mask * (1 - mask)

    return _descend(np.full(len(weights), logit(size)), step, training, options, draw, done)


def _descend(
    start: Values,
    step: Callable[[Values, Sequence[int]], tuple[float, Values]],
    training: Training,
    options: MaskOptions,
    draw: np.random.Generator,
    done: Callable[[int], None],
) -> Learned:
    """Minimize with Adam; `step` returns the loss and its gradient for some documents."""
    scores = torch.from_numpy(start.copy())
    optimizer = torch.optim.Adam([scores], lr=options.learning_rate)
    count = min(options.documents, len(training.after))
    losses, waiting = [], []
    for _ in range(options.steps):
        if len(waiting) < count:
            waiting = draw.permutation(len(training.after)).tolist()
        places, waiting = waiting[:count], waiting[count:]
        loss, gradient = step(scores.numpy().copy(), places)
        scores.grad = torch.from_numpy(gradient)
        optimizer.step()
        losses.append(loss)
        done(1)
    return Learned(scores.numpy().copy(), np.array(losses))
