"""From a number of trainable parameters to the rank of every adapter.

An adapter of rank r on a linear of shape in x out has r * (in + out) parameters. All linears get
the largest rank that they can have together; what is then left of the budget raises some of them by
one, those that together use most of it. So nothing below the smallest adapter's rank 1 is left
over, unless no combination fits better, and ranks differ by one at most.
"""

from __future__ import annotations

from collections.abc import Mapping


def solve_ranks(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """The rank of each linear, 0 for all where the budget is too small for rank 1.

    Args:
        costs: parameters of rank 1 by name, the most important first: where several combinations
            use the rest equally well, the first linears are raised.
    """
    together = sum(costs.values())
    rank = budget // together
    if rank < 1:
        return dict.fromkeys(costs, 0)
    raised = _largest_sum(list(costs.values()), budget - rank * together)
    return {name: rank + here for (name, here) in zip(costs, raised, strict=True)}


def _largest_sum(costs: list[int], room: int) -> list[bool]:
    """Which of the costs add up to most within `room`; of equal sums the one found first."""
    # linears are of few shapes, so there are few sums: each with the first set that gave it
    sums = {0: 0}  # the set as bits of a number
    for place, cost in enumerate(costs):
        for total, members in list(sums.items()):
            if total + cost <= room:
                sums.setdefault(total + cost, members | 1 << place)
    best = sums[max(sums)]
    return [bool(best >> place & 1) for place in range(len(costs))]
