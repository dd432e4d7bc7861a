"""Scores along the trajectory as means with intervals, and as rows with a value per item.

A unit's score over the trajectory is compared with its path score along the straight line, item by
item. With S_k(u) the sum of a unit's scores up to checkpoint k, the ranking of units at k is
compared with the final one by Spearman's correlation of S_k and S_K over units. Each resample of
the items is used for both, so the interval is that of this correlation for other items, and it is 1
at the last checkpoint. How well the gain at k predicts the final one is Spearman's correlation of
the two over items, beside the share of the final gain that is reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.path.path_summary import LISTED, WHOLE
from sumcirc.compare.path.trajectory import GRAINS, Trajectory
from sumcirc.compare.path.units import Unit
from sumcirc.schema import Grain
from sumcirc.statistics import Bootstrap, Interval, bootstrap_ratios, significantly_different
from sumcirc.statistics.ranks import spearman

AGREES = 0.9  # Spearman's correlation from which on two rankings are said to agree

Values = NDArray[np.float64]


def trajectory_summary(found: Trajectory) -> dict[str, Any]:
    """Return the scores by segment and over the trajectory as shares of the gain, with intervals.

    Args:
        found: the results, with a value for each item.
    """
    gains = bootstrap_ratios(np.diff(found.metric, axis=0), found.gain)
    checkpoints = _checkpoints(found)
    return {
        "converged": found.converged,
        "errors": asdict(found.errors),
        "segments": [
            {
                **{"start": found.steps[k], "end": found.steps[k + 1]},
                **{"evaluations": evaluations, "gain": _of(gains, k)},
            }
            for k, evaluations in enumerate(found.evaluations)
        ],
        "units": {str(grain): _units(found, grain) for grain in GRAINS},
        "straight": {str(grain): _straight(found, grain) for grain in GRAINS},
        "checkpoints": checkpoints,
        "agrees_from": {
            str(grain): _agrees_from([row["ranking"][str(grain)] for row in checkpoints], found)
            for grain in GRAINS
        },
    }


def trajectory_rows(found: Trajectory) -> Iterator[Mapping[str, Any]]:
    """Yield a row with the score of every unit on every segment for every item."""
    for grain, values in found.scores.items():
        for (k, number, place), score in np.ndenumerate(values):
            unit = found.units[grain][number]
            about = {"grain": str(grain), **_about(unit)}
            about |= {"start": found.steps[k], "end": found.steps[k + 1]}
            yield about | {"item": found.items[place], "score": float(score)}


def metric_rows(found: Trajectory) -> Iterator[Mapping[str, Any]]:
    """Yield a row with the metric at every checkpoint for every item."""
    for (k, place), value in np.ndenumerate(found.metric):
        yield {"step": found.steps[k], "item": found.items[place], "metric": float(value)}


def _about(unit: Unit) -> dict[str, Any]:
    return {"unit": unit.label, "layer": unit.layer, "part": unit.part, "index": unit.index}


def _units(found: Trajectory, grain: Grain) -> list[dict[str, Any]]:
    """Return the units of a grain, all of them or those with the largest scores."""
    values, straight = found.scores[grain], found.straight[grain]
    total = values.sum(0)
    shares, lines, apart = (
        bootstrap_ratios(one, found.gain) for one in (total, straight, total - straight)
    )
    segments = bootstrap_ratios(values, found.gain)
    differs = significantly_different(total - straight)
    moves = significantly_different(values)
    rows = [
        {
            **_about(unit),
            **_of(shares, i),
            "path": _of(lines, i),
            "difference": {**_of(apart, i), "significant": bool(differs[i])},
            "segments": [
                {**_of(segments, (k, i)), "significant": bool(moves[k, i])}
                for k in range(len(values))
            ],
        }
        for i, unit in enumerate(found.units[grain])
    ]
    if grain in WHOLE:
        return rows
    return sorted(rows, key=lambda row: -abs(row["mean"]))[:LISTED]


def _straight(found: Trajectory, grain: Grain) -> dict[str, Any]:
    """Return how the scores over the trajectory differ from path scores along the straight line."""
    total, line = found.scores[grain].sum(0), found.straight[grain]
    apart = np.abs((total - line).mean(1)).sum() / 2 / abs(found.gain.mean())
    return {
        "ranking": _ends(_ranking(total, line)),
        "moved": float(apart),  # share of the gain that other units have
        "lowering": float(
            (significantly_different(found.scores[grain]) & _falls(found, grain)).mean()
        ),
    }


def _falls(found: Trajectory, grain: Grain) -> NDArray[np.bool_]:
    """Return which scores are against the gain, [segments, units]."""
    return found.scores[grain].mean(-1) * np.sign(found.gain.mean()) < 0


def _checkpoints(found: Trajectory) -> list[dict[str, Any]]:
    """Return how well each checkpoint predicts the final gain and the final ranking of units."""
    so_far = found.metric[1:] - found.metric[0]
    shares = bootstrap_ratios(so_far, found.gain)
    up_to = {grain: values.cumsum(0) for grain, values in found.scores.items()}
    return [
        {
            "step": step,
            "gain": _of(shares, k),
            "items": _ends(_over_items(so_far[k], found.gain)),
            "ranking": {
                str(grain): _ends(_ranking(values[k], values[-1]))
                for grain, values in up_to.items()
            },
        }
        for k, step in enumerate(found.steps[1:])
    ]


def _agrees_from(rankings: list[dict[str, float]], found: Trajectory) -> int | None:
    """Return the step from which on the ranking agrees with the final one.

    It agrees if the lower end of the correlation's interval is at least AGREES. The last checkpoint
    agrees with itself, so None is returned if it is the only one.
    """
    agrees = [row["low"] >= AGREES for row in rankings]
    first = len(agrees)
    while first and agrees[first - 1]:
        first -= 1
    return found.steps[first + 1] if first < len(agrees) - 1 else None


def _ranking(one: Values, other: Values) -> Interval:
    """Return Spearman's correlation over units of two lists of mean scores, [units, items] each."""

    def correlation(picks: NDArray[np.int64]) -> Any:
        means = (np.moveaxis(values[:, picks].mean(-1), 0, -1) for values in (one, other))
        return spearman(*means)

    return Bootstrap().interval(correlation, one.shape[1])


def _over_items(one: Values, other: Values) -> Interval:
    """Return Spearman's correlation of two values over items, [items] each."""
    return Bootstrap().interval(lambda picks: spearman(one[picks], other[picks]), len(one))


def _of(ends: tuple[Values, ...], place: int | tuple[int, int]) -> dict[str, float]:
    mean, low, high = (float(one[place]) for one in ends)
    return {"mean": mean, "low": low, "high": high}


def _ends(value: Interval) -> dict[str, float]:
    return {"mean": value.mean, "low": value.low, "high": value.high}
