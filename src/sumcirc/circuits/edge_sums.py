"""Sums of scores over the edges of a node, kind, layer or module; where edges begin and end.

A head is one node: an edge into its query, key or value input is an edge into the head. Under
grouped-query attention an edge into a group's key or value is an edge into every head of the group.
For a circuit passed as scores, a sum is its number of edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.graph import Graph

SOURCE_KINDS = ("embedding", "attention", "mlp")
DESTINATION_KINDS = ("query", "key", "value", "mlp", "logits")


def node_names(graph: Graph) -> list[str]:
    """Return the names of all nodes: the sources, then `logits`.

    Args:
        graph: the model's graph.
    """
    return [*graph.sources, "logits"]


def by_node(scores: NDArray[Any], graph: Graph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum |score| over the outgoing and over the incoming edges of each node.

    Args:
        scores: [sources, destinations]; edge scores; set those outside a circuit to 0 to sum over
            the circuit only.
        graph: the model's graph.

    Returns:
        The sums over outgoing and over incoming edges, two arrays [nodes] in the order of
        `node_names`. The score of an edge into the key or value of a key/value group is divided
        equally among the heads of the group, so that each array adds up to the sum over all edges.
    """
    sizes = _sizes(scores, graph)
    readers = readers_of(graph).astype(np.float64)
    outgoing = np.append(sizes.sum(axis=1), 0.0)
    return outgoing, (readers / readers.sum(axis=0)) @ sizes.sum(axis=0)


def by_kind(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    """Sum |score| by the kinds of source and destination.

    Args:
        scores: [sources, destinations] edge scores.
        graph: the model's graph.

    Returns:
        [3, 5] sums, where rows are the `SOURCE_KINDS` and columns the `DESTINATION_KINDS`.
    """
    rows = _one_hot(source_kinds(graph), len(SOURCE_KINDS))
    columns = _one_hot(destination_kinds(graph), len(DESTINATION_KINDS))
    return rows.T @ _sizes(scores, graph) @ columns


def by_layer(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    """Sum |score| by the layers of source and destination.

    Args:
        scores: [sources, destinations] edge scores.
        graph: the model's graph.

    Returns:
        [1 + layers, layers + 1] sums by layer of the source (rows, the embedding first) and of the
        destination (columns, the logits last).
    """
    layers = graph.shape.layers
    rows = _one_hot(source_layers(graph) + 1, 1 + layers)
    return rows.T @ _sizes(scores, graph) @ _one_hot(destination_layers(graph), layers + 1)


def by_module(scores: NDArray[Any], graph: Graph) -> dict[str, NDArray[np.float64]]:
    """Sum |score| over the edges into and out of the modules of each layer.

    `query`, `key`, `value` and `mlp_in` are sums over the edges into these inputs of a layer;
    `attention_out` and `mlp_out` are sums over the edges out of the layer's heads and out of its
    MLP. Every edge is counted once as incoming and once as outgoing, except that edges into the
    logits are not counted as incoming, and edges out of the embedding are not counted as outgoing.

    Args:
        scores: [sources, destinations] edge scores.
        graph: the model's graph.

    Returns:
        For each name above, an array [layers].
    """
    sizes = _sizes(scores, graph)
    read, written = sizes.sum(axis=0), sizes.sum(axis=1)
    layers = range(graph.shape.layers)
    places: dict[str, tuple[NDArray[np.float64], Callable[[int], slice | int]]] = {
        "query": (read, graph.query_columns),
        "key": (read, graph.key_columns),
        "value": (read, graph.value_columns),
        "mlp_in": (read, graph.mlp_destination),
        "attention_out": (written, graph.attention_sources),
        "mlp_out": (written, graph.mlp_source),
    }
    return {
        name: np.array([sums[place(layer)].sum() for layer in layers], dtype=np.float64)
        for name, (sums, place) in places.items()
    }


def source_kinds(graph: Graph) -> NDArray[np.intp]:
    """Return the kind of every source as an index into `SOURCE_KINDS`, [sources].

    Args:
        graph: the model's graph.
    """
    kinds = np.full(len(graph.sources), SOURCE_KINDS.index("attention"))
    kinds[0] = SOURCE_KINDS.index("embedding")
    for layer in range(graph.shape.layers):
        kinds[graph.mlp_source(layer)] = SOURCE_KINDS.index("mlp")
    return kinds


def destination_kinds(graph: Graph) -> NDArray[np.intp]:
    """Return the kind of every destination as an index into `DESTINATION_KINDS`, [destinations].

    Args:
        graph: the model's graph.
    """
    kinds = np.full(len(graph.destinations), DESTINATION_KINDS.index("logits"))
    for layer in range(graph.shape.layers):
        kinds[graph.query_columns(layer)] = DESTINATION_KINDS.index("query")
        kinds[graph.key_columns(layer)] = DESTINATION_KINDS.index("key")
        kinds[graph.value_columns(layer)] = DESTINATION_KINDS.index("value")
        kinds[graph.mlp_destination(layer)] = DESTINATION_KINDS.index("mlp")
    return kinds


def source_layers(graph: Graph) -> NDArray[np.intp]:
    """Return the layer index of every source, [sources]; -1 for the embedding.

    Args:
        graph: the model's graph.
    """
    per_layer = graph.shape.heads + 1
    return np.append(-1, np.repeat(np.arange(graph.shape.layers), per_layer))


def destination_layers(graph: Graph) -> NDArray[np.intp]:
    """Return the layer index of every destination, [destinations].

    For the logits it is the number of layers.

    Args:
        graph: the model's graph.
    """
    per_layer = graph.shape.heads + 2 * graph.key_value_destinations + 1
    layers = graph.shape.layers
    return np.append(np.repeat(np.arange(layers), per_layer), layers)


def edge_groups(graph: Graph) -> NDArray[np.intp]:
    """Number the edges so that edges of the same kinds and layers have the same number.

    Args:
        graph: the model's graph.

    Returns:
        [sources, destinations]; equal where the kinds and layers of the sources are equal, and
        those of the destinations.
    """
    rows = (source_layers(graph) + 1) * len(SOURCE_KINDS) + source_kinds(graph)
    kinds = len(DESTINATION_KINDS)
    columns = destination_layers(graph) * kinds + destination_kinds(graph)
    return rows[:, None] * ((graph.shape.layers + 1) * kinds) + columns


def readers_of(graph: Graph) -> NDArray[np.bool_]:
    """Return which destinations are inputs of which node, [nodes, destinations]."""
    readers = np.zeros((graph.nodes, len(graph.destinations)), dtype=bool)
    heads, groups = graph.shape.heads, graph.key_value_destinations
    for layer in range(graph.shape.layers):
        first = graph.attention_sources(layer).start
        for head in range(heads):
            group = head * groups // heads
            readers[first + head, graph.query_columns(layer).start + head] = True
            readers[first + head, graph.key_columns(layer).start + group] = True
            readers[first + head, graph.value_columns(layer).start + group] = True
        readers[graph.mlp_source(layer), graph.mlp_destination(layer)] = True
    readers[-1, -1] = True
    return readers


def check_shape(matrix: NDArray[Any], graph: Graph) -> None:
    """Raise ValueError unless a matrix has the shape [sources, destinations] of the graph."""
    if matrix.shape != graph.exists.shape:
        raise ValueError(f"expected the graph's shape {graph.exists.shape}, got {matrix.shape}")


def _sizes(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    check_shape(scores, graph)
    return np.where(graph.exists, np.abs(np.asarray(scores, dtype=np.float64)), 0.0)


def _one_hot(places: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return (places[:, None] == np.arange(count)).astype(np.float64)
