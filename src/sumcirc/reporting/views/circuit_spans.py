"""Views of a circuit by span: where edges act, what cancels, and its faithfulness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Map, Table, View
from sumcirc.reporting.tables import format_interval

ROWS = 15  # units in the table
READ_AT = ("query", "mlp", "logits")
CROSSING = ("key", "value")
NAMES = {"query": "query", "mlp": "MLP", "logits": "logits"}
SHARE = "share of |score|"
PANELS = ("keys", "values", "queries, MLPs and logits")


def at_positions(record: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return shares of |score| in percent of what reads at a position, [spans, READ_AT].

    Args:
        record: the content of spans.json.
    """
    return np.array(
        [[100 * _share(record, span, span)[kind] for kind in READ_AT] for span in record["spans"]]
    )


def between(record: Mapping[str, Any], kind: str) -> NDArray[np.float64]:
    """Return shares of |score| in percent by span of the token and of the query, [spans, spans].

    NaN where no token of one can be read from the other.

    Args:
        record: the content of spans.json.
        kind: `key` or `value`.
    """
    spans = record["spans"]
    found = [[_share(record, s, t).get(kind, np.nan) for t in spans] for s in spans]
    return 100 * np.array(found, dtype=float)


def _share(record: Mapping[str, Any], span: str, reader: str) -> Mapping[str, Any]:
    some = (one for one in record["shares"] if (one["span"], one["reader"]) == (span, reader))
    return next(some, {})


def spans_view(record: Mapping[str, Any]) -> View:
    """Return maps of the shares of |score| by span.

    Args:
        record: the content of spans.json.
    """
    spans = record["spans"]
    grids = [between(record, kind) for kind in CROSSING]
    limit = max(float(np.nanmax(grid, initial=0.0)) for grid in grids)
    common: dict[str, Any] = {"label": SHARE, "unit": "%", "rows": spans, "rooted": True}
    maps = [
        Map(
            grid,
            columns=spans,
            x="span of the reading query",
            y="span of the token",
            limit=limit,
            title=title,
            **common,
        )
        for grid, title in zip(grids, PANELS, strict=False)
    ]
    positions = at_positions(record)
    names = [NAMES[kind] for kind in READ_AT]
    maps.append(Map(positions, columns=names, x="", y="span", title=PANELS[-1], **common))
    rows = [
        (kind, s, t, float(grid[i, j]))
        for kind, grid in zip(CROSSING, grids, strict=True)
        for i, s in enumerate(spans)
        for j, t in enumerate(spans)
    ]
    rows += [
        (kind, span, span, float(positions[i, j]))
        for i, span in enumerate(spans)
        for j, kind in enumerate(READ_AT)
    ]
    return View(
        "Where edges act",
        [maps],
        "Share of all |scores| by span. Keys and values belong to a token of one span (row) and are"
        " read by queries of another (column), as in a head that looks from the summary so far back"
        " at a fact; queries, MLPs and logits act at the position of one span. No colour: no token"
        " of the row's span stands before one of the column's. Colours show square roots, so that"
        " small shares are visible.",
        "Maps of shares of |score| by span of the token and of the reading query.",
        columns=("destination", "span", "reader", "percent"),
        rows=rows,
    )


def span_tables(record: Mapping[str, Any]) -> list[Table]:
    """Return tables of shares by span, the largest units, and faithfulness beside plain circuits.

    Args:
        record: the content of spans.json.
    """
    return [_positions(record), _between(record), _largest(record), _faithfulness(record)]


def _positions(record: Mapping[str, Any]) -> Table:
    rows = [
        [span, f"{100 * record['tokens'][span]:.0f} %", *(f"{value:.1f} %" for value in values)]
        for span, values in zip(record["spans"], at_positions(record), strict=True)
    ]
    title = "share of |score| of what reads at a position, by its span"
    return Table(title, ["span", "of tokens", *(NAMES[kind] for kind in READ_AT)], rows)


def _between(record: Mapping[str, Any]) -> Table:
    keys, values = (between(record, kind) for kind in CROSSING)
    rows = [
        [
            span,
            *(
                "-" if np.isnan(one) else f"{one:.1f} / {other:.1f} %"
                for one, other in zip(keys[i], values[i], strict=True)
            ),
        ]
        for i, span in enumerate(record["spans"])
    ]
    title = "share of |score| of keys / values, by span of the token (row) and of the query"
    return Table(title, ["token", *record["spans"]], rows)


def _largest(record: Mapping[str, Any]) -> Table:
    rows = [
        [f"{one['source']} -> {one['destination']}", where(one), f"{one['score']:.4f}"]
        for one in record["largest"][:ROWS]
    ]
    title = "largest scores by span"
    return Table(title, ["edge", "span", "score"], rows, frozenset({"span"}))


def where(unit: Mapping[str, Any]) -> str:
    """Return the span of a unit, such as `prompt`; for a key or value `fact, read from summary`.

    Args:
        unit: one of `largest` in spans.json.
    """
    if unit["destination"].endswith(("<k>", "<v>")):
        return f"{unit['span']}, read from {unit['reader']}"
    return str(unit["span"])


def _faithfulness(record: Mapping[str, Any]) -> Table:
    rows = []
    for one in record["points"]:
        control = one["control"]
        rows.append(
            [
                f"{100 * one['fraction']:g} %",
                f"{one['edges']:,}",
                f"{one['allowed']:,}",
                _told(one["plain"]) if one["edges"] else "no edge",
                f"{one['units']:,}",
                f"{one['touched']:,}",
                _told(one["faithfulness"]) if one["units"] else "no unit",
                "-" if control is None else _told(control),
            ]
        )
    headings = ["size", "edges", "their units", "faithfulness", "units", "of edges", "by span"]
    title = "faithfulness of plain circuits, and of circuits by span with as many units"
    return Table(title, [*headings, "random units"], rows)


def _told(interval: Mapping[str, Any]) -> str:
    mean = interval["mean"]
    return "-" if mean is None or np.isnan(mean) else format_interval(interval, "z.2f")


def spans_said(record: Mapping[str, Any]) -> list[str]:
    """Return sentences on what cancels and on the circuit by span.

    Args:
        record: the content of spans.json.
    """
    each, one = record["cancelled_by_document"], record["circuit"]
    if record["cancelled"] is None or each["mean"] is None:
        return ["all scores are 0"]
    found = [
        f"{100 * record['cancelled']:.0f} % of the scores by span cancels within edges (of one"
        f" document's own scores {_percent(each)})"
    ]
    if one["units"]:
        found.append(
            f"circuit by span of {one['units']:,} units of {one['touched']:,} edges"
            f" ({one['outside']:,} of them not in the plain circuit): faithfulness"
            f" {_told(one['faithfulness'])}; plain circuit of {one['edges']:,} edges"
            f" ({one['allowed']:,} units): {_told(one['plain'])}"
        )
    reached = record["reached"]
    if reached is not None:
        found.append(
            f"faithfulness of {reached['faithfulness']:g} by span: reached by"
            f" {reached['units']:,} units of {reached['touched']:,} edges"
        )
    return found


def _percent(interval: Mapping[str, Any]) -> str:
    ends = {name: interval[name] for name in ("mean", "low", "high")}
    scaled = {name: None if value is None else 100 * value for name, value in ends.items()}
    return format_interval({**interval, **scaled}, ".0f") + " %"
