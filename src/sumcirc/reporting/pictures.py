"""From a comparison to its figures."""

from __future__ import annotations

from pathlib import Path

from sumcirc.figures.comparison import Point, draw_differences, draw_losses, draw_parameters
from sumcirc.reporting.comparison import Comparison
from sumcirc.reporting.runs import MEASURES
from sumcirc.statistics import Estimate


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw scores over parameters, and differences and losses where there are any.

    Returns:
        The PNG files; see `drawing.save` for what lies beside them.
    """
    metric, unit = comparison.options.metric, f"{MEASURES[comparison.options.metric]} x 100"
    points = [
        Point(
            result.arm.label,
            *_percent(result.scores[metric]),
            parameters=result.arm.trainable_parameters,
            hollow=bool(result.remarks),
        )
        for result in comparison.arms
    ]
    drawn = [folder / "parameters.png"]
    draw_parameters(points, unit, drawn[0])
    groups = {
        against: [
            Point(
                found.arm.label,
                *_percent(found.estimate),
                hollow=not found.shown(comparison.alpha),
            )
            for found in comparison.of(against, metric)
        ]
        for against in comparison.options.against
    }
    groups = {against: found for against, found in groups.items() if found}
    if groups:
        drawn.append(folder / "differences.png")
        draw_differences(groups, [point.label for point in points], unit, drawn[-1])
    curves = {
        result.arm.label: [run.losses for run in result.arm.runs if run.losses]
        for result in comparison.arms
    }
    curves = {label: runs for label, runs in curves.items() if runs}
    if curves:
        drawn.append(folder / "validation_loss.png")
        draw_losses(curves, drawn[-1])
    return drawn


def _percent(estimate: Estimate) -> tuple[float, float, float]:
    return 100 * estimate.mean, 100 * estimate.low, 100 * estimate.high
