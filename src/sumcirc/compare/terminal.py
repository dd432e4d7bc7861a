"""The short tables at the end of `sumcirc compare`, from its summary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sumcirc.runtime.notices import print_lines
from sumcirc.runtime.terminal import console
from sumcirc.statistics import excludes_zero
from sumcirc.statistics.noise import rounding_of

LISTED = 8  # rows of a table
ARROW = {"sufficiency": "after's parts into before", "necessity": "before's parts into after"}
DIGITS, DECIMALS = 3, 4  # of the largest number of a column, at most; the others have as many
SMALLEST = 1e-3  # a column whose largest is less has powers of ten

SIDES = ("before", "after", "difference")  # headings

Row = Mapping[str, Any]


def print_comparison(summary: Mapping[str, Any]) -> None:
    """Print what was found of each model beside `before`."""
    shown = console()
    for name, one in summary["after"].items():
        rows = [one["metric"][key] for key in ("before", "after", "difference")]
        before, after, difference = _intervals(rows)
        shown.print(
            f"\n{summary['before']} and {name}: {summary['metric']} of {summary['items']} items"
            f" ({summary['unit']}): before {before}, after {after}, difference {difference}"
        )
        gap = one["metric"]["difference"]
        if _same(one["metric"]):
            shown.print(
                "the models do the same on these items but for rounding: no share is defined"
            )
            continue
        doubtful = not excludes_zero(gap["low"], gap["high"])
        if doubtful:
            shown.print(
                "the models don't differ reliably in the metric, so shares of their gap say little;"
                f" effects are told in {summary['unit']}"
            )
        for title, table in _tables(one, summary["unit"] if doubtful else None):
            shown.print(f"\n{title}")
            shown.print(table)
    print_lines(summary["notices"])


def _same(metric: Mapping[str, Any]) -> bool:
    """Return whether the models' metrics differ by no more than rounding error."""
    rounding = rounding_of(metric["before"]["mean"], metric["after"]["mean"])
    ends = [value for name, value in metric["difference"].items() if name != "n"]
    return not any(abs(value) > rounding for value in ends)  # no interval is NaN


def _tables(one: Mapping[str, Any], unit: str | None) -> list[tuple[str, Any]]:
    """Titles and tables.

    Args:
        unit: of the effects of single parts, where these stand in place of shares.
    """
    tables = []
    if "differences" in one:
        found = one["differences"]
        tables += [_heads(found["heads"]), _layers(found["layers"])]
        if found["lens"]:
            tables.append(_lens(found["lens"]))
    if "direct" in one:
        rows = one["direct"][:LISTED]
        parts = [[row["part"] for row in rows]]
        title = "direct contributions that changed most (* differs from zero, FDR 5 %)"
        tables.append(_table(title, ["part", *SIDES], [*parts, *_sides(rows)]))
    if "attention" in one:
        rows = one["attention"]
        spans = [f"{row['source']} -> {row['destination']}" for row in rows]
        heads = [f"{row['layer']}.{row['head']}" for row in rows]
        title = "attention from span to span: the head that changed most (* as above)"
        tables.append(_table(title, ["spans", "head", *SIDES], [spans, heads, *_sides(rows)]))
    for direction, carried in one.get("patching", {}).items():
        tables += _patching(direction, carried, unit)
    if "surgery" in one:
        tables += _delta_scaling(one["surgery"])
    return tables


def _sides(rows: Sequence[Row]) -> list[list[str]]:
    values = [row[side] for row in rows for side in ("before", "after")]
    told = _numbers(values)
    return [told[::2], told[1::2], _starred(rows)]


def _heads(rows: Sequence[Row]) -> tuple[str, Any]:
    rows = rows[:LISTED]
    stars = ["*" if row["significant"] else "" for row in rows]
    entropy = _intervals([row["entropy"] for row in rows])
    columns = [
        [f"{row['layer']}.{row['head']}" for row in rows],
        _intervals([row["kl"] for row in rows]),
        [value + star for value, star in zip(entropy, stars, strict=True)],
        _ranks(rows),
    ]
    headings = ("head", "attention KL (nats)", "entropy difference (nats)", "rank")
    return _table("heads whose attention changed most", headings, columns)


def _layers(rows: Sequence[Row]) -> tuple[str, Any]:
    rows = rows[:LISTED]
    columns = [
        [str(row["layer"]) for row in rows],
        *(_intervals([row[name] for row in rows]) for name in ("gained", "kl")),
        _ranks(rows),
    ]
    headings = ("layer", "drift gained", "attention KL (nats)", "rank")
    return _table("layers across which the residual stream departs most", headings, columns)


def _lens(found: Sequence[Row]) -> tuple[str, Any]:
    """Tokens as they are written in code: spaces and control characters show."""
    promoted, demoted = (
        [repr(row["token"]) for row in found if (row["value"] > 0) is up][:LISTED]
        for up in (True, False)
    )
    title = "tokens that the change of the last residual stream promotes and demotes (lens)"
    columns = [["promoted", "demoted"], [" ".join(promoted), " ".join(demoted)]]
    return _table(title, ("", "tokens"), columns)


def _ranks(rows: Iterable[Row]) -> list[str]:
    return [
        "-" if math.isnan(row["rank_low"]) else f"{row['rank_low']:.0f} to {row['rank_high']:.0f}"
        for row in rows
    ]


