"""Views of the scores by which layers or modules were chosen for adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Bar, Bars, Map, Table, View

COLUMNS = ("layer", "module", "score", "low", "high", "frequency", "chosen")
CHOSEN, OTHER = "gets an adapter", "does not"


def ranking(record: Mapping[str, Any]) -> View:
    """Return a view of a selector's scores: bars by layer, or a map of layers by modules.

    Args:
        record: the content of ranking.json.
    """
    rows = sorted(record["ranking"], key=lambda row: row["layer"])
    panel = _map(record) if any(row["module"] for row in rows) else _bars(record, rows)
    heading = f"{record['selector']}: {record['reason']}"
    if record["size"]:
        heading += f"\n{record['size']} {record['samples']}"
    if any(row["low"] is not None for row in rows) and record["granularity"] == "layer":
        heading += ", 95 % bootstrap intervals"
    return View(
        "Selection scores",
        [[panel]],
        heading=heading,
        columns=COLUMNS,
        rows=[["" if row[name] is None else row[name] for name in COLUMNS] for row in rows],
    )


def _label(record: Mapping[str, Any]) -> str:
    return f"score ({record['unit']})" if record["unit"] else "score"


def _bars(record: Mapping[str, Any], rows: list[dict[str, Any]]) -> Bars:
    """Return one bar for each layer, with layer 0 at the bottom as in drawings of circuits."""
    bars = []
    for row in reversed(rows):
        ends = (np.nan, np.nan) if row["low"] is None else (row["low"], row["high"])
        series = CHOSEN if row["chosen"] else OTHER
        bars.append(Bar(str(row["layer"]), row["score"], *ends, series))
    return Bars(_label(record), bars, "layer", points=False, zero=True)


def _map(record: Mapping[str, Any]) -> Map:
    """Return a map of scores by layer and module, with a frame around each chosen cell."""
    modules = record["modules"]
    shape = 1 + max(row["layer"] for row in record["ranking"]), len(modules)
    values, framed = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for row in record["ranking"]:
        place = row["layer"], modules.index(row["module"])
        values[place], framed[place] = row["score"], row["chosen"]
    x = f"module (framed: {CHOSEN})"
    return Map(values, "score", record["unit"], framed=framed, columns=modules, x=x)


def ranking_table(record: Mapping[str, Any]) -> Table:
    """Return a selector's scores as a table, in the order of the ranking.

    Args:
        record: the content of ranking.json.
    """
    by_module = record["granularity"] == "module"
    sure = any(one["low"] is not None for one in record["ranking"])
    headings = ["layer", *(["module"] if by_module else []), _label(record)]
    headings += ["95 % interval", "chosen again"] if sure else []
    rows = []
    for one in record["ranking"]:
        cells = [str(one["layer"]), *([one["module"]] if by_module else [])]
        cells.append(f"{one['score']:.4g}")
        if sure:
            cells.append(f"[{one['low']:.4g}, {one['high']:.4g}]")
            cells.append(f"{100 * (one['frequency'] or 0):.0f} %")
        rows.append([*cells, "yes" if one["chosen"] else ""])
    title = f"selector={record['selector']}: {record['reason']}"
    return Table(title, [*headings, "adapter"], rows, frozenset({"module", "adapter"}))
