"""Section: curves over training steps."""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.reporting.page.charts import COLOURS, figure, line
from sumcirc.reporting.page.view import Block, Chart, Gap, Page, each
from sumcirc.tracking.run_records import RunRecords

LOSS = {"train/loss": "training", "validation/loss": "validation"}
# further metrics that are drawn where a run logged them, by chart
OTHERS = {
    ("ROUGE while training", "F1", "Of validation documents, at the watched steps."): (
        *("summaries/rouge1_f1", "summaries/rouge2_f1", "summaries/rougeLsum_f1"),
    ),
    (
        "Divergence from the base",
        "KL (nats per summary token)",
        "KL between the models' next-token distributions, mean over the reference summary's tokens"
        " of the watched documents, in both directions; 0: the base itself.",
    ): ("output/kl_tuned_base", "output/kl_base_tuned"),
}
INTRO = "Curves over optimizer steps. Click a name in a legend to hide its curve."


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Loss, and what else was logged while training."""
    trained = [run for run in runs if run.trains and run.metrics]
    page.add("training", "Training", INTRO, each(trained, _blocks))
    for run in runs:
        if run.trains and run.metrics and "validation/loss" not in run.metrics:
            page.gaps.append(
                Gap(f"{run.name}: no validation loss: it has no validation data or no step of it")
            )


def _blocks(run: RunRecords) -> list[Block]:
    blocks: list[Block] = []
    curves = {label: run.metrics[name] for name, label in LOSS.items() if name in run.metrics}
    if curves:
        last = ", ".join(f"{label} {points[-1][1]:.3f}" for label, points in curves.items())
        blocks.append(
            _chart(
                "Loss",
                curves,
                "loss (nats per summary token)",
                "Mean cross-entropy of the reference summary's tokens; lower is better. Last:"
                f" {last}.",
            )
        )
    for (title, unit, caption), names in OTHERS.items():
        curves = {name.split("/")[1]: run.metrics[name] for name in names if name in run.metrics}
        if curves:
            blocks.append(_chart(title, curves, unit, caption))
    return blocks


def _chart(
    title: str, curves: dict[str, list[tuple[int, float]]], unit: str, caption: str
) -> Chart:
    traces = [
        line(
            [step for step, _ in points],
            [value for _, value in points],
            name,
            line={"color": COLOURS[i % len(COLOURS)]},
            marker={"size": 5},
            hovertemplate="step %{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
        for i, (name, points) in enumerate(curves.items())
    ]
    drawn = figure(
        traces,
        xaxis={"title": {"text": "optimizer step"}},
        yaxis={"title": {"text": unit}},
        showlegend=len(curves) > 1,
    )
    return Chart(title, caption, f"{title} over optimizer steps: {', '.join(curves)}.", drawn)