def _patching(
    direction: str, carried: Mapping[str, Any], unit: str | None
) -> list[tuple[str, Any]]:
    told = ", ".join(
        f"{kind} {values['pearson']:.2f}" for kind, values in carried["agreement"].items()
    )
    rows = [row for row in carried["parts"] if row["kind"] not in ("residual", "unembedding")]
    if unit is not None:
        rows = [{**row, **row["effect"]} for row in rows]
    rows = sorted(rows, key=lambda row: -abs(row["mean"]))[:LISTED]
    title = f"{direction}: {ARROW[direction]}, share of the gap (1: as the other model)"
    if told:
        title += f"\nPearson correlation with the estimate of one backward pass, by kind: {told}"
    if unit is not None:
        title = title.replace("share of the gap (1: as the other model)", f"effect ({unit})")
    scores = _starred(rows)
    attributed = _numbers([row["attributed"] for row in rows], _form(row["mean"] for row in rows))
    columns = [[row["part"] for row in rows], scores, attributed]
    headings = ("part", "score", "attributed")
    if unit is not None:
        columns, headings = columns[:2], ("part", "effect")
    tables = [_table(title, headings, columns)] if rows else []
    if "sets" in carried:
        tables += _sets(direction, carried["sets"])
    if "synergy" in carried:
        rows = carried["synergy"][:LISTED]
        columns = [[" and ".join(row["parts"]) for row in rows], _intervals(rows)]
        title = f"{direction}: synergy of two parts (together less each alone)"
        tables.append(_table(title, ("parts", "synergy"), columns))
    return tables


def _sets(direction: str, rows: Sequence[Row]) -> list[tuple[str, Any]]:
    tables = []
    own = [row for row in rows if row["kind"] == "own"]
    if own:
        columns = [[" ".join(row["parts"]) for row in own], _intervals(own)]
        tables.append(_table(f"{direction}: parts together, as asked", ("parts", "score"), columns))
    first = [row for row in rows if row["kind"] == "first"]
    if first:
        drawn = [
            [row["mean"] for row in rows if (row["kind"], row["size"]) == ("random", one["size"])]
            for one in first
        ]
        columns = [
            # each has one part more than that above it
            [("+ " if i else "") + row["parts"][-1] for i, row in enumerate(first)],
            _intervals(first),
            [" to ".join(_numbers([min(some), max(some)])) for some in drawn],
        ]
        title = (
            f"{direction}: the first parts together, chosen on one half of the items, judged on the"
            " other"
        )
        tables.append(_table(title, ("parts", "score", "as many at random"), columns))
    return tables


def _delta_scaling(rows: Sequence[Row]) -> list[tuple[str, Any]]:
    whole = [row for row in rows if row["arm"] == "whole"]
    tables = [_arms("the whole change scaled", [f"{row['amount']:g}" for row in whole], whole)]
    # that which tells most first: without it the metric is far from that of after
    removed = [row for row in rows if row["arm"] == "remove" and row["amount"] == 0]
    removed.sort(key=lambda row: -abs(1 - row["mean"]))
    alone = {(row["layer"], row["module"]): row for row in rows if row["arm"] == "only"}
    removed = [row for row in removed if (row["layer"], row["module"]) in alone][:LISTED]
    if removed:
        places = [row["module"] or f"layer {row['layer']}" for row in removed]
        kept = [alone[row["layer"], row["module"]] for row in removed]
        tables.append(_arms("the change without one part", places, removed))
        tables.append(_arms("the change of one part alone", places, kept))
    return tables


def _arms(title: str, names: Sequence[str], rows: Sequence[Row]) -> tuple[str, Any]:
    headings, columns = ["change", "share of the gap"], [list(names), _intervals(rows)]
    if rows and "perplexity" in rows[0]:
        headings.append("perplexity of plain text")
        columns.append(_intervals([row["perplexity"] for row in rows]))
    return _table(title, headings, columns)


def _table(
    title: str, headings: Sequence[str], columns: Sequence[Sequence[str]]
) -> tuple[str, Any]:
    from rich.table import Table

    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return title, table


def _form(values: Iterable[float]) -> str:
    """How the numbers of one column are written, so that they can be compared at a glance."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return ".0f"
    if largest < SMALLEST:
        return ".1e"
    decimals = DIGITS - 1 - math.floor(math.log10(largest))
    return f".{min(max(decimals, 0), DECIMALS)}f"


def _numbers(values: Iterable[float], form: str | None = None) -> list[str]:
    values = list(values)
    form = form or _form(values)
    return [_number(value, form) if math.isfinite(value) else "-" for value in values]


def _number(value: float, form: str) -> str:
    # what rounds to zero has no sign, and an exponent no zero
    text = format(value, form).replace("e-0", "e-")
    return text.lstrip("-").replace("0.0e+00", "0") if float(text) == 0 else text


def _intervals(rows: Sequence[Row]) -> list[str]:
    """Return means with their intervals; a mean alone where its ends are NaN."""
    form = _form(row["mean"] for row in rows)
    found = []
    for row in rows:
        mean, low, high = _numbers([row[key] for key in ("mean", "low", "high")], form)
        found.append(mean if math.isnan(row["low"]) else f"{mean} [{low}, {high}]")
    return found


def _starred(rows: Sequence[Row]) -> list[str]:
    stars = ["*" if row["significant"] else "" for row in rows]
    return [value + star for value, star in zip(_intervals(rows), stars, strict=True)]
