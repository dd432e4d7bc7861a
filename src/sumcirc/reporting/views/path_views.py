"""Path attribution as tables and as a view: which part of the change the gain is attributed to.

`found` arguments are `path` of one tuned model below `after` in summary.json, which `sumcirc
compare` writes. Scores and effects are shares of the gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Bar, Bars, Curve, Curves, Map, NotDrawableError, Table, View
from sumcirc.reporting.tables import interval_column
from sumcirc.reporting.views.interaction_views import interaction_table, interaction_view
from sumcirc.reporting.views.nulls import or_nan
from sumcirc.reporting.views.trajectory_views import trajectory_tables, trajectory_view
from sumcirc.schema import MODULES

Row = Mapping[str, Any]
ENDS = ("mean", "low", "high")
SHARE = "share of the gain"
# what is measured of a unit beside its path score
EFFECTS = {"shapley": "Shapley value", "add": "alone", "remove": "lost without it"}
CURVES = {
    "keep": "best units alone",
    "drop": "without the best units",
    "random": "random units alone",
}
GRAINS = {
    "layer": "layers",
    "module": "modules",
    "head": "heads and neurons",
    "direction": "singular directions",
}
COLUMNS = (*MODULES, "norms", "biases")  # modules of a layer


def convergence(found: Row) -> str:
    """Return a sentence on the errors of the integrals."""
    errors = found["errors"]
    said = (
        f"{found['evaluations']} points; the units add up to the gain within"
        f" {_percent(errors['total'])}, in the worst item {_percent(errors['document'])} of the"
        f" mean gain; with 3 points a panel for 7 no unit moves by more than"
        f" {_percent(errors['unit'])}"
    )
    if found["converged"]:
        return f"converged: {said}"
    return f"NOT CONVERGED (1 %, 1 % and 2 % are allowed; raise compare.path.nodes): {said}"


def path_tables(found: Row, listed: int) -> list[Table]:
    """Return tables of path scores and of the effects of units.

    Args:
        found: results of path attribution.
        listed: largest number of rows in each table.
    """
    if "left_out" in found:
        return []
    made = []
    effects = found.get("effects")
    for grain, rows in found["units"].items():
        title = f"path attribution, {SHARE} by {GRAINS[grain]} (* differs from zero, FDR 5 %)"
        if not made:
            title += f"\n{convergence(found)}"
        some = sorted(rows, key=lambda row: -abs(row["mean"]))[:listed]
        headings, columns = ["unit", "path score"], [[row["unit"] for row in some]]
        columns.append(interval_column(some))
        if effects is not None and effects["grain"] == grain:
            by_unit = {row["unit"]: row for row in effects["units"]}
            for name, heading in EFFECTS.items():
                if name in effects["units"][0]:
                    headings.append(heading)
                    cells = [by_unit[row["unit"]][name] for row in some]
                    columns.append(interval_column(cells))
        made.append(Table(title, headings, [list(row) for row in zip(*columns, strict=True)]))
    if effects is not None:
        made.append(_curve(effects, listed))
        pairs = interaction_table(effects, listed)
        made += [] if pairs is None else [pairs]
    if "trajectory" in found:
        made += trajectory_tables(found["trajectory"], listed)
    if "edges" in found:
        made += _edge_tables(found["edges"], listed)
    return made


def _edge_tables(edges: Row, listed: int) -> list[Table]:
    """Return a table of the edges with the largest writes, and of what is not divided by edge."""
    whole = interval_column([edges["divided"]])[0]
    title = (
        f"edges by what the change wrote there, {SHARE} (* differs from zero, FDR 5 %)"
        f"\nall {edges['edges']:,} edges add up to {whole}, {edges['significant']} differ"
        f" from zero; {_percent(or_nan(edges['cancelled']))} of the writes cancel within senders"
    )
    some = edges["largest"][:listed]
    names = [f"{row['sender']} -> {row['destination']}" for row in some]
    rows = [list(row) for row in zip(names, interval_column(some), strict=True)]
    made = [Table(title, ("edge", "written"), rows)]
    rest = sorted(edges["rest"], key=lambda row: -abs(row["mean"]))[:listed]
    if rest:
        cells = zip([row["unit"] for row in rest], interval_column(rest), strict=True)
        title = f"not divided by edge, {SHARE}"
        made.append(Table(title, ("unit", "path score"), [list(row) for row in cells]))
    return made


def _curve(effects: Row, listed: int) -> Table:
    """Return a table of how much the best units keep, and what is left without them."""
    names = [name for name in CURVES if name in effects["curve"][0]]
    rows = effects["curve"][1 : listed + 1]
    columns = [[f"+ {unit}" for unit in effects["order"][: len(rows)]]]
    columns += [interval_column([row[name] for row in rows]) for name in names]
    agreed = [
        f"{EFFECTS[name]} {value:.2f}"
        for name, value in effects["agreement"].items()
        if value is not None and math.isfinite(value)
    ]
    title = f"{GRAINS[effects['grain']]} by path score, together: {SHARE}"
    if agreed:
        title += f"\nrank correlation of path scores with: {', '.join(agreed)}"
    if effects["left_out"]:
        title += f"\n{effects['left_out']}"
    headings = ["units", *(CURVES[name] for name in names)]
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])


def path_view(found: Row) -> View:
    """Return a view of path scores by unit and module, and of the best units kept and removed.

    Args:
        found: results of path attribution.

    Raises:
        NotDrawableError: nothing was attributed.
    """
    if "left_out" in found:
        raise NotDrawableError(found["left_out"])
    effects = found.get("effects")
    shown = found["units"]["layer"] if effects is None else effects["units"]
    rows = [row if effects is None else {**row, **row["path"]} for row in shown]
    bars = [_bar(row["unit"], row, "path score") for row in rows]
    table: list[tuple[Any, ...]] = [
        ("path", row["unit"], "", *(row[end] for end in ENDS)) for row in rows
    ]
    panels: list[Any] = []
    if effects is not None:
        for name, label in EFFECTS.items():
            if name in effects["units"][0]:
                some = effects["units"]
                bars += [_bar(row["unit"], row[name], label) for row in some]
                table += [
                    (name, row["unit"], "", *(row[name][end] for end in ENDS)) for row in some
                ]
    panels.append(Bars(SHARE, bars, zero=True, title="each unit"))
    if effects is not None:
        curves = []
        for name, label in CURVES.items():
            if name in effects["curve"][0]:
                points = effects["curve"]
                ends = [[or_nan(row[name][end]) for row in points] for end in ENDS]
                sizes = [row["size"] for row in points]
                look = "control" if name == "random" else "plain"
                curves.append(Curve(label, sizes, *ends, look=look))
                table += [(name, "", *point) for point in zip(sizes, *ends, strict=True)]
        panels.append(Curves("units", SHARE, curves, "layer", title="units together"))
    grid = _modules(found["units"]["module"])
    if grid is not None:
        panels.append(grid)
    if "edges" in found:
        panels.append(_edge_map(found["edges"]["layers"]))
        table += [
            ("edge", f"{row['sender']} -> {row['destination']}", "", *(row[end] for end in ENDS))
            for row in found["edges"]["largest"]
        ]
    best = max(rows, key=lambda row: abs(row["mean"]))
    return View(
        "Path attribution",
        [panels],
        "The gain attributed to parts of the weight change along the change itself"
        f" ({'converged' if found['converged'] else 'NOT CONVERGED'}). Bars are 95 % intervals over"
        " items.",
        f"Share of the gain by unit; the largest is {best['mean']:.2f} of {best['unit']}.",
        columns=("what", "unit", "size", "mean", "low", "high"),
        rows=table,
    )


def further_views(found: Row) -> list[tuple[str, Callable[[], View]]]:
    """Return the views of results beyond path scores, by the names of their figures.

    Args:
        found: results of path attribution.
    """
    effects = found.get("effects", {})
    made: list[tuple[str, Callable[[], View]]] = []
    if "interactions" in effects:
        made.append(("path_pairs", partial(interaction_view, effects)))
    if "trajectory" in found:
        made.append(("path_trajectory", partial(trajectory_view, found["trajectory"])))
    return made


def _modules(rows: Sequence[Row]) -> Map | None:
    """Return a map of the modules' scores by layer, or None if no layer changed."""
    inner = [row for row in rows if row["layer"] is not None]
    if not inner:
        return None
    present = [name for name in COLUMNS if any(row["part"] == name for row in inner)]
    layers = 1 + max(row["layer"] for row in inner)
    values = np.full((layers, len(present)), np.nan)
    marked = np.zeros(values.shape, dtype=bool)
    for row in inner:
        place = row["layer"], present.index(row["part"])
        values[place], marked[place] = row["mean"], row["significant"]
    return Map(values, SHARE, "", True, marked, columns=present, x="module", title="modules")


def _edge_map(layers: Sequence[Sequence[float]]) -> Map:
    """Return a map of what the change in each layer wrote into the inputs of each layer."""
    names = [str(layer) for layer in range(len(layers) - 1)]
    return Map(
        np.array(layers, dtype=float),
        SHARE,
        "",
        True,
        columns=[*names, "logits"],
        rows=["embedding", *names],
        x="layer that reads",
        y="layer that writes",
        title="edges",
    )


def _bar(name: str, ends: Row, series: str) -> Bar:
    return Bar(name, *(or_nan(ends[end]) for end in ENDS), series=series)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
