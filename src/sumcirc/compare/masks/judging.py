"""Rankings of units, judged by sets of rising size: what they keep alone and leave when removed.

For a ranking and a size, S is the set of its first units that fit (`relaxed_top_k.exact_set`), v(S)
the metric with the change of the units in S alone and N all units:

    kept    v(S) - v(empty)           left    v(N without S) - v(empty)

The area under a curve is the integral over sizes from 0 to 1 by the trapezoidal rule, with v(N) and
v(empty) at its ends. It is linear in the metric, so every document has one.

Random rankings are matched with the nested one: their sets have up to as many weights as its set of
the same size has (mean over seeds), or up to as large a sum of squared changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.path.subsets import Subsets
from sumcirc.statistics.relaxed_top_k import exact_set

Values = NDArray[np.float64]

MASKS, INVERTED = "masks", "inverted"
GRAFTING, PATH, PATH_DENSITY = "grafting", "path", "path_density"
ADD, REMOVE = "add", "remove"
RANDOM_WEIGHTS, RANDOM_NORM = "random_weights", "random_norm"


@dataclass(frozen=True, eq=False)
class Ranking:
    """Units from best to worst.

    Attributes:
        name: how units were ranked, such as MASKS.
        draw: seed of the training or of the random order; 0 for others.
        scores: [units] the scores by which they are ranked; the best has the largest.
    """

    name: str
    draw: int
    scores: Values

    @property
    def order(self) -> NDArray[np.int64]:
        """[units] indices of the units, best first."""
        return np.argsort(-self.scores, kind="stable")


@dataclass(frozen=True, eq=False)
class Extent:
    """Size of each unit, as a share of the whole change.

    Attributes:
        sized: [units] share that counts towards the size of a set: `weights`, or 1 / units if sets
            are sized by their number of units.
        weights: [units] share of the changed weights.
        squares: [units] share of the squared norm of the change.
    """

    sized: Values
    weights: Values
    squares: Values


@dataclass(frozen=True, eq=False)
class Judged:
    """Rankings of units, with the metric of their best units alone and without them.

    Attributes:
        sizes: [sizes] sizes of the sets, shares of all units or weights.
        rankings: the rankings.
        sets: for each ranking, the units of its set of every size.
        kept, left: [rankings, sizes, documents] metric with the set's change alone, and without it.
        before, after: [documents] metric of both models.
    """

    sizes: Values
    rankings: list[Ranking]
    sets: list[list[list[int]]]
    kept: Values
    left: Values
    before: Values
    after: Values

    def of(self, name: str) -> list[int]:
        """Return the indices of the rankings of a name, by draw."""
        return [i for i, one in enumerate(self.rankings) if one.name == name]

    def area(self, which: str) -> Values:
        """Return the areas under the curves of `kept` or `left`, [rankings, documents]."""
        ends = np.stack([self.before, self.after])
        first, last = ends if which == "kept" else ends[::-1]
        shape = (len(self.rankings), 1, len(self.before))
        curve = [np.broadcast_to(one, shape) for one in (first, last)]
        values = np.concatenate([curve[0], getattr(self, which), curve[1]], axis=1) - self.before
        return np.asarray(np.trapezoid(values, [0.0, *self.sizes, 1.0], axis=1))


def judge(
    rankings: Sequence[Ranking],
    random: Sequence[Ranking],
    subsets: Subsets,
    extent: Extent,
    sizes: Sequence[float],
) -> Judged:
    """Run the sets of all rankings.

    Args:
        rankings: rankings, those of the name MASKS among them.
        random: random rankings, which are matched in weights and in squared norm.
        subsets: runs the model with some units' change.
        extent: sizes of the units.
        sizes: largest sizes of the sets, as shares of the whole change, rising.

    Returns:
        All rankings, the random ones twice (RANDOM_WEIGHTS, RANDOM_NORM), with the metric of their
        sets.
    """
    named = list(rankings)
    sets = [[exact_set(one.order, extent.sized, size) for size in sizes] for one in named]
    nested = [found for one, found in zip(named, sets, strict=True) if one.name == MASKS]
    for name, shares in ((RANDOM_WEIGHTS, extent.weights), (RANDOM_NORM, extent.squares)):
        matched = np.mean([[shares[some].sum() for some in found] for found in nested], axis=0)
        for one in random:
            named.append(Ranking(name, one.draw, one.scores))
            sets.append([exact_set(one.order, shares, size) for size in matched.tolist()])
    everything = set(range(subsets.units))
    kept = np.array([[subsets.value(some) for some in found] for found in sets])
    left = np.array([[subsets.value(everything - set(some)) for some in one] for one in sets])
    before, after = subsets.value(()), subsets.value(everything)
    return Judged(np.array(sizes), named, sets, kept, left, before, after)


def most_runs(rankings: int, draws: int, sizes: int) -> int:
    """Return the largest number of subsets that `judge` runs.

    Args:
        rankings: number of rankings that aren't random.
        draws: number of random rankings.
        sizes: number of sizes.
    """
    return 2 + 2 * sizes * (rankings + 2 * draws)
