"""What an arm scored, measured and cost, as means over its runs, and the difference of two arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.arms import Arm
from sumcirc.reporting.inside import INSIDE
from sumcirc.reporting.runs import ReportRun
from sumcirc.statistics import Estimate, crossed_difference, crossed_mean, run_difference, run_mean
from sumcirc.tracking.score_names import SCORES, SIGNED, UNBOUNDED


@dataclass(frozen=True)
class Reach:
    """When the runs of an arm first reached a given validation loss.

    Attributes:
        runs: number of the arm's runs that reached the loss.
        steps: optimizer steps until the loss was reached, as a mean over these runs.
        seconds: training time until the loss was reached, as a mean over these runs.
    """

    runs: int
    steps: float
    seconds: float


def values_of(runs: Sequence[ReportRun], measure: str) -> NDArray[np.float64] | None:
    """Return the [runs, documents] values of a score or an inside measure.

    The result is [runs, 1] for a measure with one value per run. It is None if a run doesn't have
    the measure, or the runs were measured on different documents.

    Args:
        runs: runs of one arm, or of two.
        measure: name of a score in `tracking.score_names` or of a measure in `reporting.inside`.
    """
    if measure in SCORES:
        if not all(measure in run.values for run in runs):
            return None
        return np.stack([run.values[measure] for run in runs])
    found = [run.inside.get(measure) for run in runs]
    known = [one for one in found if one is not None]
    if len(known) < len(runs) or len({one.documents for one in known}) > 1:
        return None
    return np.stack([one.values for one in known])


def difference_of(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    measure: str,
    paired: bool,
    confidence: float,
) -> Estimate | None:
    """Return the difference of two arms' values; None if it is not defined.

    Args:
        ours, theirs: [runs, documents] values of both arms, as `values_of` returns them.
        measure: name of the score or measure.
        paired: whether both have the same seeds, in the same order.
        confidence: level of the interval.
    """
    kept = np.isfinite(ours).all(axis=0) & np.isfinite(theirs).all(axis=0)
    if measure in INSIDE and INSIDE[measure].by_run:
        if not kept.all():
            return None
        return run_difference(ours[:, 0], theirs[:, 0], paired, confidence)
    if kept.sum() < 2:
        return None
    return crossed_difference(ours[:, kept], theirs[:, kept], paired, confidence)


def inside_of(arm: Arm, confidence: float) -> dict[str, Estimate]:
    """Return the mean of each measure inside the model that all runs of an arm recorded.

    Args:
        arm: the arm.
        confidence: level of the intervals.
    """
    found = {}
    for name, measure in INSIDE.items():
        values = values_of(arm.runs, name)
        if values is None:
            continue
        defined = values[:, np.isfinite(values).all(axis=0)]
        if measure.by_run and defined.size:
            found[name] = run_mean(defined[:, 0], confidence)
        elif defined.shape[1] > 1:
            found[name] = crossed_mean(defined, confidence)
    return found


def scores_of(arm: Arm, confidence: float) -> dict[str, Estimate]:
    """Return the mean of each score that all runs of an arm have, by its name.

    Args:
        arm: the arm.
        confidence: level of the intervals, which hold no values that a score can't have.
    """
    found = {}
    for measure in SCORES:
        values = values_of(arm.runs, measure)
        if values is None:
            continue
        defined = values[:, np.isfinite(values).all(axis=0)]
        if defined.shape[1] > 1:
            found[measure] = _in_range(crossed_mean(defined, confidence), measure)
    return found


def _in_range(estimate: Estimate, measure: str) -> Estimate:
    # Student's t knows no bounds
    least = -1.0 if measure in SIGNED else 0.0
    most = np.inf if measure in UNBOUNDED else 1.0
    return replace(estimate, low=max(estimate.low, least), high=min(estimate.high, most))


def training_seconds(runs: Sequence[ReportRun]) -> float:
    """Return the mean training time in seconds; NaN if a run has none recorded."""
    return float(np.mean([run.summary.get("seconds", {}).get("train", np.nan) for run in runs]))


def lowest_loss(runs: Sequence[ReportRun]) -> float:
    """Return the mean over runs of the lowest validation loss; NaN if a run never validated."""
    return float(np.mean([min((loss for _, loss in run.losses), default=np.nan) for run in runs]))


def common_loss(arms: Sequence[Arm]) -> float | None:
    """Return the highest of the runs' lowest validation losses; None if none validated."""
    lowest = [min(loss for _, loss in run.losses) for arm in arms for run in arm.runs if run.losses]
    return max(lowest, default=None)


def reach_of(arm: Arm, loss: float | None) -> Reach:
    """Return when an arm's runs first reached `loss`; time is taken as proportional to steps."""
    steps, seconds = [], []
    for run in arm.runs:
        first = next((s for s, value in run.losses if loss is not None and value <= loss), None)
        if first is not None:
            steps.append(first)
            seconds.append(training_seconds([run]) * first / max(int(run.summary["steps"]), 1))
    if not steps:
        return Reach(0, np.nan, np.nan)
    return Reach(len(steps), float(np.mean(steps)), float(np.mean(seconds)))
