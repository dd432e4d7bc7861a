"""Views of how two models differ: patching, scaled weight changes, attribution and attention.

`Row` arguments are rows from the entry of one tuned model below `after` in summary.json, which
`sumcirc compare` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import (
    Curve,
    Curves,
    Dot,
    Dots,
    Map,
    NotDrawableError,
    View,
    largest,
)
from sumcirc.reporting.measured import ALPHA
from sumcirc.reporting.views.circuit_graphs import node_rows, with_mlps
from sumcirc.schema import MODULES
from sumcirc.statistics import bootstrap_means, mean_over, significantly_different

Row = Mapping[str, Any]
ENDS = ("mean", "low", "high")
SHARE = "share of the gap"
SCORE = f"patch score ({SHARE})"
DIRECTIONS = {
    "necessity": "a part of `before` is moved into `after`; high: the part is needed",
    "sufficiency": "a part of `after` is moved into `before`; high: the part is enough",
}
KINDS = {
    "output": "outputs of heads and MLPs",
    "query": "queries of heads",
    "pattern": "attention patterns of heads",
    "key": "keys of heads",
    "value": "values of heads",
}
SETS = {"first": "best parts first", "random": "random parts", "own": "sets that were asked for"}
ORDER = (*MODULES, "norms")  # modules of a layer
BESIDE = 8  # number of heads with a name in the scatter plot


def patch_map(direction: str, kind: str, parts: Sequence[Row]) -> View:
    """Return a map of patch scores by layer and head, for one kind of component.

    The map of head outputs (`output`) also has a column with the outputs of the MLPs.

    Args:
        direction: `necessity` or `sufficiency`.
        kind: kind of the components to show, one of `KINDS`.
        parts: one row with the patch score for each component, of all kinds.

    Raises:
        NotDrawableError: no component of this kind was patched, or no score is defined.
    """
    heads, marked = _grid(parts, kind)
    mlps = _grid(parts, "mlp" if kind == "output" else "")
    label = f"{KINDS[kind]}, {direction}"
    if not np.isfinite(heads).any():
        raise NotDrawableError(f"patch scores of {label}: none is finite; do the models differ?")
    if mlps[0].size:
        marked = np.hstack([marked, mlps[1]])
    panel = with_mlps(
        heads, mlps[0][:, 0] if mlps[0].size else None, SCORE, "", marked, signed=True
    )
    shown = [row for row in parts if row["kind"] in (kind, "mlp" if mlps[0].size else kind)]
    best = max(shown, key=lambda row: abs(row["mean"]))
    reading = DIRECTIONS[direction]
    columns = ("node", "layer", "head", "score", "significant")
    return View(
        f"Patch scores, {direction}: {KINDS[kind]}",
        [[panel]],
        f"{reading[0].upper()}{reading[1:]}. Dots mark scores that differ from 0 over items.",
        f"Map of layer by head; the largest score is {best['mean']:.2f} of {best['part']}.",
        heading=f"{kind}: {reading.partition(';')[0]}",
        columns=columns,
        rows=node_rows(panel, heads.shape[1]),
    )


def _grid(parts: Sequence[Row], kind: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores of one kind of part and whether they are significant, [layers, parts]."""
    rows = [row for row in parts if row["kind"] == kind]
    depth = 1 + max((row["layer"] for row in parts if row["kind"] in (*KINDS, "mlp")), default=-1)
    shape = depth, 1 + max((row["index"] for row in rows), default=-1)
    values, marked = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for row in rows:
        place = row["layer"], row["index"]
        values[place], marked[place] = row["mean"], row["significant"]
    return values, marked


