"""The short tables at the end of `sumcirc compare`, from its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LISTED = 8  # rows of a table
ARROW = {"sufficiency": "after's parts into before", "necessity": "before's parts into after"}


def print_comparison(summary: Mapping[str, Any]) -> None:
    """Print what was found of each model beside `before`."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    for name, one in summary["after"].items():
        metric = one["metric"]
        console.print(
            f"{summary['before']} and {name}: {summary['metric']} of {summary['items']} items"
            f" ({summary['unit']}): before {_interval(metric['before'])}, after"
            f" {_interval(metric['after'])}, difference {_interval(metric['difference'])}"
        )
        gap = metric["difference"]
        if gap["mean"] == gap["low"] == gap["high"] == 0:
            console.print("the models do the same on these items: all scores are zero")
        elif gap["low"] <= 0 <= gap["high"]:
            console.print(
                "the models don't differ reliably in the metric, so shares of their gap say little"
            )
        for table in _tables(one):
            console.print(table)
    dropped = [f"{count} {reason}" for reason, count in summary["dropped"].items() if count]
    if dropped:
        console.print(f"left out: {', '.join(dropped)}")


def _tables(one: Mapping[str, Any]) -> list[Any]:
    tables = []
    if "differences" in one:
        tables += [_heads(one["differences"]["heads"]), _layers(one["differences"]["layers"])]
    if "direct" in one:
        tables.append(
            _table(
                "direct contributions that changed most (* differs from zero, FDR 5 %)",
                ("part", "before", "after", "difference"),
                [
                    (row["part"], _number(row["before"]), _number(row["after"]), _starred(row))
                    for row in one["direct"][:LISTED]
                ],
            )
        )
    if "attention" in one:
        tables.append(
            _table(
                "attention from span to span: the head that changed most",
                ("spans", "head", "before", "after", "difference"),
                [
                    (
                        f"{row['source']} -> {row['destination']}",
                        f"{row['layer']}.{row['head']}",
                        _number(row["before"]),
                        _number(row["after"]),
                        _starred(row),
                    )
                    for row in one["attention"]
                ],
            )
        )
    for direction, carried in one.get("patching", {}).items():
        tables += _patching(direction, carried)
    if "surgery" in one:
        tables.append(_surgery(one["surgery"]))
    return tables


def _heads(rows: Sequence[Mapping[str, Any]]) -> Any:
    cells = [
        (
            f"{row['layer']}.{row['head']}",
            _interval(row["kl"]),
            _interval(row["entropy"]) + ("*" if row["significant"] else ""),
            f"{row['rank_low']:.0f} to {row['rank_high']:.0f}",
        )
        for row in rows[:LISTED]
    ]
    headings = ("head", "attention KL (nats)", "entropy difference (nats)", "rank")
    return _table("heads whose attention changed most", headings, cells)


def _layers(rows: Sequence[Mapping[str, Any]]) -> Any:
    cells = [
        (
            str(row["layer"]),
            _interval(row["gained"]),
            _interval(row["drift"]),
            _interval(row["kl"]),
            f"{row['rank_low']:.0f} to {row['rank_high']:.0f}",
        )
        for row in rows[:LISTED]
    ]
    headings = ("layer", "drift gained", "drift after it", "attention KL (nats)", "rank")
    return _table("layers across which the residual stream departs most", headings, cells)


def _patching(direction: str, carried: Mapping[str, Any]) -> list[Any]:
    told = ", ".join(
        f"{kind} {values['pearson']:.2f}" for kind, values in carried["agreement"].items()
    )
    rows = sorted(
        (row for row in carried["parts"] if row["kind"] not in ("residual", "readout")),
        key=lambda row: -abs(row["mean"]),
    )
    title = f"{direction}: {ARROW[direction]}, share of the gap (1: as the other model)"
    if told:
        title += f"\none backward pass agrees with it (Pearson): {told}"
    tables = [
        _table(
            title,
            ("part", "score", "attributed"),
            [(row["part"], _starred(row), _number(row["attributed"])) for row in rows[:LISTED]],
        )
    ]
    if "sets" in carried:
        tables.append(_sets(direction, carried["sets"]))
    if "synergy" in carried:
        cells = [
            (" and ".join(row["parts"]), _interval(row)) for row in carried["synergy"][:LISTED]
        ]
        title = f"{direction}: synergy of two parts (together less each alone)"
        tables.append(_table(title, ("parts", "synergy"), cells))
    return tables


def _sets(direction: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    cells = []
    for row in rows:
        if row["kind"] == "random":
            continue
        drawn = [
            other["mean"]
            for other in rows
            if other["kind"] == "random" and other["size"] == row["size"]
        ]
        beside = f"{min(drawn):.2f} to {max(drawn):.2f}" if drawn and row["kind"] == "first" else ""
        cells.append((" ".join(row["parts"]), _interval(row), beside))
    title = f"{direction}: parts together, chosen on one half of the items, judged on the other"
    return _table(title, ("parts", "score", "as many at random"), cells)


def _surgery(rows: Sequence[Mapping[str, Any]]) -> Any:
    cells = []
    for row in rows:
        removed = row["arm"] == "remove" and row["amount"] == 0
        if not (removed or row["arm"] in ("whole", "only")):
            continue
        place = row["module"] or (f"layer {row['layer']}" if row["layer"] is not None else "all")
        what = {"whole": f"all at {row['amount']:g}", "remove": f"without {place}"}
        shown = row.get("perplexity")
        cells.append(
            (
                what.get(row["arm"], f"only {place}"),
                _interval(row),
                "" if shown is None else _interval(shown),
            )
        )
    headings = ("change", "share of the gap", "perplexity of plain text")
    return _table("the change scaled, removed and alone", headings, cells)


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    return table


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}"


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] != row["low"]:  # NaN: one item says nothing of its spread
        return _number(row["mean"])
    return f"{_number(row['mean'])} [{_number(row['low'])}, {_number(row['high'])}]"


def _starred(row: Mapping[str, Any]) -> str:
    return _interval(row) + ("*" if row["significant"] else "")
