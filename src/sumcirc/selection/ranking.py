"""From scores to chosen targets, with how sure that is.

A target's interval is the percentile bootstrap over samples. How stable the choice is: samples are
drawn again with replacement, targets ranked anew, and counted how often each is among the first
`count` (all targets see the same draws, so that what they have in common cancels). By chance that
would be count / targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.doubt import check_signal
from sumcirc.selection.scores import Scores
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.storage.reading import Count, Share, read_json
from sumcirc.storage.writing import plain_numbers, write_json

_BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Ranked:
    """One layer, or one module of a layer.

    Attributes:
        module: of the anatomy; None for a whole layer.
        low, high: of the score; None for fewer than `MIN_DOCUMENTS` samples.
        frequency: share of resamples in which it is chosen; None likewise.
    """

    layer: Count
    module: str | None
    score: float
    low: float | None
    high: float | None
    frequency: Share | None
    chosen: bool


@dataclass(frozen=True)
class Ranking:
    """All targets, the best first, and what was chosen.

    Attributes:
        modules: `adaptation.modules`, of which whole layers are made.
        count: how many were chosen.
        size: number of samples behind each score; 0 for a rule.
    """

    selector: str
    granularity: str
    modules: list[str]
    count: int
    reason: str
    unit: str
    samples: str
    size: int
    ranking: list[Ranked]

    @property
    def chosen(self) -> list[Ranked]:
        """What was chosen, the best first."""
        return [one for one in self.ranking if one.chosen]

    @property
    def targets(self) -> list[tuple[int, str]]:
        """Layer and module of everything that gets an adapter, the best first."""
        return [
            (one.layer, module)
            for one in self.chosen
            for module in (self.modules if one.module is None else [one.module])
        ]

    @property
    def layers(self) -> list[int]:
        """Layers with an adapter, in their order."""
        return sorted({one.layer for one in self.chosen})

    @property
    def stability(self) -> float | None:
        """Mean share of the chosen targets that a resample chooses too; None without resamples."""
        found = [one.frequency for one in self.chosen if one.frequency is not None]
        return sum(found) / len(found) if found else None

    @property
    def chance(self) -> float:
        """What `stability` would be if scores said nothing."""
        return self.count / len(self.ranking)

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        extra = {"stability": self.stability, "chance": self.chance}
        write_json(path, plain_numbers({**asdict(self), **extra}))

    @classmethod
    def read(cls, path: Path) -> Ranking:
        """What `save` wrote.

        Raises:
            RecordError: the file is damaged.
        """
        return read_json(path, cls)


def default_count(total: int) -> int:
    """A quarter, rounded, but one at least."""
    return max(1, round(total / 4))


def rank(
    scores: Scores,
    selector: str,
    granularity: Granularity,
    modules: Sequence[str],
    count: int,
    resamples: int = 500,
) -> Ranking:
    """Choose the `count` targets of largest score.

    Equal scores: the lower layer first, then the order of `modules`.

    Args:
        modules: those that may get an adapter; a layer's score is of these together.
        count: layers, or modules, to choose.

    Raises:
        UserError: there are fewer targets, or the scores are noise (`selection.doubt`).
    """
    places = [MODULES.index(name) for name in modules]
    whole = granularity is Granularity.layer
    values = scores.of_targets(places, whole)
    layers, parts, size = values.shape
    total = layers * parts
    if count > total:
        raise UserError(
            f"selector.count={count}: there are {total} {granularity.value}s; choose fewer"
        )
    means = values.mean(-1).ravel()
    if scores.samples:
        check_signal(
            values.reshape(total, size),
            scores.scale,
            count,
            (selector, granularity.value, scores.samples),
        )
    low = high = frequency = [None] * total
    if size >= MIN_DOCUMENTS:
        again = scores.resampled(places, whole, resamples).reshape(total, -1)
        low, high = np.quantile(again, _BOUNDS, axis=1).tolist()
        frequency = _frequency(again, count).tolist()
    order = np.argsort(-means, kind="stable").tolist()
    found = [
        Ranked(
            layer=place // parts,
            module=None if whole else list(modules)[place % parts],
            score=float(means[place]),
            low=low[place],
            high=high[place],
            frequency=frequency[place],
            chosen=position < count,
        )
        for position, place in enumerate(order)
    ]
    return Ranking(
        selector,
        granularity.value,
        list(modules),
        count,
        scores.reason,
        scores.unit,
        scores.samples,
        size if scores.samples else 0,
        found,
    )


def _frequency(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of [targets, resamples]: how often each target is among the first `count`, [targets]."""
    order = np.argsort(-values, axis=0, kind="stable")
    return np.bincount(order[:count].ravel(), minlength=len(values)) / values.shape[1]
