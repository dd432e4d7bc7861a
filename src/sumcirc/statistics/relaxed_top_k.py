"""Sets of units of a given size from scores: exact, and relaxed so that they have a gradient.

With w_i the weight of unit i (its share of what sizes count, so that all weights add up to 1) and b
a budget between 0 and 1, the relaxed set of scores s is

    m_i = sigmoid((s_i - tau) / T)    with tau such that the sum of w_i m_i is b

over the units that fit into the budget, w_i <= b; all others have m_i = 0. With equal weights 1 / n
and b = k / n this is the sigmoid top-k of matryoshka attribution (A. Arora et al. 2026,
arXiv:2609.25518; the formula is that of its public code): the mask's entries add up to k. For
T -> 0 it is 1 for the k largest scores. The threshold tau follows from the scores, so

    dm_i / ds_j = d_i (1[i = j] - w_j d_j / sum_k w_k d_k)    d_i = m_i (1 - m_i) / T

The exact set takes units from the largest score to the smallest and leaves out those that no longer
fit. With equal weights it is the k largest; sets of rising budgets are then nested.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar
from scipy.special import expit

Values = NDArray[np.float64]

_SLACK = 1e-9  # shares are sums of many weights, so a unit that fits exactly may exceed by rounding


def relaxed_set(scores: Values, weights: Values, budget: float, temperature: float) -> Values:
    """Return the relaxed set of the units with the largest scores, [units] from 0 to 1.

    Args:
        scores: [units] scores.
        weights: [units] shares of the units, which add up to 1.
        budget: share of all units that the mask's weights add up to.
        temperature: T; the mask approaches 0 and 1 as it falls.
    """
    fit = weights <= budget + _SLACK
    if weights[fit].sum() <= budget + _SLACK:
        return fit.astype(np.float64)
    some, by = scores[fit], weights[fit]
    tau = root_scalar(
        lambda tau: expit((some - tau) / temperature) @ by - budget,
        bracket=(some.min() - 50 * temperature, some.max() + 50 * temperature),
        xtol=1e-12 * temperature,
    ).root
    mask = np.zeros(len(scores))
    mask[fit] = expit((some - tau) / temperature)
    return mask


def score_gradient(
    mask: Values, gradient: Values, weights: Values, budget: float, temperature: float
) -> Values:
    """Return the gradient with respect to the scores, by the chain rule through `relaxed_set`.

    Args:
        mask: [units] the relaxed set.
        gradient: [units] gradient with respect to the mask.
        weights, budget, temperature: as in `relaxed_set`.
    """
    fit = weights <= budget + _SLACK
    slopes = np.where(fit, mask * (1 - mask), 0.0) / temperature
    total = weights @ slopes
    if total == 0:
        return np.zeros(len(mask))
    return slopes * (gradient - weights * (gradient @ slopes) / total)


def exact_set(order: NDArray[np.int64], weights: Values, budget: float) -> list[int]:
    """Return the units of a ranking that fit into a budget, taken from first to last.

    Args:
        order: indices of the units, best first.
        weights: [units] shares of the units.
        budget: share of all units that the set may have.
    """
    found, left = [], budget + _SLACK
    for unit in order.tolist():
        if weights[unit] <= left:
            found.append(unit)
            left -= weights[unit]
    return found
