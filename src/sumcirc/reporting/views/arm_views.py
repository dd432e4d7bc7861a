"""Views of a sweep's arms: scores, differences from controls, and validation losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sumcirc.reporting.arms import control_title
from sumcirc.reporting.comparison import ArmComparison
from sumcirc.reporting.inside import EXPLANATION, INSIDE
from sumcirc.reporting.kinds import Bar, Bars, Curve, Curves, Dot, Dots, NotDrawableError, View
from sumcirc.reporting.views.training_curves import STEP
from sumcirc.statistics import Estimate
from sumcirc.tracking.score_names import SCORES

LOSS = "validation loss (nats per summary token)"


def scores(comparison: ArmComparison) -> View:
    """Return a view of the arms' scores with intervals, from the highest to the lowest score.

    Args:
        comparison: comparison of the arms.
    """
    metric = comparison.options.metric
    bars = [
        Bar(result.arm.title, *_percent(result.scores[metric]), filled=not result.remarks)
        for result in comparison.arms
    ]
    sizes = [result.arm.trainable_parameters for result in comparison.arms]
    span = dict.fromkeys(f"{size:,.0f}" for size in (min(sizes), max(sizes)))
    return View(
        f"{SCORES[metric]} of every arm",
        [[Bars(f"{SCORES[metric]} x 100", bars)]],
        "A point is an arm, its bar the interval over seeds and documents. Open circles: a remark"
        " says why the arm can't be compared directly with the others. Trainable parameters:"
        f" {' to '.join(span)}.",
        f"{len(bars)} arms from the highest to the lowest; the table above has the values.",
    )


def inside(comparison: ArmComparison) -> View:
    """Return a view of what happened inside the arms' models, with a panel for each measure.

    Args:
        comparison: comparison of the arms.

    Raises:
        NotDrawableError: no arm has a measure.
    """
    panels, rows = [], []
    for name in comparison.inside:
        measure = INSIDE[name]
        found = [(one.arm.title, one.inside[name]) for one in comparison.arms if name in one.inside]
        bars = [Bar(title, one.mean, one.low, one.high) for title, one in found]
        unit = f" ({measure.unit})" if measure.unit else ""
        panels.append(Bars(measure.label + unit, bars, zero=name == "entropy_change"))
        rows += [(name, bar.name, bar.mean, bar.low, bar.high) for bar in bars]
    if not panels:
        raise NotDrawableError("inside: no run measured its model in training")
    width = 1 if len(panels) % 2 else 2
    return View(
        "Inside the model, by arm",
        [panels[i : i + width] for i in range(0, len(panels), width)],
        EXPLANATION,
        f"{len(panels)} measures of {len(comparison.arms)} arms; the table has the values.",
        columns=("measure", "arm", "mean", "low", "high"),
        rows=rows,
    )


def parameters(comparison: ArmComparison) -> View:
    """Return a scatter plot of the arms' scores over their numbers of trainable parameters.

    Args:
        comparison: comparison of the arms.
    """
    metric, label = comparison.options.metric, SCORES[comparison.options.metric]
    dots = [
        Dot(
            result.arm.title,
            result.arm.trainable_parameters,
            *_percent(result.scores[metric]),
            filled=not result.remarks,
        )
        for result in comparison.arms
    ]
    panel = Dots(
        "trainable parameters",
        f"{label} x 100",
        dots,
        "each",
        named=frozenset(dot.name for dot in dots),
        columns=True,
    )
    hollow = "hollow: not directly comparable with the others"
    return View(
        f"Trainable parameters against {label}",
        [[panel]],
        "A point is an arm, its bar the interval over seeds and documents. Higher at equal width is"
        " better. Open circles: a remark says why the arm can't be compared directly with the"
        " others.",
        f"{len(dots)} arms by trainable parameters and {label}; the highest is {dots[0].name}.",
        note=hollow if any(result.remarks for result in comparison.arms) else "",
        columns=("arm", "parameters", "mean", "low", "high", "not_on_a_par"),
        rows=[(d.name, d.x, d.y, d.low, d.high, not d.filled) for d in dots],
    )


def differences(comparison: ArmComparison, controls: Sequence[str] | None = None) -> View:
    """Return a view of the score differences between arms and controls, with a panel per control.

    Filled points are significant after Holm's correction. Hollow points are not significant, or
    were not tested because the arm or its control has fewer than three seeds.

    Args:
        comparison: comparison of the arms.
        controls: names of the controls to show; None for all.

    Raises:
        NotDrawableError: no arm was compared with a control.
    """
    metric, order = comparison.options.metric, [one.arm.label for one in comparison.arms]
    panels, rows = [], []
    for against in controls or comparison.options.against:
        found = sorted(comparison.of(against, metric), key=lambda one: order.index(one.arm.label))
        bars = [
            Bar(
                one.arm.title,
                *_percent(one.estimate),
                filled=one.shown(comparison.alpha),
                note=one.verdict(comparison.alpha),
            )
            for one in found
        ]
        if bars:
            label = f"{SCORES[metric]} x 100: arm minus control"
            panels.append(Bars(label, bars, zero=True, title=f"minus {control_title(against)}"))
        rows += [(against, bar.name, bar.mean, bar.low, bar.high, bar.filled) for bar in bars]
    if not panels:
        raise NotDrawableError("differences: no arm was compared with a control")
    against = ", ".join(panel.title.removeprefix("minus ") for panel in panels)
    return View(
        f"{SCORES[metric]}: differences to {against}",
        [panels],
        "Right of 0 the arm scored higher on the same documents. Filled points differ after Holm's"
        " correction; for open ones no difference was shown, which does not mean that there is"
        " none.",
        f"Differences of {len(rows)} arms to {against}, with intervals; the table above has them.",
        note="intervals are of one arm at a time\nhollow: not shown after correction, or 1-2 seeds",
        columns=("against", "arm", "difference", "low", "high", "shown"),
        rows=rows,
    )


def mean_losses(comparison: ArmComparison) -> View:
    """Return a view of validation loss over steps, with one curve for each arm.

    A curve is the mean over the arm's runs, and its band extends from the lowest run to the
    highest.

    Args:
        comparison: comparison of the arms.

    Raises:
        NotDrawableError: no run validated.
    """
    curves, rows = [], []
    for result in comparison.arms:
        runs = [dict(run.losses) for run in result.arm.runs if run.losses]
        steps = sorted(set.intersection(*map(set, runs))) if runs else []
        if not steps:
            continue
        values = np.array([[run[step] for step in steps] for run in runs])
        ends = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        name = f"{result.arm.title} ({len(runs)} seed{'s' * (len(runs) > 1)})"
        curves.append(Curve(name, steps, *ends))
        rows += zip([result.arm.label] * len(steps), steps, *ends, strict=True)
    if not curves:
        raise NotDrawableError("validation loss: no run validated")
    columns = ("arm", "step", "mean", "lowest", "highest")
    return View("Validation loss", [[Curves(STEP, LOSS, curves)]], columns=columns, rows=rows)


def run_losses(comparison: ArmComparison) -> View:
    """Return a view of validation loss over steps, with a curve per run and a colour per arm.

    Args:
        comparison: comparison of the arms.

    Raises:
        NotDrawableError: no run validated.
    """
    curves = [
        Curve(
            result.arm.title,
            [step for step, _ in run.losses],
            [loss for _, loss in run.losses],
            group=result.arm.title,
        )
        for result in comparison.arms
        for run in result.arm.runs
        if run.losses
    ]
    if not curves:
        raise NotDrawableError("validation loss: no run validated")
    return View(
        "Validation loss of every run",
        [[Curves(STEP, LOSS, curves)]],
        "A line is a run, a colour an arm; lower is better. Point at a line for its arm.",
        f"Validation loss over steps of {len(curves)} runs.",
    )


def _percent(estimate: Estimate) -> tuple[float, float, float]:
    return 100 * estimate.mean, 100 * estimate.low, 100 * estimate.high
