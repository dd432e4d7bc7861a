"""Section: two models compared by `sumcirc compare`: parts moved across, weights scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.figures.drawing import largest
from sumcirc.reporting.page import heads, layers, neurons
from sumcirc.reporting.page.charts import COLOURS, SIGNED, error_bars, figure, grid, line, log_axis
from sumcirc.reporting.page.text import plain
from sumcirc.reporting.page.view import Block, Chart, Page, Table, Variant, Words
from sumcirc.reporting.tables import TextTable
from sumcirc.statistics import bracketed, excludes_zero
from sumcirc.tracking.run_records import RunRecords

INTRO = (
    "What differs between two models, and which parts carry the difference: each part of one is put"
    " into the other. Scores are shares of the gap between the models: 1 closes it, 0 does nothing."
)
DIRECTIONS = {
    "necessity": "a part of the model before is put into the one after; high: it is needed",
    "sufficiency": "a part of the model after is put into the one before; high: it is enough",
}
KINDS = {"output": "outputs of heads and MLPs", "value": "values of heads"}
SETS = {"first": "best parts first", "random": "random parts", "own": "chosen on all items"}


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """A variant for each model after; its probes are shown with it."""
    variants = []
    for run in runs:
        for name, found in run.summary.get("after", {}).items():
            label = name if len(runs) == 1 else f"{run.name}: {name}"
            variants.append(Variant(label, _blocks(run, name, found)))
    page.add("models", "Comparison of models", INTRO, variants)


def _blocks(run: RunRecords, name: str, found: Mapping[str, Any]) -> list[Block]:
    unit = run.summary["unit"]
    blocks: list[Block] = [
        Words(
            f"Before: {run.summary['before']}. After: {name}. {run.summary['items']} items,"
            f" measured by {run.summary['metric'].replace('_', ' ')} ({unit})."
        ),
        Table(_metric(found["metric"], unit)),
    ]
    if doubtful(found):
        blocks.append(
            Words(
                "The models don't differ reliably in the metric. Shares of the gap between them are"
                " left out where its interval includes zero, and say little elsewhere."
            )
        )
    records, before = run.compared(name)
    blocks += [*heads.charts(records, before), *layers.charts(records), *neurons.charts(records)]
    for direction, carried in found.get("patching", {}).items():
        blocks += _patched(direction, carried)
    if found.get("surgery"):
        blocks += _delta_scaling(found["surgery"])
    if found.get("direct"):
        blocks.append(Table(_direct(found["direct"], unit)))
    if found.get("attention"):
        blocks.append(Table(_attention(found["attention"])))
    return blocks


def doubtful(found: Mapping[str, Any]) -> bool:
    """Whether the models don't differ reliably in the metric: shares of their gap say little."""
    gap = found["metric"]["difference"]
    return not excludes_zero(gap["low"], gap["high"])


def _metric(found: Mapping[str, Any], unit: str) -> TextTable:
    rows = [
        [name, _interval(found[key])]
        for key, name in (
            ("before", "before"),
            ("after", "after"),
            ("difference", "after − before"),
        )
    ]
    return TextTable(f"the metric ({unit}), 95 % interval over items", ["model", "mean"], rows)


def _interval(one: Mapping[str, float], sign: str = "") -> str:
    return bracketed(one["mean"], one["low"], one["high"], f"{sign}.3g")


def _patched(direction: str, carried: Mapping[str, Any]) -> list[Block]:
    reading = DIRECTIONS[direction]
    blocks: list[Block] = []
    for kind, label in KINDS.items():
        rows = [row for row in carried["parts"] if row["kind"] == kind]
        if rows:
            mlps = [row for row in carried["parts"] if row["kind"] == "mlp"]
            blocks.append(_map(direction, label, reading, rows, mlps if kind == "output" else []))
    if carried.get("sets"):
        blocks.append(_sets(direction, carried["sets"]))
    ranked = sorted(carried["parts"], key=lambda row: -abs(row["mean"]))[:12]
    cells = [[row["part"], _interval(row), "yes" if row["significant"] else "no"] for row in ranked]
    headings = ["part", "share of the gap [95 %]", "differs from 0"]
    blocks.append(
        Table(TextTable(f"{direction}: the largest scores", headings, cells), folded=True)
    )
    return blocks


