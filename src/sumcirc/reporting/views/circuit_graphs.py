"""Views of one circuit: its edges layer by layer, a map of node scores, a table of edges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Map, NodeGraph, NotDrawableError, Table, View, places
from sumcirc.reporting.measured import step_name
from sumcirc.storage.reading import RecordError
from sumcirc.storage.reading.circuit_file import CircuitFile

MOST_EDGES = 150  # that are readable in a figure
MOST_ON_PAGE = 200  # more would make the page large
LISTED = 20
INPUTS = {"q": "query", "k": "key", "v": "value"}
_DESTINATION = re.compile(r"(a\d+)\.([hg])(\d+)<([qkv])>|(m\d+|logits)")


def graph(
    edges: Iterable[tuple[str, str, float]],
    sizes: tuple[int, int],
    title: str = "",
    unit: str = "",
    group: int = 1,
    size: int | None = None,
) -> View:
    """Return a drawing of a circuit, layer by layer from the embedding to the logits.

    Args:
        edges: source (`input`, `a0.h1`, `m2`), destination (`a3.h1<q>`, `m3`, `logits`) and score
            of each edge. A drawing of 50 to 200 edges is readable.
        sizes: number of layers of the model, and number of heads in each layer.
        title: title of the circuit, such as `step 200`.
        unit: unit of the scores, such as `nats`.
        group: number of query heads that share a key/value head. An edge into a group's key
            (`a3.g0<k>`) is drawn to each of the group's heads in the circuit, and its score is
            divided among them.
        size: number of edges in the whole circuit, of which `edges` may contain only those with the
            largest |score|; None if `edges` contains all.

    Raises:
        NotDrawableError: there is no edge, or an edge names a node that the model doesn't have.
    """
    listed = [(source, end, float(score)) for source, end, score in edges]
    if not listed:
        raise NotDrawableError("the circuit has no edges to draw; choose a larger size")
    known, inside = places(*sizes), {source for source, _, _ in listed}
    drawn = []
    for source, destination, score in sorted(listed, key=lambda edge: -abs(edge[2])):
        found = _DESTINATION.fullmatch(destination)
        ends = _ends(found, group, inside) if found else [""]
        if source not in known or not {*ends} <= known.keys():
            raise NotDrawableError(
                f"circuit: there is no edge {source}->{destination} in a model of this size"
            )
        into = (found and found[4]) or ""
        drawn += [(source, end, into, score / len(ends)) for end in ends]
    size = len(listed) if size is None else size
    nodes = len({node for source, end, _, _ in drawn for node in (source, end)})
    counted = f"{size} edge{'s' * (size != 1)}, {nodes} nodes"
    source, end, _, score = drawn[0]
    cut = f" The {len(listed)} largest are drawn." if size > len(listed) else ""
    return View(
        "The circuit, layer by layer",
        [[NodeGraph(drawn, *sizes, size, unit, title)]],
        "Information flows upward, from the embedding to the logits. Circles at the sides are"
        " heads, those in the middle MLPs, dots are nodes outside the circuit. Orange edges:"
        " corrupting them raises the metric (a loss); blue: it lowers it; wider: by more. The"
        " threshold hides edges of smaller |score|. Point at the middle of an edge for its"
        f" score.{cut}",
        f"Drawing of {size} edges at {title}; the largest goes from {source} to {end}, score"
        f" {score:.3g}. The table lists the largest.",
        heading=f"{title}: {counted}" if title else counted,
        columns=("source", "destination", "score"),
        rows=listed,
    )


def _ends(found: re.Match[str], group: int, inside: set[str]) -> list[str]:
    """Return the names of the nodes at which an edge ends.

    For a group of heads these are its heads that are `inside` the circuit, or all if none is.
    """
    if found[5]:
        return [found[5]]
    first = int(found[3])
    if found[2] == "h":
        return [f"{found[1]}.h{first}"]
    members = [f"{found[1]}.h{first * group + i}" for i in range(group)]
    return [head for head in members if head in inside] or members


def graph_of_file(file: Path, content: CircuitFile) -> View | None:
    """Return a drawing of the circuit in a circuit file, with the edges of the largest |score|.

    The result is None if the circuit has no edges.

    Args:
        file: path of the file, which gives the drawing's title.
        content: the content of the file.

    Raises:
        RecordError: an edge names a node that the model doesn't have.
    """
    kept = [(name, edge["score"]) for name, edge in content["edges"].items() if edge["in_graph"]]
    if not kept:
        return None
    kept = sorted(kept, key=lambda edge: -abs(edge[1]))
    step, sizes = file.stem.removeprefix("step-"), content["cfg"]
    name = step_name(int(step)) if step.isdigit() else "circuit"
    edges = []
    for edge, score in kept[:MOST_ON_PAGE]:
        source, arrow, end = edge.partition("->")
        if not arrow or ".g" in end:
            raise RecordError(file, "is no edge of the model; find the circuit again", edge[:60])
        edges.append((source, end, score))
    try:
        return graph(edges, (sizes["n_layers"], sizes["n_heads"]), name, size=len(kept))
    except NotDrawableError as error:
        place = str(error).split("no edge ")[-1].split(" in a model")[0][:60]
        reason = "is no edge of the model; find the circuit again"
        raise RecordError(file, reason, place) from None


def edge_table(one: NodeGraph, listed: int = LISTED) -> Table:
    """Return a table of a circuit's edges with the largest |score|.

    Args:
        one: the circuit.
        listed: largest number of edges in the table.
    """
    return Table(
        f"the {min(listed, len(one.edges))} largest of {one.size} edges, {one.title}",
        ["source", "destination", "input", "score"],
        [[source, end, into or "-", f"{score:+.4g}"] for source, end, into, score in one.edges][
            :listed
        ],
        frozenset({"destination", "input"}),
    )


def node_scores(
    heads: NDArray[np.float64],
    label: str,
    unit: str = "",
    mlps: Sequence[float] | NDArray[np.float64] | None = None,
) -> View:
    """Return a map of node scores by layer and head, with the MLPs in a separate column.

    If no score is negative, colours show the square root of the score, since the scores of a few
    nodes far exceed those of the others. Otherwise the colour scale is linear, and 0 is white.

    Args:
        heads: [layers, heads] scores of the heads; NaN is drawn grey.
        label, unit: name and unit of the scores.
        mlps: [layers] scores of the MLPs; None leaves out the column of MLPs.

    Raises:
        NotDrawableError: no score is finite.
    """
    panel = with_mlps(np.asarray(heads, float), mlps, label, unit)
    if not np.isfinite(panel.values).any():
        raise NotDrawableError("node scores: none is finite; score the circuit again")
    layer, column = panel.peak
    node = f"m{layer}" if column == heads.shape[1] else f"a{layer}.h{column}"
    return View(
        "Node scores",
        [[panel]],
        alt=f"Map of layer by head; the largest score is {panel.values[panel.peak]:.3g} of {node}.",
        columns=("node", "layer", "head", "score"),
        rows=node_rows(panel, heads.shape[1]),
    )


def with_mlps(
    heads: NDArray[np.float64],
    mlps: Sequence[float] | NDArray[np.float64] | None,
    label: str,
    unit: str = "",
    marked: NDArray[np.bool_] | None = None,
    signed: bool | None = None,
) -> Map:
    """Return a map of values by layer and head, with the MLPs, if given, in the last column.

    Args:
        heads: [layers, heads] values of the heads; NaN is drawn grey.
        mlps: [layers] values of the MLPs; None leaves out the column of MLPs.
        label, unit: name and unit of the values.
        marked: [layers, columns] True for cells that get a dot; None for no dots.
        signed: whether 0 is the middle of the colour scale; None if it is the middle only if a
            value is negative.
    """
    values, count = heads, heads.shape[1]
    columns = [str(head) for head in range(count)]
    if mlps is not None:
        values, columns = np.column_stack([heads, np.asarray(mlps, float)]), [*columns, "MLP"]
    negative = bool((values[np.isfinite(values)] < 0).any()) if signed is None else signed
    parted = mlps is not None
    return Map(
        values, label, unit, negative, marked, columns=columns, parted=parted, rooted=not negative
    )


def node_rows(panel: Map, heads: int) -> list[tuple[object, ...]]:
    """Return the cells of a map as rows of a table: node, layer, head and value.

    If the map has marks, each row also contains whether its cell is marked.

    Args:
        panel: the map.
        heads: number of columns that belong to heads; the column after them belongs to the MLPs.
    """
    found = []
    for (layer, column), value in np.ndenumerate(panel.values):
        mlp = column == heads
        place = (f"m{layer}", layer, "") if mlp else (f"a{layer}.h{column}", layer, column)
        mark = () if panel.marked is None else (panel.marked[layer, column],)
        found.append((*place, value, *mark))
    return found
