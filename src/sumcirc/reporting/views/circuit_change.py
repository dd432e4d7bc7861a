"""Views of how the circuits of two models differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Map, NotDrawableError, Table, View

LISTED = 10  # rows of the printed tables of edges
PANELS = ("gained, by layer", "lost, by layer", "gained, by kind", "lost, by kind")
COUNTS = {"before": "before", "after": "after", "shared": "in both"}
DIFFERS = {True: "yes", False: "no", None: "-"}


def change(record: Mapping[str, Any]) -> View:
    """Return maps of the edges that one of two circuits gained and lost, by layer and by kind.

    Args:
        record: the content of comparison.json.

    Raises:
        NotDrawableError: the circuits are equal.
    """
    if not (np.any(record["added_by_layer"]) or np.any(record["removed_by_layer"])):
        raise NotDrawableError("the two circuits have the same edges")
    panels = [
        [
            _map(record, by, title, which)
            for title, which in (("gained", "added"), ("lost", "removed"))
        ]
        for by in ("layer", "kind")
    ]
    before, after, edges = record["before"], record["after"], record["edges"]
    note = None
    if record["noise_by_layer"] is not None:
        note = "dot: more edges changed than in 95 % of resamples of the documents"
    return View(
        "Edges gained and lost",
        panels,
        f"Edges that only the circuit of {after} has (gained), and edges that only that of"
        f" {before} has (lost), by source and destination. A dot marks more change than 95 % of"
        " resamples of the documents show with nothing changed; of many cells 5 % have one by"
        " chance.",
        f"Maps of {edges['after'] - edges['shared']} edges gained and"
        f" {edges['before'] - edges['shared']} lost.",
        heading=f"{before} to {after}",
        note=note or "",
        columns=("by", "source", "destination", "gained", "lost", "noise"),
        rows=[row for by in ("layer", "kind") for row in _rows(record, by)],
    )


def change_tables(record: Mapping[str, Any]) -> list[Table]:
    """Return tables of the overlap of two circuits, and of the edges gained and lost.

    Args:
        record: the content of comparison.json.
    """
    sets = record["edges"], record["nodes"]
    rows = [
        *([words, *(str(one[key]) for one in sets)] for key, words in COUNTS.items()),
        ["Jaccard index", *(_shown(one["jaccard"]) for one in sets)],
        ["by chance", *(_shown(one["chance"]) for one in sets)],
        ["in 95 % of resamples", *(_bounds(one) for one in sets)],
        ["between two resamples of one model", *(_shown(one["within"]) for one in sets)],
        ["differ beyond noise", *(DIFFERS[one["differs"]] for one in sets)],
    ]
    title = f"circuits of {record['before']} (before) and {record['after']} (after)"
    tables = [Table(title, ["", "edges", "nodes"], rows)]
    for key, words in (("gained", "gained: only after"), ("lost", "lost: only before")):
        listed = [
            [f"{e['source']} -> {e['destination']}", f"{e['before']:.4g}", f"{e['after']:.4g}"]
            for e in record[key][:LISTED]
        ]
        if listed:
            tables.append(Table(f"edges {words}", ["edge", "score before", "score after"], listed))
    return tables


def change_said(record: Mapping[str, Any]) -> str:
    """Return a sentence that says how far two circuits overlap, and whether they differ."""
    edges = record["edges"]
    words = (
        f"The circuits of {record['before']} and {record['after']} share {edges['shared']} edges of"
        f" {edges['before']} and {edges['after']}: Jaccard index {_shown(edges['jaccard'])},"
        f" {_shown(edges['chance'])} by chance."
    )
    if edges["differs"] is None:
        return words
    ending = "more than" if edges["differs"] else "no more than"
    return f"{words} They differ by {ending} two resamples of the documents do."


def _map(record: Mapping[str, Any], by: str, title: str, which: str) -> Map:
    values, noise = _array(record, f"{which}_by_{by}"), record[f"noise_by_{by}"]
    counts = [_array(record, f"{one}_by_{by}") for one in ("added", "removed")]
    marked = None if noise is None else (sum(counts) > np.asarray(noise, float)) & (values > 0)
    rows, columns = _axes(record, by)
    return Map(
        np.where(values > 0, values, np.nan),
        "edges",
        marked=marked,
        rows=rows,
        columns=columns,
        x=f"{by} of the destination",
        y=f"{by} of the source",
        limit=max(float(count.max()) for count in counts),
        title=title,
    )


def _axes(record: Mapping[str, Any], by: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the rows (sources) and of the columns (destinations) of a map."""
    if by == "kind":
        return record["source_kinds"], record["destination_kinds"]
    layers = [str(layer) for layer in range(len(record["added_by_layer"]) - 1)]
    return ["embedding", *layers], [*layers, "logits"]


def _rows(record: Mapping[str, Any], by: str) -> list[tuple[Any, ...]]:
    added, removed = (_array(record, f"{one}_by_{by}") for one in ("added", "removed"))
    noise, (sources, destinations) = record[f"noise_by_{by}"], _axes(record, by)
    return [
        (by, source, destination, added[i, j], removed[i, j], noise[i][j] if noise else math.nan)
        for i, source in enumerate(sources)
        for j, destination in enumerate(destinations)
        if added[i, j] or removed[i, j]
    ]


def _array(record: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    return np.asarray(record[key], dtype=np.float64)


def _bounds(one: Mapping[str, Any]) -> str:
    ends = [_shown(one[end]) for end in ("low", "high")]
    return "-" if "-" in ends else " to ".join(ends)


def _shown(value: float | None) -> str:
    return f"{value:.2f}" if value is not None and math.isfinite(value) else "-"
