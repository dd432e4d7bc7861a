"""The metric with only some units of the change, and what each unit is worth among the others.

A subset is a model in which the change of the units in it is kept and that of all others removed.
With v(S) the metric of subset S and N all units:

    add        v({u}) - v(empty)
    remove     v(N) - v(N without u)
    keep k     v(the k units with the largest path scores)
    drop k     v(all other units)
    Shapley    mean over all orders of the units of v(those up to u) - v(those before u)

Shapley values (L. S. Shapley, A Value for n-Person Games, 1953) add up to the gain, as path scores
do. They are exact where all 2^n subsets may be run. Otherwise orders are drawn, each with its
reverse, and the interval is one over orders and documents as crossed factors
(`statistics.seeds.crossed_mean`, with a pair of orders in place of a seed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from sumcirc.schema import Grain

PAIRS = 3  # fewest pairs of orders, so that there is an interval

Values = NDArray[np.float64]
Subset = frozenset[int]


@dataclass(frozen=True, eq=False)
class Effects:
    """The metric with only some units of the change.

    Attributes:
        grain: the grain of the units.
        add, remove: [units, documents] effect of each unit added to the model before, and lost when
            it is removed from the model after.
        order: indices of the units by their path scores, largest first.
        keep, drop: [units + 1, documents] metric with the first 0, 1, ... units in `order` alone,
            and without them.
        random: [units + 1, documents] mean metric with 0, 1, ... random units; None without
            `shapley`.
        shapley: [pairs of orders, units, documents] mean contribution of each unit; a single entry
            if `exact`, None if it was left out.
        exact: whether all subsets were run.
        models: number of different subsets that were run.
        left_out: why there are no Shapley values; empty if there are.
    """

    grain: Grain
    add: Values
    remove: Values
    order: NDArray[np.int64]
    keep: Values
    drop: Values
    random: Values | None
    shapley: Values | None
    exact: bool
    models: int
    left_out: str = ""


class Subsets:
    """Runs subsets of the change, each once.

    Args:
        units: number of units.
        run: function that returns [documents] the metric with the change of every unit multiplied
            by [units] factors.
        done: called with 1 after each subset that is run.
    """

    def __init__(
        self, units: int, run: Callable[[Values], Values], done: Callable[[int], None] | None = None
    ) -> None:
        self.units, self._run, self.done = units, run, done
        self.known: dict[Subset, Values] = {}

    def value(self, members: Iterable[int]) -> Values:
        """Return the metric with the change of some units alone, [documents]."""
        subset = frozenset(members)
        if subset not in self.known:
            factors = np.zeros(self.units)
            factors[list(subset)] = 1.0
            self.known[subset] = self._run(factors)
            if self.done is not None:
                self.done(1)
        return self.known[subset]


def planned(units: int, models: int) -> tuple[int, int]:
    """Return the largest number of subsets that `effects_of` runs, and of pairs of orders.

    Args:
        units: number of units.
        models: number of subsets that Shapley values may take.

    Returns:
        The number of subsets, and the number of pairs of orders: 0 if all subsets are run or if
        Shapley values are left out.
    """
    if 2**units <= models:
        return 2**units, 0
    pairs = models // (2 * max(units - 1, 1))
    pairs = 0 if pairs < PAIRS else pairs
    return 2 + 2 * units + 2 * (units - 1) + 2 * pairs * (units - 1), pairs


def effects_of(
    grain: Grain, subsets: Subsets, scores: Values, models: int, seed: int = 0
) -> Effects:
    """Run the subsets that the effects need.

    Args:
        grain: the grain of the units.
        subsets: runs them.
        scores: [units] mean path scores, which order the units.
        models: number of subsets that Shapley values may take.
        seed: seed of the drawn orders.
    """
    count, value = subsets.units, subsets.value
    add, remove = one_by_one(subsets)
    order = np.argsort(-scores, kind="stable")
    keep = np.stack([value(order[:size].tolist()) for size in range(count + 1)])
    drop = np.stack([value(order[size:].tolist()) for size in range(count + 1)])
    _, pairs = planned(count, models)
    exact = 2**count <= models
    shapley = random = None
    left_out = ""
    if exact:
        shapley = _exact(subsets)[None]
        sizes = _by_size(subsets, (members_of(number) for number in range(2**count)))
        random = np.stack(sizes)
    elif pairs:
        drawn = np.random.default_rng(seed)
        orders = [drawn.permutation(count).tolist() for _ in range(pairs)]
        shapley = np.stack(
            [(_marginal(subsets, one) + _marginal(subsets, one[::-1])) / 2 for one in orders]
        )
        both = [*orders, *(one[::-1] for one in orders)]
        # every order counts, also where two have their first units in common
        random = np.stack(
            [np.mean([value(one[:size]) for one in both], axis=0) for size in range(count + 1)]
        )
    else:
        least = min(2**count, 2 * PAIRS * max(count - 1, 1))
        left_out = (
            f"Shapley values of {count} units take at least {least} models; compare.path.models is"
            f" {models}"
        )
    run = len(subsets.known)
    return Effects(grain, add, remove, order, keep, drop, random, shapley, exact, run, left_out)


def one_by_one(subsets: Subsets) -> tuple[Values, Values]:
    """Return the gain with each unit alone and the loss without it, [units, documents] each.

    Args:
        subsets: runs the subsets.
    """
    everything, value = range(subsets.units), subsets.value
    none, whole = value(()), value(everything)
    add = np.stack([value([one]) - none for one in everything])
    remove = np.stack([whole - value(set(everything) - {one}) for one in everything])
    return add, remove


def members_of(number: int) -> list[int]:
    """Return the units of the subset with a number, whose bits say which units are in it."""
    return [bit for bit in range(number.bit_length()) if number >> bit & 1]


def _by_size(subsets: Subsets, sets: Iterable[Sequence[int]]) -> list[Values]:
    """Return the mean metric of the subsets of each size, from 0 to all units."""
    found: list[list[Values]] = [[] for _ in range(subsets.units + 1)]
    for members in sets:
        found[len(members)].append(subsets.value(members))
    return [np.mean(values, axis=0) for values in found]


def _exact(subsets: Subsets) -> Values:
    """Return Shapley values from all subsets, [units, documents]."""
    count = subsets.units
    found = np.zeros((count, *subsets.value(()).shape))
    for number in range(2**count):
        members = members_of(number)
        outside = set(range(count)) - set(members)
        if not outside:
            continue
        weight = factorial(len(members)) * factorial(len(outside) - 1) / factorial(count)
        for unit in outside:
            found[unit] += weight * (subsets.value([*members, unit]) - subsets.value(members))
    return found


def _marginal(subsets: Subsets, order: Sequence[int]) -> Values:
    """Return what each unit contributes when units are added in an order, [units, documents]."""
    found = np.empty((subsets.units, *subsets.value(()).shape))
    for size, unit in enumerate(order):
        found[unit] = subsets.value(order[: size + 1]) - subsets.value(order[:size])
    return found
