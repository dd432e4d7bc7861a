"""From edge scores to a circuit: which edges are kept, what is connected, and sums over them.

A circuit is a bool matrix [sources, destinations]. Three ways to choose edges, as EAP-IG has them
(M. Hanna et al., Have Faith in Faithfulness, 2024, arXiv:2403.17806): the n largest, those above a
threshold, and greedily from the logits. The first two leave loose ends, which `prune` removes.

A head is one node: one kept edge into its query, key or value input is enough for it to have an
incoming edge. Under grouped-query attention an edge into a group's key or value is an incoming edge
of every head of the group, and goes only when none of these heads is left.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError

SOURCE_KINDS = ("embedding", "attention", "mlp")
DESTINATION_KINDS = ("query", "key", "value", "mlp", "logits")

# (scores, graph, n) -> circuit; `top_n` and `greedy` are of this kind
Selection = Callable[[NDArray[Any], Graph, int], NDArray[np.bool_]]


def top_n(scores: NDArray[Any], graph: Graph, n: int, absolute: bool = True) -> NDArray[np.bool_]:
    """Keep the n edges of largest score.

    Among equal scores the edge that comes first row by row is kept, so that the same scores give
    the same circuit on every machine.

    Args:
        scores: [sources, destinations], positive where the metric rises when the edge is corrupted;
            values where there is no edge are ignored.
        n: edges to keep, before pruning.
        absolute: rank by the size of a score, else by its value, largest first.

    Returns:
        [sources, destinations], n of them True; not pruned.

    Raises:
        UserError: n is not from 0 to the number of edges, or an edge's score isn't finite.
        ValueError: the scores' shape is not the graph's.
    """
    ranked = _ranking_values(scores, graph, absolute)[graph.exists]
    _check_size(n, graph)
    kept = np.zeros(len(ranked), dtype=bool)
    kept[np.argsort(-ranked, kind="stable")[:n]] = True
    return _on_edges(kept, graph)


def threshold(
    scores: NDArray[Any], graph: Graph, least: float, absolute: bool = True
) -> NDArray[np.bool_]:
    """Keep the edges whose score is `least` or more; arguments and errors as in `top_n`."""
    if np.isnan(least):
        raise UserError(f"threshold={least}: must be a number; give the least score to keep")
    return (_ranking_values(scores, graph, absolute) >= least) & graph.exists


def greedy(scores: NDArray[Any], graph: Graph, n: int, absolute: bool = True) -> NDArray[np.bool_]:
    """Keep n edges, each the best that leads into what is kept already; the logits are first.

    With an edge its source comes in, and so do the edges into that source as candidates (as in
    Prim's spanning tree; the score of a path is not summed). Every kept edge thus leads to the
    logits; a source may still lack an incoming edge, which `prune` sees to. Ties as in `top_n`.

    Arguments, result and errors as in `top_n`.
    """
    ranked = _ranking_values(scores, graph, absolute)
    _check_size(n, graph)
    readers = _readers(graph)
    kept = np.zeros_like(graph.exists)
    opened = np.zeros(len(graph.destinations), dtype=bool)
    reached = np.zeros(graph.nodes, dtype=bool)
    candidates: list[tuple[float, int, int]] = []

    def reach(node: int) -> None:
        reached[node] = True
        for column in np.flatnonzero(readers[node] & ~opened):
            opened[column] = True
            for row in np.flatnonzero(graph.exists[:, column]):
                heapq.heappush(candidates, (-ranked[row, column], int(row), int(column)))

    reach(graph.nodes - 1)
    for _ in range(n):
        _, row, column = heapq.heappop(candidates)
        kept[row, column] = True
        if not reached[row]:
            reach(row)
    return kept


def prune(kept: NDArray[np.bool_], graph: Graph) -> NDArray[np.bool_]:
    """Drop what doesn't lie on a way from the embedding to the logits; nothing is added.

    Nodes without an outgoing or without an incoming edge go, then the edges that have lost an end,
    until nothing changes. The embedding needs no incoming edge, the logits no outgoing one.

    Args:
        kept: [sources, destinations]; True where there is no edge is ignored.

    Returns:
        A new matrix [sources, destinations].
    """
    _check_shape(kept, graph)
    readers = _readers(graph)
    left = kept.astype(bool) & graph.exists
    while True:
        alive = _alive(left, readers)
        rest = left & alive[:-1, None] & readers[alive].any(axis=0)
        if np.array_equal(rest, left):
            return left
        left = rest


def random_circuit(draws: NDArray[Any], graph: Graph, edges: int) -> NDArray[np.bool_]:
    """The smallest pruned circuit of the largest draws that has at least `edges` edges.

    Args:
        draws: [sources, destinations] random numbers; the same draws give nested circuits.
    """
    low, high = edges, graph.edges  # pruning is monotone: more edges leave no fewer
    while low < high:
        middle = (low + high) // 2
        if prune(top_n(draws, graph, middle), graph).sum() >= edges:
            high = middle
        else:
            low = middle + 1
    return prune(top_n(draws, graph, low), graph)


def circuit_nodes(kept: NDArray[np.bool_], graph: Graph) -> NDArray[np.bool_]:
    """Say which nodes have both an incoming and an outgoing edge in a circuit.

    Returns:
        [nodes], in the order of `node_names`; of a pruned circuit these are all nodes it touches.
    """
    _check_shape(kept, graph)
    return _alive(kept & graph.exists, _readers(graph))


def node_names(graph: Graph) -> list[str]:
    """Names of all nodes: the sources, then `logits`."""
    return [*graph.sources, "logits"]


# ---- views: sums of |score| over edges; of a circuit, given as scores, the number of its edges


def by_node(scores: NDArray[Any], graph: Graph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of |score| over each node's edges.

    Args:
        scores: [sources, destinations]; mask it with a circuit to sum over its edges only.

    Returns:
        Over outgoing and over incoming edges, [nodes] each, in the order of `node_names`. An edge
        into a group's key or value counts for the group's heads in equal parts, so that each of
        both sums up to the total.
    """
    sizes = _sizes(scores, graph)
    readers = _readers(graph).astype(np.float64)
    outgoing = np.append(sizes.sum(axis=1), 0.0)
    return outgoing, (readers / readers.sum(axis=0)) @ sizes.sum(axis=0)


def by_kind(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    """Sums of |score| from each kind of source to each kind of destination.

    Returns:
        [3, 5]: rows by `SOURCE_KINDS`, columns by `DESTINATION_KINDS`.
    """
    rows = _one_hot(source_kinds(graph), len(SOURCE_KINDS))
    columns = _one_hot(destination_kinds(graph), len(DESTINATION_KINDS))
    return rows.T @ _sizes(scores, graph) @ columns


def by_layer(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    """Sums of |score| from the layer of the source to the layer of the destination.

    Returns:
        [1 + layers, layers + 1]: the first row is the embedding, the last column the logits.
    """
    layers = graph.shape.layers
    rows = _one_hot(source_layers(graph) + 1, 1 + layers)
    return rows.T @ _sizes(scores, graph) @ _one_hot(destination_layers(graph), layers + 1)


def by_module(scores: NDArray[Any], graph: Graph) -> dict[str, NDArray[np.float64]]:
    """Sums of |score| of what each layer's modules read and write, [layers] each.

    `query`, `key`, `value` and `mlp_in` are sums over edges into the layer's destinations,
    `attention_out` and `mlp_out` over edges out of its heads and its MLP. Each edge is in one sum
    of reading and one of writing (but for the embedding's and the logits').
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
    """Place in `SOURCE_KINDS` of every source, [sources]."""
    kinds = np.full(len(graph.sources), SOURCE_KINDS.index("attention"))
    kinds[0] = SOURCE_KINDS.index("embedding")
    for layer in range(graph.shape.layers):
        kinds[graph.mlp_source(layer)] = SOURCE_KINDS.index("mlp")
    return kinds


def destination_kinds(graph: Graph) -> NDArray[np.intp]:
    """Place in `DESTINATION_KINDS` of every destination, [destinations]."""
    kinds = np.full(len(graph.destinations), DESTINATION_KINDS.index("logits"))
    for layer in range(graph.shape.layers):
        kinds[graph.query_columns(layer)] = DESTINATION_KINDS.index("query")
        kinds[graph.key_columns(layer)] = DESTINATION_KINDS.index("key")
        kinds[graph.value_columns(layer)] = DESTINATION_KINDS.index("value")
        kinds[graph.mlp_destination(layer)] = DESTINATION_KINDS.index("mlp")
    return kinds


def source_layers(graph: Graph) -> NDArray[np.intp]:
    """Layer of every source, [sources]; -1 is the embedding."""
    per_layer = graph.shape.heads + 1
    return np.append(-1, np.repeat(np.arange(graph.shape.layers), per_layer))


def destination_layers(graph: Graph) -> NDArray[np.intp]:
    """Layer of every destination, [destinations]; that of the logits is the number of layers."""
    per_layer = graph.shape.heads + 2 * graph.key_value_destinations + 1
    layers = graph.shape.layers
    return np.append(np.repeat(np.arange(layers), per_layer), layers)


def _readers(graph: Graph) -> NDArray[np.bool_]:
    """Which destinations are inputs of which node, [nodes, destinations]."""
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


def _alive(kept: NDArray[np.bool_], readers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outgoing = np.append(kept.any(axis=1), True)
    incoming = np.any(readers & kept.any(axis=0), axis=1)
    outgoing[-1] = incoming[-1]  # without an edge into them, the logits are no node of the circuit
    incoming[0] = True
    return outgoing & incoming


def _on_edges(values: NDArray[np.bool_], graph: Graph) -> NDArray[np.bool_]:
    matrix = np.zeros(graph.exists.shape, dtype=bool)
    matrix[graph.exists] = values
    return matrix


def _ranking_values(scores: NDArray[Any], graph: Graph, absolute: bool) -> NDArray[np.float64]:
    _check_shape(scores, graph)
    values = np.asarray(scores, dtype=np.float64)
    missing = int((~np.isfinite(values[graph.exists])).sum())
    if missing:
        raise UserError(
            f"scores of {missing} of {graph.edges} edges are NaN or infinite;"
            " score the circuit again in float32"
        )
    return np.abs(values) if absolute else values


def _sizes(scores: NDArray[Any], graph: Graph) -> NDArray[np.float64]:
    _check_shape(scores, graph)
    return np.where(graph.exists, np.abs(np.asarray(scores, dtype=np.float64)), 0.0)


def _one_hot(places: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return (places[:, None] == np.arange(count)).astype(np.float64)


def _check_shape(matrix: NDArray[Any], graph: Graph) -> None:
    if matrix.shape != graph.exists.shape:
        raise ValueError(f"expected the graph's shape {graph.exists.shape}, got {matrix.shape}")


def _check_size(n: int, graph: Graph) -> None:
    if not 0 <= n <= graph.edges:
        raise UserError(
            f"circuit size {n}: must lie from 0 to the {graph.edges} edges of the graph"
        )