def output_against_value(direction: str, parts: Sequence[Row]) -> View:
    """Return a scatter plot that compares patching a head's output with patching only its value.

    Each point is a head.

    If both scores are equal, the effect is carried by the value, not by the attention pattern.
    Heads that share a key/value head also share the score of its value.

    Args:
        direction: `necessity` or `sufficiency`.
        parts: one row with the patch score for each component, of all kinds.

    Raises:
        NotDrawableError: no head has both scores.
    """
    output, value = (_grid(parts, kind)[0] for kind in ("output", "value"))
    if value.size and output.shape != value.shape:
        value = np.repeat(value, output.shape[1] // value.shape[1], axis=1)
    both = np.isfinite(output) & np.isfinite(value) if value.size else np.zeros((0, 0), bool)
    if not both.any():
        raise NotDrawableError("output against value: no head has both patch scores")
    found = [
        (int(layer), int(head), float(output[layer, head]), float(value[layer, head]))
        for layer, head in zip(*np.nonzero(both), strict=True)
    ]
    dots = [Dot(f"{layer}.{head}", x, y, order=layer) for layer, head, x, y in found]
    ranked = sorted(dots, key=lambda dot: -max(abs(dot.x), abs(dot.y)))[:BESIDE]
    named = frozenset(dot.name for dot in ranked)
    labels = (f"output {SCORE}", f"value {SCORE}")
    return View(
        f"Output against value, {direction}",
        [[Dots(*labels, dots, "order", "layer", named, diagonal=True)]],
        "A point is a head. On the dashed line moving its value alone has the effect of moving its"
        " whole output; far below it the attention pattern matters.",
        f"Points of {len(dots)} heads; {ranked[0].name} (layer.head) has the largest score.",
        heading=f"{DIRECTIONS[direction].partition(';')[0]}\ndashed: equal",
        columns=("layer", "head", "output", "value"),
        rows=found,
    )


def residual_curves(patching: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the patch scores of the residual stream by depth, for each direction.

    Args:
        patching: results of patching for each direction, from the summary.

    Returns:
        For each direction, the means and the lower and upper ends of their intervals.
    """
    found = {}
    for direction, one in patching.items():
        rows = sorted(
            (row for row in one["parts"] if row["kind"] == "residual"), key=lambda row: row["layer"]
        )
        if rows and any(np.isfinite(row["mean"]) for row in rows):
            name = DIRECTIONS[direction].partition(";")[0]
            found[name] = tuple(np.array([row[end] for row in rows], float) for end in ENDS)
    return found


def sets_of_parts(direction: str, sets: Sequence[Row]) -> View:
    """Return a view of how much of the models' gap closes when several components are patched.

    Random sets of the same size are the control.

    Args:
        direction: `necessity` or `sufficiency`.
        sets: one row with the share of the gap for each set of components.
    """
    curves = []
    for kind, draw in dict.fromkeys((one["kind"], one["draw"]) for one in sets):
        some = [one for one in sets if (one["kind"], one["draw"]) == (kind, draw)]
        some.sort(key=lambda one: one["size"])
        ends = [[one[end] for one in some] for end in ENDS]
        control, label = kind == "random", SETS.get(str(kind), str(kind))
        curves.append(
            Curve(
                label,
                [one["size"] for one in some],
                *(ends[:1] if control else ends),
                look="control" if control else "plain",
                group=label,
            )
        )
    return View(
        f"Sets of parts, {direction}",
        [[Curves("parts moved together", SHARE, curves, "log", bars=True)]],
        "How much of the gap several parts close together, next to random sets of the same size."
        " Bars are 95 % intervals over items.",
        f"Share of the gap over the number of parts, {direction}.",
    )


def scaled_deltas(rows: Sequence[Row]) -> View:
    """Return a view of the metric when the change of weights is scaled, or removed from one module.

    Args:
        rows: the rows of `surgery` in the summary.

    Raises:
        NotDrawableError: no share of the models' gap is defined.
    """
    layers = 1 + max((row["layer"] for row in rows if row["layer"] is not None), default=-1)
    removed = [row for row in rows if row["arm"] == "module"]
    changed = {row["layer"] for row in removed}
    curves = [_scaled("all layers", [row for row in rows if row["arm"] == "whole"], "whole")]
    if not np.isfinite(curves[0].y).any():
        raise NotDrawableError("scaled deltas: the models don't differ in the metric")
    # from the last layer down, so that layer 0 is at the bottom of the legend, as in the map
    for layer in sorted(changed, reverse=True):
        some = [row for row in rows if (row["arm"], row["layer"]) == ("remove", layer)]
        one = _scaled(f"layer {layer}", some)
        curves.append(Curve(one.name, one.x, one.y))
    present = [name for name in ORDER if any(row["module"] == name for row in removed)]
    present += [name for name in dict.fromkeys(r["module"] for r in removed) if name not in ORDER]
    values = np.full((layers, len(present)), np.nan)
    marked = np.zeros(values.shape, dtype=bool)
    for row in removed:
        place = row["layer"], present.index(row["module"])
        values[place] = row["mean"] - 1  # compared with the model with the whole change
        marked[place] = row.get("significant", False)
    label = f"{SHARE} (0: before, 1: after)"
    panels: list[Any] = [Curves("λ, scale of the change (0: before, 1: after)", label, curves)]
    if present:
        what = "change of the share without the module"
        panels.append(Map(values, what, "", True, marked, columns=present, x="module"))
    table = [("all", "", *point, "") for point in _points(curves[0])]
    table += [
        (one.name.split()[-1], "", x, y, "", "", "")
        for one in curves[1:]
        for x, y, *_ in _points(one)
    ]
    table += [
        (layer, present[column], 0.0, value, "", "", marked[layer, column])
        for (layer, column), value in np.ndenumerate(values)
    ]
    return View(
        "Scaling the change of weights",
        [panels],
        "The change of all weights, or of one layer's, scaled by λ: 0 is the model before, 1 the"
        " one after.",
        "Share of the gap over λ, for all layers together and for each layer.",
        columns=("layer", "removed", "scale", "mean", "low", "high", "significant"),
        rows=table,
    )


def _scaled(name: str, rows: Sequence[Row], look: Any = "plain") -> Curve:
    ordered = sorted(rows, key=lambda row: row["amount"])
    ends = [np.array([row[end] for row in ordered], float) for end in ENDS]
    return Curve(name, [row["amount"] for row in ordered], *ends, look=look)


def _points(curve: Curve) -> list[tuple[Any, ...]]:
    nothing = [""] * len(curve.x)
    ends = [nothing if end is None else end for end in (curve.low, curve.high)]
    return list(zip(curve.x, curve.y, *ends, strict=True))


def direct_attribution(
    heads: Mapping[str, NDArray[np.float64]],
    attention: Mapping[str, NDArray[np.float64]],
    mlps: Mapping[str, NDArray[np.float64]],
    unit: str,
) -> View:
    """Return a view of how the direct contributions of heads and layers to the metric change.

    A map shows the difference between the models for each head, where a dot marks significant
    differences (false discovery rate 5 %). Curves show both models' contributions by layer, with
    bootstrap intervals of 95 % over items unless there is only one item.

    Args:
        heads: [layers, heads, items] contributions of the heads, for each model: `before` and
            `after`.
        attention: [layers, items] contributions of all heads of a layer together with the output
            projection's bias, for each model.
        mlps: [layers, items] contributions of the MLPs, for each model.
        unit: unit of the metric, such as `nats`.
    """
    differences = heads["after"] - heads["before"]
    means, marked = mean_over(differences, -1), significantly_different(differences, ALPHA)
    dots = "\ndots: differs, FDR 5 %" if marked.any() else ""
    rows: list[tuple[Any, ...]] = [
        ("difference", "head", *place, value, "", "", bool(marked[place]))
        for place, value in np.ndenumerate(means)
    ]
    curves = []
    for part, sides in (("attention", attention), ("MLP", mlps)):
        for model, values in sides.items():
            ends = bootstrap_means(values)
            filled = [model == "after"] * len(values)
            curves.append(Curve(f"{part}, {model}", range(len(values)), *ends, filled=filled))
            rows += [
                (model, part, layer, "", *one, "")
                for layer, one in enumerate(zip(*ends, strict=True))
            ]
    items = differences.shape[-1]
    return View(
        "Direct attribution",
        [
            [
                Map(
                    means,
                    "direct contribution",
                    unit,
                    True,
                    marked,
                    title=f"heads, after − before{dots}",
                ),
                Curves(
                    "layer",
                    f"direct contribution ({unit})",
                    curves,
                    "layer",
                    bars=True,
                    title=f"layers, mean of {items} item{'s' * (items != 1)}",
                ),
            ]
        ],
        columns=("model", "part", "layer", "head", "contribution", "low", "high", "significant"),
        rows=rows,
    )


def span_attention(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    names: Sequence[str],
    significant: NDArray[np.bool_],
) -> View:
    """Return maps, by layer and head, of how much attention one span of the text pays to another.

    For each pair of spans there are three maps: each model's attention, and the difference.

    Args:
        before, after: [pairs, layers, heads] mean shares of attention in the two models; NaN is
            drawn grey.
        names: name of each pair of spans.
        significant: [pairs, layers, heads] True for cells whose difference gets a dot.

    Raises:
        NotDrawableError: there are no pairs.
    """
    if not names:
        raise NotDrawableError("span attention: no pair of spans to draw; name spans in the items")
    panels, rows = [], []
    for i, name in enumerate(names):
        high, label = largest(before[i], after[i]), "share of attention"
        panels.append(
            [
                Map(before[i], label, limit=high, title=f"{name}\nbefore", bar=False),
                Map(after[i], label, limit=high, title="after"),
                Map(
                    after[i] - before[i],
                    "difference",
                    "",
                    True,
                    significant[i],
                    title="after − before",
                ),
            ]
        )
    for (pair, *place), value in np.ndenumerate(before):
        other, marked = after[pair, *place], significant[pair, *place]
        rows.append((names[pair], *place, value, other, other - value, marked))
    columns = ("pair", "layer", "head", "before", "after", "difference", "significant")
    return View("Attention between spans", panels, columns=columns, rows=rows)
