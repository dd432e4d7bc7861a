"""Ranks targets by their scores, and measures how reliable the selection is.

A target's interval is the percentile bootstrap over samples. For the stability of the selection,
samples are resampled with replacement, the targets ranked again, and the share of resamples is
counted in which each is among the first `count` (all targets use the same draws, so that common
variation cancels). By chance this share would be count / targets.

A ranking that is noise is refused, however often resamples repeat it. It may have two causes:

- Rounding: the scores to choose from are no larger than the float32 rounding of the quantities they
  were computed from (`Scores.scale`), as with an adapter that has no effect yet.
- Chance: the targets differ by no more than documents do, by a test at 5 % that shuffles the scores
  of each document among the targets (`statistics.noise`). Resamples can't detect this: they repeat
  what happened to come first in the sample, far more often than by chance. The test needs
  `MIN_DOCUMENTS` samples; with fewer, no interval and no frequency is given either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.schema import MODULES, Granularity
from sumcirc.selection.scores import Scores
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.statistics.noise import ALPHA, ROUNDING, difference_p_value
from sumcirc.storage.reading import Count, Share, read_json
from sumcirc.storage.writing import plain_numbers, write_json

_BOUNDS = (0.025, 0.975)
REMEDY = "take more of them with selector.documents, or selector=random"


@dataclass(frozen=True)
class Ranked:
    """One layer, or one module of a layer, in a ranking.

    Attributes:
        layer: index of the layer.
        module: name of the module; None for a whole layer.
        score: the score by which the layer or module is ranked; those with the largest scores are
            chosen.
        low, high: ends of the score's 95 % interval; None for fewer than `MIN_DOCUMENTS` samples.
        frequency: fraction of the resamples in which the layer or module would be chosen; None for
            fewer than `MIN_DOCUMENTS` samples.
        chosen: whether the layer or module gets an adapter.
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
    """A selector's result: all layers, or modules of layers, by descending score.

    Attributes:
        selector: name of the selector.
        granularity: `layer` or `module`.
        modules: names of the modules that may get an adapter, from `adaptation.modules`.
        count: number of chosen layers or modules.
        reason: what a high score means, in words.
        unit: unit of the scores.
        samples: what the scores are averaged over, such as `documents`; empty if the scores have no
            samples, see `Scores`.
        size: number of samples over which each score is averaged; 0 if there are none.
        ranking: all layers or modules, those with the largest scores first.
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
        """The chosen layers or modules, the best first."""
        return [one for one in self.ranking if one.chosen]

    @property
    def targets(self) -> list[tuple[int, str]]:
        """(layer, module) of all modules that get an adapter, in the order of the ranking."""
        return [
            (one.layer, module)
            for one in self.chosen
            for module in (self.modules if one.module is None else [one.module])
        ]

    @property
    def layers(self) -> list[int]:
        """Indices of the layers that get an adapter, ascending."""
        return sorted({one.layer for one in self.chosen})

    @property
    def stability(self) -> float | None:
        """Mean of `frequency` over the chosen layers or modules; None if there are no resamples."""
        found = [one.frequency for one in self.chosen if one.frequency is not None]
        return sum(found) / len(found) if found else None

    @property
    def chance(self) -> float:
        """The value of `stability` that random scores would have on average."""
        return self.count / len(self.ranking)

    def save(self, path: Path) -> None:
        """Write the ranking to a file, atomically.

        Args:
            path: the file to write.
        """
        extra = {"stability": self.stability, "chance": self.chance}
        write_json(path, plain_numbers({**asdict(self), **extra}))

    @classmethod
    def read(cls, path: Path) -> Ranking:
        """Read a ranking that `save` wrote.

        Args:
            path: the file to read.

        Raises:
            RecordError: the file is damaged.
        """
        return read_json(path, cls)


def default_count(total: int) -> int:
    """Return the number of targets to choose by default, which is a quarter, but at least one.

    Args:
        total: number of all layers or modules.
    """
    return max(1, round(total / 4))


def rank(
    scores: Scores,
    selector: str,
    granularity: Granularity,
    modules: Sequence[str],
    count: int,
    resamples: int = 500,
) -> Ranking:
    """Rank layers or modules by their scores, and choose those with the largest scores.

    Among equal scores, lower layers come first, and modules of a layer keep the order of `modules`.

    Args:
        scores: scores of all layers or modules.
        selector: name of the selector.
        granularity: whether layers or modules are chosen.
        modules: names of the modules that may get an adapter, whose scores a layer combines.
        count: number of layers or modules to choose.
        resamples: number of bootstrap resamples.

    Raises:
        UserError: there are fewer than `count` layers or modules, or the scores are noise, see
            `check_signal`.
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


def check_signal(
    values: NDArray[np.float64],
    scale: float | None,
    count: int,
    names: tuple[str, str, str],
) -> None:
    """Refuse scores that are rounding error, or that can be explained by chance.

    Args:
        values: [targets, samples] scores of layers or modules (the targets) for each sample.
        scale: size of the quantities whose difference a score is, which determines the rounding
            error; None if scores are not differences.
        count: number of targets to choose.
        names: names of the selector, of a target and of the samples, for error messages, such as
            `entropy`, `layer` and `documents`.

    Raises:
        UserError: fewer than `count` scores exceed the rounding error, or the targets don't differ
            by more than the samples do.
    """
    selector, target, samples = names
    means = values.mean(1)
    largest = float(np.abs(means).max())
    floor = ROUNDING * max(scale or 0.0, largest)
    above = int((np.abs(means) > floor).sum())
    if above == 0:
        raise UserError(
            f"selector={selector}: no {target}'s score exceeds float rounding (the largest is"
            f" {largest:.1e}, rounding {floor:.1e}), so there is nothing to rank; the models it"
            " compares, or the base on these documents, show no effect"
        )
    if above < count:
        raise UserError(
            f"selector.count={count}: by selector={selector} only {above} of {len(means)} {target}s"
            f" have a score above float rounding ({floor:.1e}); the others would be chosen by their"
            f" index; choose at most {above}"
        )
    if values.shape[1] < MIN_DOCUMENTS or count == len(means):
        return
    p = difference_p_value(values)
    if p > ALPHA:
        raise UserError(
            f"selector={selector}: its scores don't distinguish the {target}s beyond chance"
            f" (p = {p:.2g} over {values.shape[1]} {samples}, at most {ALPHA:g} is required);"
            f" {REMEDY}"
        )


def _frequency(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the fraction of resamples in which each target is among the `count` largest.

    Args:
        values: [targets, resamples] scores.
        count: number of targets to choose.
    """
    order = np.argsort(-values, axis=0, kind="stable")
    return np.bincount(order[:count].ravel(), minlength=len(values)) / values.shape[1]
