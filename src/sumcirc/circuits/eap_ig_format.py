"""Circuits as JSON files that EAP-IG's tools read and write.

The current format of hannamw/EAP-IG lists every node and every edge, in the circuit or not:

    {"cfg": {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"},
     "nodes": {"a0.h1": {"in_graph": true}, ...},
     "edges": {"input->a0.h1<q>": {"score": 0.1, "in_graph": true}, ...}}

The older format (Xu0615/FinetuneCircuits) has `true` or `false` for a node and no `d_model`; it can
be read as well. In both, key and value are inputs of query heads: there are no groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import circuit_nodes
from sumcirc.circuits.edge_sums import node_names
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.storage.reading.circuit_file import CircuitFile, Node, read_circuit_file
from sumcirc.storage.writing import write_json

_WHOLE_HEAD = re.compile(r".+->a\d+\.h\d+")  # an edge into a head that doesn't state which input


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edge scores of a graph, and which edges a circuit keeps.

    Attributes:
        graph: the graph of sources and destinations.
        scores: [sources, destinations] float64; 0 where there is no edge.
        kept: [sources, destinations] True at the edges of the circuit.
    """

    graph: Graph
    scores: NDArray[np.float64]
    kept: NDArray[np.bool_]


def write_circuit(path: Path, scores: NDArray[Any], kept: NDArray[np.bool_], graph: Graph) -> None:
    """Write a circuit in the current format of EAP-IG.

    The format has no key/value groups, so with grouped-query attention each edge into a group's key
    or value is written as one copy per query head of the group. Patching all copies is the same as
    patching the group's edge. Each copy gets an equal share of the edge's score, so that the
    copies' scores add up to it; selecting edges from the file again would therefore give another
    circuit. A copy of a kept edge is kept if its head is a node of the circuit, or if no head of
    the group is.

    Args:
        path: the file to write.
        scores: [sources, destinations] edge scores.
        kept: [sources, destinations] True at the edges of the circuit. Edges that `prune` would
            remove are also written, but nodes without an incoming or outgoing edge are marked as
            outside the graph, so that readers don't count such edges.
        graph: the model's graph.

    Raises:
        UserError: an edge's score isn't finite, or the file can't be written.
        ValueError: a shape differs from the graph's.
    """
    if scores.shape != graph.exists.shape or kept.shape != graph.exists.shape:
        raise ValueError(
            f"expected the graph's shape {graph.exists.shape}, got {scores.shape} and {kept.shape}"
        )
    nodes = circuit_nodes(kept, graph)
    shape = graph.shape
    whole, scores, kept = expanded(graph, np.asarray(scores, dtype=np.float64), kept, nodes)
    if not np.isfinite(scores[whole.exists]).all():
        raise UserError(
            f"{path}: a circuit with scores that are NaN or infinite can't be written;"
            " score it again in float32"
        )
    content = {
        "cfg": {
            "n_layers": shape.layers,
            "n_heads": shape.heads,
            "parallel_attn_mlp": shape.parallel,
            "d_model": shape.width,
        },
        "nodes": {
            name: {"in_graph": bool(node)}
            for name, node in zip(node_names(graph), nodes, strict=True)
        },
        "edges": {
            name: {"score": float(scores[place]), "in_graph": bool(kept[place])}
            for name, place in _listed(whole)
        },
    }
    write_json(path, content)


def read_circuit(path: Path) -> Circuit:
    """Read a circuit in EAP-IG's current or older format.

    An edge counts as kept if it and both of its nodes are marked as in the graph. The file contains
    neither the number of key/value heads nor the sizes of MLP and vocabulary: in the returned
    graph's shape, `key_value_heads` is the number of heads, and unknown sizes are 0. The edges of
    the returned graph are those of the model's `Graph(shape, expand_groups=True)`.

    Args:
        path: the file to read.

    Raises:
        UserError: the file doesn't exist, or doesn't contain a circuit in one of the two formats.
    """
    content = read_circuit_file(path)
    graph = Graph(_shape(path, content))
    listed = dict(_listed(graph))
    inside = _nodes_inside(path, content["nodes"], graph)
    scores, kept = np.zeros(graph.exists.shape), np.zeros(graph.exists.shape, dtype=bool)
    for name, edge in content["edges"].items():
        if name not in listed:
            raise _malformed(path, f"names the edge `{name[:60]}`, which such a model doesn't have")
        source, destination = name.split("->")
        scores[listed[name]] = edge["score"]
        kept[listed[name]] = edge["in_graph"] and {source, destination.split("<")[0]} <= inside
    return Circuit(graph, scores, kept)


