"""Scores by which layers or modules were chosen for adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.figures.drawing import COLOURS, draw_grid, new_figure, plain_axes, save

CHOSEN, OTHER = COLOURS[1], "0.65"
COLUMNS = ("layer", "module", "score", "low", "high", "frequency", "chosen")


def draw_ranking(ranking: Mapping[str, Any], target: Path) -> None:
    """Scores with their intervals, by layer, or as a map of layer by module.

    Args:
        ranking: the content of ranking.json.

    Raises:
        UserError: the files can't be written.
    """
    rows = sorted(ranking["ranking"], key=lambda row: row["layer"])
    single = any(row["module"] for row in rows)
    figure = _modules(ranking) if single else _layers(ranking, rows)
    figure.suptitle(_title(ranking), fontsize=10)
    save(
        figure,
        target,
        COLUMNS,
        [["" if row[c] is None else row[c] for c in COLUMNS] for row in rows],
    )


def _title(ranking: Mapping[str, Any]) -> str:
    what = f"{ranking['selector']}: {ranking['reason']}"
    if ranking["size"]:
        what += f"\n{ranking['size']} {ranking['samples']}"
    sure = any(row["low"] is not None for row in ranking["ranking"])
    if sure and ranking["granularity"] == "layer":
        what += ", 95 % bootstrap intervals"
    return what


def _label(ranking: Mapping[str, Any]) -> str:
    return f"score ({ranking['unit']})" if ranking["unit"] else "score"


def _layers(ranking: Mapping[str, Any], rows: list[dict[str, Any]]) -> Any:
    """Layer 0 at the bottom, as in drawings of circuits."""
    from matplotlib.patches import Patch

    figure = new_figure(6.4, max(2.6, 0.24 * len(rows) + 1.4))
    axes = figure.add_subplot()
    colours = [CHOSEN if row["chosen"] else OTHER for row in rows]
    layers = [row["layer"] for row in rows]
    axes.barh(layers, [row["score"] for row in rows], color=colours, height=0.7)
    for row in rows:
        if row["low"] is not None:
            axes.plot((row["low"], row["high"]), (row["layer"],) * 2, color="0.15", linewidth=1.2)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set(xlabel=_label(ranking), ylabel="layer", yticks=layers)
    axes.tick_params(labelsize=8)
    axes.legend(
        handles=[
            Patch(color=CHOSEN, label="gets an adapter"),
            Patch(color=OTHER, label="does not"),
        ],
        fontsize=8,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    plain_axes(axes)
    return figure


def _modules(ranking: Mapping[str, Any]) -> Any:
    """A map, with a frame around each chosen cell."""
    from matplotlib.patches import Rectangle

    modules = ranking["modules"]
    values = np.full((1 + max(row["layer"] for row in ranking["ranking"]), len(modules)), np.nan)
    for row in ranking["ranking"]:
        values[row["layer"], modules.index(row["module"])] = row["score"]
    low, high = float(values.min()), float(values.max())
    limits = (min(low, 0.0), high if high > min(low, 0.0) else low + 1)
    figure, axes = draw_grid(values, "viridis", limits, _label(ranking))
    for row in ranking["ranking"]:
        if row["chosen"]:
            corner = (modules.index(row["module"]) - 0.46, row["layer"] - 0.46)
            axes.add_patch(
                Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=CHOSEN, linewidth=2.5)
            )
    axes.set_aspect("auto")
    axes.set(xlabel="module (framed: gets an adapter)")
    axes.set_xticks(range(len(modules)), modules)
    return figure
