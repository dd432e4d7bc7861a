"""Figures of one run: loss over steps, scores of every system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sumcirc.figures.drawing import literal_texts, stamp
from sumcirc.storage.writing import write_file
from sumcirc.tracking.measure_records import read_metrics

SERIES = {"train/loss": "training", "validation/loss": "validation"}
METRICS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeLsum": "ROUGE-Lsum"}


def draw_loss(metrics: Path, target: Path) -> None:
    """Training and validation loss (nats per summary token) over optimizer steps."""
    figure, axes = _new_figure()
    rows = read_metrics(metrics)
    for name, label in SERIES.items():
        points = [(step, value) for step, metric, value in rows if metric == name]
        if points:
            marker = "o" if len(points) < 30 else None
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per summary token)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, target)


def draw_scores(systems: Mapping[str, Mapping[str, Any]], target: Path) -> None:
    """ROUGE F1 x 100 of every system with its interval, on the same items."""
    figure, axes = _new_figure()
    names = list(systems)
    width = 0.8 / len(METRICS)
    for index, (metric, label) in enumerate(METRICS.items()):
        means, below, above = _bars(systems, names, f"{metric}_f1")
        positions = [i + (index - (len(METRICS) - 1) / 2) * width for i in range(len(names))]
        axes.bar(positions, means, width, yerr=[below, above], label=label, capsize=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("F1 x 100 with bootstrap interval")
    axes.legend(frameon=False, ncols=len(METRICS), loc="upper left", bbox_to_anchor=(0, 1.12))
    _save(figure, target)


def _bars(
    systems: Mapping[str, Mapping[str, Any]], names: Sequence[str], measure: str
) -> tuple[list[float], list[float], list[float]]:
    values = [systems[name][measure] for name in names]
    means = [100 * value["mean"] for value in values]
    below = [100 * (value["mean"] - value["low"]) for value in values]
    above = [100 * (value["high"] - value["mean"]) for value in values]
    return means, below, above


def _new_figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, target: Path) -> None:
    stamp(figure, target)
    literal_texts(figure)
    write_file(target, lambda temporary: figure.savefig(temporary, format="png", dpi=150))
