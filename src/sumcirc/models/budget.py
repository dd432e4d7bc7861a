"""Converts a number of trainable parameters to the rank of every adapter.

An adapter of rank r on a linear of shape in x out has r * (in + out) parameters. All linears get
the largest rank that they can all have; the remaining parameters raise the ranks of some by one,
namely those that together use most of the remainder. So ranks differ by at most one, and the unused
part is smaller than the cheapest rank-1 adapter unless no combination fits better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EQUAL = 0.03  # share of a budget that an adapter may leave unused and still count as equal


@dataclass(frozen=True)
class AdapterSize:
    """How many parameters an adapter has, depending on its ranks.

    Attributes:
        costs: parameters for each rank on each linear, by the linear's name, the most important
            linear first.
        fixed: parameters that don't depend on the rank.
        full: the full rank of each linear's weight, beyond which a higher rank adds nothing.
        uniform: whether all linears have the same rank.
    """

    costs: Mapping[str, int]
    fixed: int
    full: Mapping[str, int]
    uniform: bool = False

    @property
    def least(self) -> int:
        """The parameters of rank 1 on every linear."""
        return self.fixed + sum(self.costs.values())

    @property
    def most(self) -> int:
        """The parameters of the largest common rank that exceeds no linear's full rank."""
        return self.fixed + min(self.full.values()) * sum(self.costs.values())

    def ranks(self, budget: int) -> dict[str, int]:
        """Return the rank of each linear at a budget; 0 on all if rank 1 takes more."""
        room = budget - self.fixed
        if self.uniform:
            return dict.fromkeys(self.costs, max(0, room) // sum(self.costs.values()))
        return solve_ranks(self.costs, room)

    def used(self, budget: int) -> int:
        """Return how many parameters are used at a budget; 0 if rank 1 takes more."""
        ranks = self.ranks(budget)
        if min(ranks.values()) < 1:
            return 0
        return self.fixed + sum(rank * self.costs[name] for name, rank in ranks.items())

    def fits(self, budget: int) -> bool:
        """Return whether ranks up to full rank use all but the share `EQUAL` of a budget."""
        enough = self.used(budget) >= (1 - EQUAL) * budget
        return enough and all(r <= self.full[name] for name, r in self.ranks(budget).items())


def smallest_common_budget(sizes: Sequence[AdapterSize]) -> int | None:
    """Return the smallest budget that all adapters fit (`AdapterSize.fits`); None if there is none.

    Args:
        sizes: sizes of the adapters.
    """
    # adapters of equal shapes are tried once
    different = {(*sorted(s.costs.values()), s.fixed, s.uniform): s for s in sizes}.values()
    step = math.gcd(*(cost for one in different for cost in one.costs.values()))
    # between two of these numbers no adapter uses more
    starts = {one.fixed % step for one in different}
    least, most = max(one.least for one in different), min(one.most for one in different)
    for base in range(least - least % step, most + 1, step):
        for budget in sorted(base + start for start in starts):
            if least <= budget <= most and all(one.fits(budget) for one in different):
                return budget
    return None


def solve_ranks(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Return the LoRA ranks that use as much of a parameter budget as possible, by linear.

    All linears get the largest rank that they can all have, and some get a rank that is higher by 1
    if the rest of the budget allows it. All ranks are 0 if the budget is too small for rank 1.

    Args:
        costs: number of parameters of a rank-1 adapter on each linear, by the linear's name, with
            the most important linear first. If several combinations use the remainder equally well,
            the more important linears get the higher rank.
        budget: largest number of trainable parameters.
    """
    together = sum(costs.values())
    rank = budget // together
    if rank < 1:
        return dict.fromkeys(costs, 0)
    raised = _largest_sum(list(costs.values()), budget - rank * together)
    return {name: rank + here for (name, here) in zip(costs, raised, strict=True)}


def _largest_sum(costs: list[int], room: int) -> list[bool]:
    """Return which costs add up to the largest sum within `room`; the first found of equal sums."""
    # linears have few different shapes, so there are few sums; store the first set for each
    sums = {0: 0}  # the set as the bits of a number
    for place, cost in enumerate(costs):
        for total, members in list(sums.items()):
            if total + cost <= room:
                sums.setdefault(total + cost, members | 1 << place)
    best = sums[max(sums)]
    return [bool(best >> place & 1) for place in range(len(costs))]
