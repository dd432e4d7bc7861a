"""Converts a number of trainable parameters to the rank of every adapter.

An adapter of rank r on a linear of shape in x out has r * (in + out) parameters. All linears get
the largest rank that they can all have; the remaining parameters raise the ranks of some by one,
namely those that together use most of the remainder. So ranks differ by at most one, and the unused
part is smaller than the cheapest rank-1 adapter unless no combination fits better.
"""

from __future__ import annotations

from collections.abc import Mapping


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
