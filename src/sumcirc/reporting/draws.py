"""The place of an arm among random draws of layers.

Runs of `selector=random selector.draws=N` draw N sets of layers, one for each `selector.seed`, and
train each with the same seeds. If an arm's layers are no better than a random draw, the arm's mean
and the draws' means are exchangeable, so

    p = (1 + number of draws at least as good) / (N + 1)

which can't be below 1 / (N + 1), however good the arm is (B. Phipson and G. K. Smyth, Statistical
Applications in Genetics and Molecular Biology 9, 2010). Beside it stands the interval in which one
further draw lies with the given probability if the draws' means are normal: mean ± t(N-1) s sqrt(1
+ 1/N). Both take the draws as they were trained: all that varies between them, layers and noise of
training, is in them as it is in the arm.

Means are over documents and over the seeds that the arm and all draws have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.arms import Arm, differing, unlike
from sumcirc.reporting.runs import ReportRun

RANDOM = "random"
ADAPTER = "adaptation."
# settings of the adapter that say where it sits, follow from that, or are tuned for it
OF_PLACE = frozenset(
    f"{ADAPTER}{name}" for name in ("layers", "rank", "budget", "learning_rate_scale")
)


@dataclass(frozen=True)
class Place:
    """An arm among random draws.

    Attributes:
        arm: the arm.
        mean: its mean score on the common seeds.
        draws: [draws] mean scores of the draws on these seeds.
        seeds: the seeds.
        low, high: ends of the interval for one further draw; NaN with one draw.
        at_least: number of draws that are at least as good.
    """

    arm: Arm
    mean: float
    draws: NDArray[np.float64]
    seeds: tuple[int, ...]
    low: float
    high: float
    at_least: int

    @property
    def p_value(self) -> float:
        """Probability that a random draw is at least as good, if the arm is one."""
        return (1 + self.at_least) / (len(self.draws) + 1)

    @property
    def floor(self) -> float:
        """The smallest p-value that is possible with this number of draws."""
        return 1 / (len(self.draws) + 1)


def places(arms: Sequence[Arm], measure: str, confidence: float = 0.95) -> list[Place]:
    """Return the place of each arm among the draws, the best first.

    Arms are left out that differ from the draws in more than the layers, such as by their kind of
    adapter, or have no seed in common with them. The list is empty if there are no draws by
    `selector.seed`.

    Args:
        arms: all arms.
        measure: name of the score, a column of documents.parquet.
        confidence: level of the interval for one further draw.
    """
    found = []
    for drawn in arms:
        draws = _draws(drawn)
        if len(draws) < 2:
            continue
        common = set.intersection(*(set(one) for one in draws.values()))
        for arm in arms:
            seeds = tuple(sorted(common & {run.seeds[0] for run in arm.runs}))
            others = unlike(arm, drawn) or _other_adapter(arm, drawn)
            if arm.selector == RANDOM or not seeds or others:
                continue
            place = _place(arm, list(draws.values()), seeds, measure, confidence)
            found += [] if place is None else [place]
    return sorted(found, key=lambda place: (-place.mean, place.arm.label))


def _other_adapter(arm: Arm, drawn: Arm) -> bool:
    """Return whether an arm's adapter is another one, such as DoRA or one on fewer modules."""
    names = (name for name in differing(arm, drawn) if name.startswith(ADAPTER))
    return any(name not in OF_PLACE for name in names)


def _draws(arm: Arm) -> dict[int, dict[int, ReportRun]]:
    """Return the runs of a random arm by the selector's seed and the run's seed."""
    found: dict[int, dict[int, ReportRun]] = {}
    for run in arm.runs if arm.selector == RANDOM else ():
        seed, own = run.seeds
        if own is not None:
            found.setdefault(own, {})[seed] = run
    return found


def _place(
    arm: Arm,
    draws: Sequence[dict[int, ReportRun]],
    seeds: tuple[int, ...],
    measure: str,
    confidence: float,
) -> Place | None:
    """Return an arm's place, or None if some run lacks the score."""
    own = {run.seeds[0]: run for run in arm.runs}
    runs = [[group[seed] for seed in seeds] for group in (own, *draws)]
    if any(measure not in run.values for group in runs for run in group):
        return None
    scores = np.array([[run.values[measure] for run in group] for group in runs])
    defined = np.isfinite(scores).all(axis=(0, 1))
    if not defined.any():
        return None
    mean, *others = scores[..., defined].mean(axis=(1, 2))
    drawn = np.array(others)
    # equal runs may differ by rounding
    at_least = int((drawn >= mean - 1e-12).sum())
    return Place(arm, float(mean), drawn, seeds, *further_draw(drawn, confidence), at_least)


def further_draw(draws: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends of the interval in which one further draw lies, if means are normal.

    Args:
        draws: [draws] mean score of each draw; with a single one, both ends are NaN.
        confidence: probability that the further draw lies there.
    """
    from scipy.special import stdtrit

    count = len(draws)
    if count < 2:
        return math.nan, math.nan
    margin = float(-stdtrit(count - 1, (1 - confidence) / 2))
    margin *= float(draws.std(ddof=1)) * math.sqrt(1 + 1 / count)
    middle = float(draws.mean())
    return middle - margin, middle + margin
