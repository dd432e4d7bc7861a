"""Interactions of pairs of units: which stand in for each other, and which need each other.

With v(S) the metric of subset S (`compare.path.subsets`), N all n units, and the second difference

    D(i, j; T) = v(T with i and j) - v(T with i) - v(T with j) + v(T)      for T without i and j

the interactions of a pair are

    add        D(i, j; empty): the gain with both alone minus the gains with each alone
    remove     D(i, j; N without i and j): the loss without either minus the loss without both
    shapley    mean of D(i, j; T), with T's size t uniform from 0 to n - 2, and T uniform given t

so in each of them a negative value says that the two stand in for each other (together they do less
than each by itself promises), and a positive one that they need each other. `shapley` is the
Shapley interaction index, sum over T of t! (n - t - 2)! / (n - 1)! D(i, j; T) (M. Grabisch and M.
Roubens, An axiomatic approach to the concept of interaction among players in cooperative games,
1999); it needs all subsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.path.subsets import Subset, Subsets, members_of

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Interactions of all pairs of units.

    Attributes:
        pairs: indices of the two units of each pair, the smaller first.
        values: [pairs, documents] by kind: `add`, `remove`, and `shapley` if all subsets were run.
    """

    pairs: list[tuple[int, int]]
    values: dict[str, Values]


def pair_subsets(units: int) -> set[Subset]:
    """Return the subsets that `add` and `remove` of all pairs need.

    Args:
        units: number of units.
    """
    everything = frozenset(range(units))
    small = {frozenset(some) for size in (0, 1, 2) for some in combinations(range(units), size)}
    return small | {everything - one for one in small}


def interactions_of(subsets: Subsets, exact: bool) -> Interactions | None:
    """Run the subsets that interactions need, unless they were run, and return the interactions.

    Args:
        subsets: runs them.
        exact: whether all subsets were run, so that there is a Shapley interaction index.

    Returns:
        The interactions; None if there are fewer than two units.
    """
    count, value = subsets.units, subsets.value
    pairs = list(combinations(range(count), 2))
    if not pairs:
        return None

    def second(pair: tuple[int, int], among: Subset) -> Values:
        i, j = pair
        return value(among | {i, j}) - value(among | {i}) - value(among | {j}) + value(among)

    everything = frozenset(range(count))
    values = {
        "add": np.stack([second(pair, frozenset()) for pair in pairs]),
        "remove": np.stack([second(pair, everything - set(pair)) for pair in pairs]),
    }
    if exact:
        values["shapley"] = np.stack(
            [
                sum(
                    (
                        second(pair, among) / ((count - 1) * comb(count - 2, len(among)))
                        for among in _without(everything - set(pair))
                    ),
                    np.zeros(()),
                )
                for pair in pairs
            ]
        )
    return Interactions(pairs, values)


def _without(units: Subset) -> list[Subset]:
    """Return all subsets of some units."""
    ordered = sorted(units)
    return [
        frozenset(ordered[place] for place in members_of(number))
        for number in range(2 ** len(ordered))
    ]