def _listed(graph: Graph) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield names and indices of all edges, in the order in which EAP-IG creates them."""

    def edge(row: int, column: int) -> tuple[str, tuple[int, int]]:
        return f"{graph.sources[row]}->{graph.destinations[column]}", (row, column)

    for layer in range(graph.shape.layers):
        inputs = graph.query_columns(layer), graph.key_columns(layer), graph.value_columns(layer)
        for row in range(graph.attention_reads(layer)):
            for head in range(graph.shape.heads):
                yield from (edge(row, columns.start + head) for columns in inputs)
        for row in range(graph.mlp_reads(layer)):
            yield edge(row, graph.mlp_destination(layer))
    for row in range(len(graph.sources)):
        yield edge(row, len(graph.destinations) - 1)


def expanded(
    graph: Graph,
    scores: NDArray[np.float64],
    kept: NDArray[np.bool_],
    nodes: NDArray[np.bool_],
) -> tuple[Graph, NDArray[np.float64], NDArray[np.bool_]]:
    """Return a graph with key and value inputs for every query head, and matrices of its size.

    See `write_circuit` for how scores and kept edges are divided among the heads of a group.

    Args:
        graph: the model's graph, in which query heads may share keys and values.
        scores: [sources, destinations] edge scores.
        kept: [sources, destinations] True at the edges of the circuit.
        nodes: [nodes] True at the nodes of the circuit, see `circuit_nodes`.
    """
    shape = graph.shape
    if graph.key_value_destinations == shape.heads:
        return graph, scores, kept
    whole, heads = Graph(shape, expand_groups=True), np.arange(shape.heads)
    columns = np.empty(len(whole.destinations), dtype=np.intp)  # columns of the grouped graph
    share, wanted = np.ones(len(columns)), np.ones(len(columns), dtype=bool)
    columns[-1] = len(graph.destinations) - 1
    for layer in range(shape.layers):
        columns[whole.query_columns(layer)] = np.r_[graph.query_columns(layer)]
        columns[whole.mlp_destination(layer)] = graph.mlp_destination(layer)
        alive = nodes[graph.attention_sources(layer)].reshape(-1, shape.group)
        copied = (alive | ~alive.any(axis=1, keepdims=True)).ravel()
        for place, origin in (
            (whole.key_columns(layer), graph.key_columns(layer)),
            (whole.value_columns(layer), graph.value_columns(layer)),
        ):
            columns[place] = origin.start + heads // shape.group
            share[place] = 1.0 / shape.group
            wanted[place] = copied
    return whole, scores[:, columns] * share, kept[:, columns] & wanted


def _shape(path: Path, content: CircuitFile) -> Shape:
    sizes, edges = content["cfg"], content["edges"]
    layers, heads = sizes["n_layers"], sizes["n_heads"]
    parallel, width = sizes.get("parallel_attn_mlp", False), sizes.get("d_model") or 0
    if any(_WHOLE_HEAD.fullmatch(name) for name in edges):
        raise UserError(
            f"{path}: its edges don't say whether they lead to a query, key or value"
            " (collapse_qkv.py has merged them); give the file from before that"
        )
    before = [1 + layer * (heads + 1) for layer in range(min(layers, len(edges)))]
    mlp = 0 if parallel else heads
    expected = sum((3 * heads + 1) * reads + mlp for reads in before) + 1 + layers * (heads + 1)
    if len(edges) != expected:
        raise _malformed(
            path,
            f"lists {len(edges)} edges, a model of {layers} layers and {heads} heads has"
            f" {expected}; all have to be there, in the circuit or not",
        )
    return Shape(layers, heads, heads, width // heads, width, 0, 0, parallel)


def _nodes_inside(path: Path, nodes: dict[str, Node | bool], graph: Graph) -> set[str]:
    names = node_names(graph)
    if set(nodes) != set(names):
        name = sorted(set(nodes) ^ set(names))[0]
        raise _malformed(path, f"node `{name[:60]}` is missing or not one of the model's")
    inside = set()
    for name, node in nodes.items():
        flag = node["in_graph"] if isinstance(node, dict) else node
        if isinstance(node, dict) and node.get("neurons") is not None:
            raise UserError(
                f"{path}: is a circuit of neurons, which can't be read; give one of edges"
            )
        if flag:
            inside.add(name)
    return inside


def _malformed(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: is not a circuit as EAP-IG writes it: {reason}")