def _map(
    direction: str,
    label: str,
    reading: str,
    rows: Sequence[Mapping[str, Any]],
    mlps: Sequence[Mapping[str, Any]],
) -> Chart:
    depth = 1 + max(row["layer"] for row in [*rows, *mlps])
    count = 1 + max(row["index"] for row in rows)
    columns = [str(head) for head in range(count)] + (["MLP"] if mlps else [])
    values = np.full((depth, len(columns)), np.nan)
    dots = [["" for _ in columns] for _ in range(depth)]
    for row in [*rows, *mlps]:
        column = count if row["kind"] == "mlp" else row["index"]
        values[row["layer"], column] = row["mean"]
        dots[row["layer"]][column] = "•" if row["significant"] else ""
    limit = largest(values)
    heat = grid(
        values,
        (-limit, limit),
        SIGNED,
        "layer %{y}, %{x}: %{z:.3f} of the gap %{text}",
        x=columns,
        text=dots,
        texttemplate="%{text}",
        colorbar={"title": {"text": "share"}},
    )
    layout = heads.head_axes(depth, count)
    layout["xaxis"] = {"title": {"text": "head"}, "type": "category", "showgrid": False}
    best = max([*rows, *mlps], key=lambda row: abs(row["mean"]))
    return Chart(
        f"Patch scores, {direction}: {label}",
        f"{reading[0].upper()}{reading[1:]}. Dots mark scores that differ from 0 over items.",
        f"Map of layer by head; the largest score is {best['mean']:.2f} of {best['part']}.",
        figure([heat], **layout),
    )


def _sets(direction: str, sets: Sequence[Mapping[str, Any]]) -> Chart:
    traces = []
    kinds = list(dict.fromkeys(str(one["kind"]) for one in sets))
    for colour, kind in zip(COLOURS, kinds, strict=False):
        label = plain(SETS.get(kind, kind))
        for i, draw in enumerate(dict.fromkeys(one["draw"] for one in sets if one["kind"] == kind)):
            some = [one for one in sets if (one["kind"], one["draw"]) == (kind, draw)]
            some.sort(key=lambda one: one["size"])
            ends = [[one[end] for one in some] for end in ("mean", "low", "high")]
            traces.append(
                line(
                    [one["size"] for one in some],
                    ends[0],
                    label,
                    error_y=error_bars(*ends) if kind != "random" else None,
                    legendgroup=kind,
                    showlegend=i == 0,
                    line={"color": colour, "dash": "dot" if kind == "random" else "solid"},
                    hovertemplate=f"{label}, %{{x}} parts: %{{y:.3f}}<extra></extra>",
                )
            )
    drawn = figure(
        traces,
        xaxis=log_axis("parts moved together", (size for trace in traces for size in trace.x)),
        yaxis={"title": {"text": "share of the gap"}},
        showlegend=True,
    )
    return Chart(
        f"Sets of parts, {direction}",
        "How much of the gap several parts close together, beside random sets of the same size."
        " Bars are 95 % intervals over items.",
        f"Share of the gap over the number of parts, {direction}.",
        drawn,
    )


def _delta_scaling(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    whole = sorted((row for row in rows if row["arm"] == "whole"), key=lambda row: row["amount"])
    blocks: list[Block] = []
    if whole:
        ends = [[row[end] for row in whole] for end in ("mean", "low", "high")]
        trace = line(
            [row["amount"] for row in whole],
            ends[0],
            "all layers",
            error_y=error_bars(*ends),
            line={"color": COLOURS[0]},
            hovertemplate="λ %{x}: %{y:.3f} of the gap<extra></extra>",
        )
        drawn = figure(
            [trace],
            xaxis={"title": {"text": "λ, share of the change of weights"}},
            yaxis={"title": {"text": "share of the gap"}},
        )
        caption = "The change of all weights scaled by λ: 0 is the model before, 1 the one after."
        blocks.append(Chart("Scaling the change of weights", caption, caption, drawn))
    cells = [
        [
            row["arm"].replace("_", " "),
            "-" if row["layer"] is None else str(row["layer"]),
            row["module"] or "-",
            f"{row['amount']:g}",
            _interval(row),
            f"{row['perplexity']['mean']:.4g}" if "perplexity" in row else "-",
        ]
        for row in rows
        if row["arm"] != "whole"
    ]
    if cells:
        headings = [
            "surgery",
            "layer",
            "module",
            "λ",
            "share of the gap [95 %]",
            "perplexity of text",
        ]
        words = frozenset({"module"})
        table = TextTable("scaling the change of single layers and modules", headings, cells, words)
        blocks.append(Table(table, folded=True))
    return blocks


def _direct(rows: Sequence[Mapping[str, Any]], unit: str) -> TextTable:
    cells = [
        [row["part"], f"{row['before']:.3g}", f"{row['after']:.3g}", _interval(row, "+")]
        for row in rows
    ]
    headings = ["part", "before", "after", "change [95 %]"]
    return TextTable(f"direct contribution to the metric ({unit}), most changed", headings, cells)


def _attention(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    cells = [
        [
            f"{row['source']} → {row['destination']}",
            f"{row['layer']}.{row['head']}",
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            _interval(row, "+"),
        ]
        for row in rows
    ]
    headings = ["spans", "layer.head", "before", "after", "change [95 %]"]
    return TextTable("attention between spans, the head that changed most", headings, cells)
