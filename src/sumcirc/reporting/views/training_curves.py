"""Views of logged metrics over optimizer steps: loss, ROUGE, divergence, and the circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sumcirc.reporting.kinds import Curve, Curves, NotDrawableError, View
from sumcirc.tracking.measure_records import FAITHFULNESS, TRAIN_KL, TRAIN_LOSS, VALIDATION_LOSS

Points = Mapping[str, Sequence[tuple[int, float]]]  # (step, value) by metric
STEP = "optimizer step"
LOSS_LABEL = "loss (nats per summary token)"


@dataclass(frozen=True)
class Chart:
    """Describes a chart of logged metrics.

    Attributes:
        title: title of the chart.
        y: label of the y axis, with the unit.
        caption: text that says how to read the chart.
        names: label of each metric in the legend, by the metric's name.
    """

    title: str
    y: str
    caption: str
    names: Mapping[str, str]


LOSS = Chart(
    "Loss",
    LOSS_LABEL,
    "Mean cross-entropy of the reference summary's tokens; lower is better.",
    {TRAIN_LOSS: "training", VALIDATION_LOSS: "validation"},
)
CIRCUIT = Chart(
    "The circuit at each checkpoint",
    "value",
    "Faithfulness of the circuit (1: it does all that the model does); CMD, the area between its"
    " faithfulness curve and 1, next to that of random circuits; and overlaps.",
    {
        FAITHFULNESS: "faithfulness",
        "circuit/cmd": "CMD of the circuit (0 is best)",
        "circuit/cmd_random": "CMD of random circuits",
        "circuit/jaccard_base": "overlap with the base's (Jaccard)",
        "circuit/jaccard_resamples": "overlap of resamples (Jaccard)",
    },
)
OTHERS = (
    Chart(
        "ROUGE while training",
        "F1",
        "On the validation documents, at the steps that are measured.",
        {f"summaries/{name}_f1": f"{name}_f1" for name in ("rouge1", "rouge2", "rougeLsum")},
    ),
    Chart(
        "Divergence from the base",
        "KL (nats per summary token)",
        "KL between the models' next-token distributions, mean over the tokens of the reference"
        " summaries of the measured documents, in both directions; 0: the base itself.",
        {f"output/{name}": name for name in ("kl_tuned_base", "kl_base_tuned")},
    ),
    Chart(
        "Penalty on divergence from the base",
        "KL (nats per token)",
        "KL(base || model) of the next-token distributions on the texts of kl_penalty, mean over"
        " texts, before its weight.",
        {TRAIN_KL: "on the texts of the penalty"},
    ),
)


def over_steps(metrics: Points, chart: Chart) -> View:
    """Return a view with a curve over steps for each of a chart's metrics that the run logged.

    Args:
        metrics: (step, value) pairs of each logged metric, by its name.
        chart: description of the chart.

    Raises:
        NotDrawableError: the run logged none of these metrics.
    """
    curves = [
        Curve(
            label,
            *zip(*metrics[name], strict=True),
            look="control" if "random" in label else "plain",
        )
        for name, label in chart.names.items()
        if metrics.get(name)
    ]
    if not curves:
        raise NotDrawableError(f"{chart.title}: none of its values was logged")
    last = ", ".join(f"{curve.name} {curve.y[-1]:.3f}" for curve in curves)
    panel = Curves(STEP, chart.y, curves, limits=(0.0 if chart is LOSS else None, None))
    return View(
        chart.title,
        [[panel]],
        f"{chart.caption} Last: {last}." if chart is LOSS else chart.caption,
        f"{chart.title} over optimizer steps: {', '.join(curve.name for curve in curves)}.",
        columns=("curve", "step", "value"),
        rows=[(one.name, *point) for one in curves for point in zip(one.x, one.y, strict=True)],
    )
