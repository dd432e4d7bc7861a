"""The gain attributed along the training trajectory, as tables and as a view.

`found` arguments are `path.trajectory` of one tuned model below `after` in summary.json, which
`sumcirc compare` writes. Scores are shares of the gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Curve, Curves, Map, Table, View
from sumcirc.reporting.tables import interval_column
from sumcirc.reporting.views.nulls import or_nan
from sumcirc.statistics import bracketed

Row = Mapping[str, Any]
ENDS = ("mean", "low", "high")
SHARE = "share of the gain"
GRAINS = {"layer": "layers", "module": "modules", "head": "heads and neurons"}
CURVES = 6  # units whose scores are drawn as curves


def trajectory_tables(found: Row, listed: int) -> list[Table]:
    """Return tables of scores over the trajectory, by segment, and of what checkpoints predict.

    Args:
        found: results along the trajectory.
        listed: largest number of units in each table.
    """
    made = [_against_straight(found, grain, listed) for grain in ("layer", "module")]
    return [*made, _by_segment(found, listed), _checkpoints(found)]


def _against_straight(found: Row, grain: str, listed: int) -> Table:
    rows = sorted(found["units"][grain], key=lambda row: -abs(row["mean"]))[:listed]
    straight = found["straight"][grain]
    title = (
        f"along the training trajectory, {SHARE} by {GRAINS[grain]} (* differs from zero, FDR 5 %)"
        f"\n{_convergence(found)}"
        f"\nother units than on the straight path have {100 * straight['moved']:.2g} % of the gain;"
        f" rank correlation of the two {_interval(straight['ranking'])}"
    )
    columns = [
        [row["unit"] for row in rows],
        interval_column(rows),
        interval_column([row["path"] for row in rows]),
        interval_column([row["difference"] for row in rows]),
    ]
    headings = ["unit", "trajectory", "straight path", "difference"]
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])


def _by_segment(found: Row, listed: int) -> Table:
    """Return a table with a row per segment and a column per layer."""
    some = sorted(found["units"]["layer"], key=lambda row: -abs(row["mean"]))[:listed]
    names = {row["unit"] for row in some}
    units = [row for row in found["units"]["layer"] if row["unit"] in names]
    rows = [
        [
            segment_name(segment),
            _interval(segment["gain"]),
            *(_mean(unit["segments"][k]) for unit in units),
        ]
        for k, segment in enumerate(found["segments"])
    ]
    title = f"{SHARE} by segment of training, in steps (* differs from zero, FDR 5 %)"
    return Table(title, ["steps", "all", *(unit["unit"] for unit in units)], rows)


def _checkpoints(found: Row) -> Table:
    rows = [
        [
            str(row["step"]),
            _interval(row["gain"]),
            _interval(row["items"]),
            *(_interval(row["ranking"][grain]) for grain in GRAINS),
        ]
        for row in found["checkpoints"]
    ]
    said = [
        f"{GRAINS[grain]} {'not before the last checkpoint' if step is None else f'from {step}'}"
        for grain, step in found["agrees_from"].items()
    ]
    title = (
        "checkpoints beside the last: share of its gain, and rank correlations with its gain by"
        f" item and its scores by unit\nthe ranking agrees (interval above 0.9): {', '.join(said)}"
    )
    headings = ["step", "gain", "items", *GRAINS.values()]
    return Table(title, headings, rows)


def trajectory_view(found: Row) -> View:
    """Return a view of scores by segment and so far, and of what checkpoints predict.

    Args:
        found: results along the trajectory.
    """
    units, segments = found["units"]["layer"], found["segments"]
    values = np.array([[or_nan(one["mean"]) for one in row["segments"]] for row in units])
    marked = np.array([[one["significant"] for one in row["segments"]] for row in units])
    steps = [0, *(segment["end"] for segment in segments)]
    so_far = np.concatenate([np.zeros((len(units), 1)), values.cumsum(1)], axis=1)
    best = sorted(range(len(units)), key=lambda i: -abs(values[i].sum()))[:CURVES]
    curves = [Curve(units[i]["unit"], steps, so_far[i]) for i in sorted(best)]
    names = [row["unit"] for row in units]
    checkpoints = found["checkpoints"]
    told = [
        ("gain", "share of the final gain", [row["gain"] for row in checkpoints]),
        *(
            (grain, f"ranking of {words}", [row["ranking"][grain] for row in checkpoints])
            for grain, words in GRAINS.items()
        ),
    ]
    panels: list[Any] = [
        Map(
            *(values, SHARE, "", True, marked),
            columns=[str(segment["end"]) for segment in segments],
            rows=names,
            x="segment up to step",
            y="",
            title="by segment",
        ),
        Curves("step", SHARE, curves, title="so far"),
        Curves(
            "step",
            "share, or rank correlation with the last",
            [_curve(label, steps[1:], rows) for _, label, rows in told],
            title="what a checkpoint predicts",
        ),
    ]
    table: list[tuple[Any, ...]] = [
        ("segment", row["unit"], segment["end"], *(one[end] for end in ENDS))
        for row in units
        for segment, one in zip(segments, row["segments"], strict=True)
    ]
    table += [("trajectory", row["unit"], "", *(row[end] for end in ENDS)) for row in units]
    table += [("path", row["unit"], "", *(row["path"][end] for end in ENDS)) for row in units]
    table += [
        (name, "", step, *(row[end] for end in ENDS))
        for name, _, rows in told
        for step, row in zip(steps[1:], rows, strict=True)
    ]
    most = max(segments, key=lambda segment: abs(or_nan(segment["gain"]["mean"])))
    return View(
        "Path attribution along the trajectory",
        [panels],
        "The gain attributed to layers between saved checkpoints of the training"
        f" ({'converged' if found['converged'] else 'NOT CONVERGED'}). Dots: differs from zero (FDR"
        " 5 %). The last panel has 95 % intervals over items.",
        f"Share of the gain by layer and segment; steps {segment_name(most)} have the largest part,"
        f" {most['gain']['mean']:.2f}.",
        columns=("what", "unit", "step", "mean", "low", "high"),
        rows=table,
    )


def segment_name(segment: Row) -> str:
    """Return the steps of a segment, such as `0 to 50`.

    Args:
        segment: the segment.
    """
    return f"{segment['start']} to {segment['end']}"


def _convergence(found: Row) -> str:
    errors = found["errors"]
    sizes = (f"{100 * errors[name]:.2g} %" for name in ("total", "document", "unit"))
    total, document, unit = sizes
    points = sum(segment["evaluations"] for segment in found["segments"])
    word = "converged" if found["converged"] else "NOT CONVERGED (raise compare.path.nodes)"
    return (
        f"{word}: {points} points; the units add up to the gain within {total}, in the worst item"
        f" {document} of the mean gain; no unit moves by more than {unit}"
    )


def _curve(name: str, steps: Sequence[int], rows: Sequence[Row]) -> Curve:
    mean, low, high = ([or_nan(row[end]) for row in rows] for end in ENDS)
    return Curve(name, steps, mean, low, high)


def _interval(row: Row) -> str:
    mean, low, high = (or_nan(row[end]) for end in ENDS)
    return bracketed(mean, low, high, ".2f")


def _mean(row: Row) -> str:
    return f"{or_nan(row['mean']):.3f}{'*' if row['significant'] else ''}"
