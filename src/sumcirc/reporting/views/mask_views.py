"""Learned masks over the weight change as tables and as a view, beside other rankings of its units.

`found` arguments are `masks` of one tuned model below `after` in summary.json, which `sumcirc
compare` writes. Effects are shares of the gain; plain texts are in nats a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sumcirc.reporting.kinds import Curve, Curves, NotDrawableError, Table, View
from sumcirc.reporting.tables import column_form, interval_column, number_column
from sumcirc.reporting.views.nulls import or_nan

Row = Mapping[str, Any]
ENDS = ("mean", "low", "high")
SHARE = "share of the gain"
RANKINGS = {
    "masks": "learned masks",
    "grafting": "grafting",
    "path": "path attribution",
    "path_density": "path score per weight",
    "add": "patched alone",
    "remove": "patched out",
    "inverted": "learned masks, inverted",
    "random_weights": "random, as many weights",
    "random_norm": "random, as large a change",
}
LOOKS = {"random_weights": "control", "random_norm": "chance", "inverted": "base"}
SIDES = {
    "kept": ("the best units alone", 0.0, 1.0),
    "left": ("without the best units", 1.0, 0.0),
}
RANKED = ("grafting", "path", "add", "remove")  # listed beside the masks' ranks
FORGOTTEN = {
    "kl": "KL(before || with the set), nats a token",
    "nll_change": "loss minus that of the model before, nats a token",
}
OF = {"weights": "share of the changed weights", "units": "share of the units"}


def mask_tables(found: Row, listed: int) -> list[Table]:
    """Return tables of what the sets of each ranking keep and leave, and of the units by rank.

    Args:
        found: results of learned masks.
        listed: largest number of units.
    """
    if "left_out" in found:
        return []
    tables = [_sizes(found, which) for which in SIDES]
    if "retention" in found:
        tables += [_forgotten(found, which) for which in FORGOTTEN]
    return [*tables, _units(found, listed)]


def mask_view(found: Row) -> View:
    """Return a view of what the sets of each ranking keep and leave, against their size.

    Args:
        found: results of learned masks.

    Raises:
        NotDrawableError: nothing was learned.
    """
    if "left_out" in found:
        raise NotDrawableError(found["left_out"])
    panels, table = [], []
    for which, (title, first, last) in SIDES.items():
        curves = []
        for name, ranking in found["rankings"].items():
            sizes = [0.0, *found["sizes"], 1.0]
            points = [point[which] for point in ranking["curve"]]
            ends = [[first, *(or_nan(row[end]) for row in points), last] for end in ENDS]
            look: Any = LOOKS.get(name, "plain")
            curves.append(Curve(RANKINGS[name], sizes, *ends, look=look))
            table += [(which, name, *point) for point in zip(sizes, *ends, strict=True)]
        panels.append(Curves(f"size ({OF[found['shares']]})", SHARE, curves, title=title))
    own, path = (found["rankings"][name]["area"]["kept"]["mean"] for name in ("masks", "path"))
    return View(
        "Learned masks over the change",
        [panels],
        f"The change of the best units alone, and of all others. Rankings were made on"
        f" {found['trained_on']} items and are judged on {found['judged_on']} others; bands are"
        " 95 % intervals over these and, where there are several, over seeds or draws.",
        f"Area under the curve of the best units alone: learned masks {own:.2f}, path attribution"
        f" {path:.2f}.",
        columns=("set", "ranking", "size", *ENDS),
        rows=table,
    )


def forgetting_view(found: Row) -> View:
    """Return a view of the gain against what is forgotten, with each ranking's best units alone.

    Args:
        found: results of learned masks.

    Raises:
        NotDrawableError: nothing was learned, or no plain texts were read.
    """
    if "left_out" in found:
        raise NotDrawableError(found["left_out"])
    if "retention" not in found:
        raise NotDrawableError("no plain texts were read (compare.masks.retention=true)")
    panels, table = [], []
    for which, label in FORGOTTEN.items():
        curves = []
        for name, ranking in found["rankings"].items():
            points = ranking["curve"]
            x = [
                0.0,
                *(point[which]["mean"] for point in points),
                found["retention"][which]["mean"],
            ]
            ends = [[0.0, *(or_nan(point["kept"][end]) for point in points), 1.0] for end in ENDS]
            look: Any = LOOKS.get(name, "plain")
            curves.append(Curve(RANKINGS[name], x, ends[0], look=look))
            sizes = [0.0, *found["sizes"], 1.0]
            table += [(which, name, *row) for row in zip(sizes, x, *ends, strict=True)]
        panels.append(Curves(label, SHARE, curves))
    return View(
        "Gain against forgetting",
        [panels],
        "With the change of the best units alone: share of the gain, against how far predictions of"
        f" {found['retention']['texts']} plain texts are from the model before. Points are sizes of"
        " sets. Intervals are in the tables.",
        columns=("texts", "ranking", "size", "forgotten", *ENDS),
        rows=table,
    )


def _forgotten(found: Row, which: str) -> Table:
    """Return a table of how plain texts are predicted with the sets of each ranking alone."""
    rankings, whole = found["rankings"], found["retention"][which]
    columns = [[RANKINGS[name] for name in rankings]]
    for j in range(len(found["sizes"])):
        values = [one["curve"][j][which]["mean"] for one in rankings.values()]
        columns.append(number_column(values, column_form(values)))
    sizes = [f"{100 * size:.3g} %" for size in found["sizes"]]
    title = (
        f"{FORGOTTEN[which]}, mean of {found['retention']['texts']} plain texts by size"
        f" ({OF[found['shares']]}), with the best units alone; lower is better"
        f"\nthe whole change: {interval_column([whole])[0]}"
    )
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(title, ["ranking", *sizes], rows)


def _sizes(found: Row, which: str) -> Table:
    """Return a table of what is kept or left at each size, with the areas under the curves."""
    rankings = found["rankings"]
    columns = [[RANKINGS[name] for name in rankings]]
    for j in range(len(found["sizes"])):
        values = [one["curve"][j][which]["mean"] for one in rankings.values()]
        columns.append(number_column(values, column_form(values)))
    columns.append(interval_column([one["area"][which] for one in rankings.values()]))
    others = [name for name in rankings if name != "masks"]
    differences = interval_column([rankings[name]["difference"][which] for name in others])
    columns.append(["-", *differences])
    sizes = [f"{100 * size:.3g} %" for size in found["sizes"]]
    better = "higher" if which == "kept" else "lower"
    title = f"{SIDES[which][0]}, {SHARE} by size ({OF[found['shares']]}); {better} is better"
    if which == "kept":
        title += (
            f"\n{found['grain']}s ranked on {found['trained_on']} items, judged on"
            f" {found['judged_on']} others{_seeds(found)}"
        )
        if not found["path_converged"]:
            title += "\npath scores have NOT CONVERGED"
    headings = ["ranking", *sizes, "area", "area of masks − its"]
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])


def _seeds(found: Row) -> str:
    value = found["agreement"].get("seeds")
    if value is None or not math.isfinite(value):
        return ""
    return f"; rank correlation between seeds {value:.2f}"


def _units(found: Row, listed: int) -> Table:
    rows = found["units"][:listed]
    columns = [[row["unit"] for row in rows]]
    columns.append([f"{100 * row['weights']:.1f} %" for row in rows])
    columns.append([" ".join(map(str, row["ranks"])) for row in rows])
    for name in RANKED:
        columns.append([f"{row[name]:.3g}" for row in rows])
    title = f"{found['grain']}s by learned masks, with their ranks (1: best)"
    headings = ["unit", "weights", "masks, by seed", *(RANKINGS[x] for x in RANKED)]
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])
