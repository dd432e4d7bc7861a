"""Selection of edges for a circuit by their scores, pruning, and sums of scores over edges.

A circuit is a bool matrix [sources, destinations]. There are three ways to select edges, as in
EAP-IG (M. Hanna et al., Have Faith in Faithfulness, 2024, arXiv:2403.17806): the n largest, those
above a threshold, and greedily from the logits. The first two leave loose ends, which `prune`
removes.

A head is one node: one kept edge into its query, key or value input counts as its incoming edge.
Under grouped-query attention an edge into a group's key or value is an incoming edge of every head
of the group, and is removed only if none of these heads remains.
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

# (scores, graph, n) -> circuit, such as `top_n` and `greedy`
Selection = Callable[[NDArray[Any], Graph, int], NDArray[np.bool_]]


def top_n(scores: NDArray[Any], graph: Graph, n: int, absolute: bool = True) -> NDArray[np.bool_]:
    """Return the `n` edges with the largest scores.

    Among edges with equal scores, those that come first in row order are selected, so that the same
    scores give the same circuit on every machine.

    Args:
        scores: [sources, destinations] edge scores, positive where the metric rises when the edge
            is corrupted; entries where there is no edge are ignored.
        graph: the model's graph.
        n: number of edges to return.
        absolute: whether to rank by |score|; otherwise edges are ranked by score, largest first.

    Returns:
        [sources, destinations] bool with `n` entries True. The selection is not pruned.

    Raises:
        UserError: `n` is negative or exceeds the number of edges, or an edge's score isn't finite.
        ValueError: the scores' shape differs from the graph's.
    """
    ranked = _ranking_values(scores, graph, absolute)[graph.exists]
    _check_size(n, graph)
    kept = np.zeros(len(ranked), dtype=bool)
    kept[np.argsort(-ranked, kind="stable")[:n]] = True
    return _on_edges(kept, graph)


def threshold(
    scores: NDArray[Any], graph: Graph, least: float, absolute: bool = True
) -> NDArray[np.bool_]:
    """Return the edges with a score of at least `least`, [sources, destinations] bool.

    Args:
        scores, graph, absolute: as in `top_n`.
        least: smallest score to keep, or smallest |score| to keep if `absolute` is true.

    Raises:
        UserError: `least` is NaN, or an edge's score isn't finite.
        ValueError: the scores' shape differs from the graph's.
    """
    if np.isnan(least):
        raise UserError(f"threshold={least}: must be a number; give the least score to keep")
    return (_ranking_values(scores, graph, absolute) >= least) & graph.exists


def greedy(scores: NDArray[Any], graph: Graph, n: int, absolute: bool = True) -> NDArray[np.bool_]:
    """Select `n` edges one by one, so that each leads to the logits through selected edges.

    At first, the edges into the logits are the candidates. In each step the candidate with the
    largest score is selected, and the edges into its source become candidates (as in Prim's
    spanning tree algorithm; scores along a path are not summed). A selected source may lack an
    incoming edge; `prune` removes such loose ends. Equal scores are handled as in `top_n`.

    Args:
        scores, graph, n, absolute: as in `top_n`.

    Returns:
        [sources, destinations] bool with `n` entries True. The selection is not pruned.

    Raises:
        UserError: for the reasons given in `top_n`.
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
    """Remove edges that don't lie on a path from the embedding to the logits.

    Nodes without an incoming or without an outgoing edge are removed together with their edges,
    until there are no such nodes. The embedding needs no incoming edge, and the logits need no
    outgoing one.

    Args:
        kept: [sources, destinations] True at the edges of a circuit; entries where the graph has no
            edge are ignored.
        graph: the model's graph.

    Returns:
        A new bool matrix [sources, destinations].
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


def matched_circuit(
    draws: NDArray[Any], kept: NDArray[np.bool_], graph: Graph
) -> NDArray[np.bool_]:
    """Return a random circuit with as many edges of each kind and layer as another circuit.

    Two edges are alike if their sources have the same kind and layer, and their destinations too.
    Of the edges that are alike, those with the largest random numbers are selected. The circuit is
    not pruned, since that would change the counts.

    Args:
        draws: [sources, destinations] a random number for each edge. With the same numbers, the
            control of a circuit is contained in that of a larger circuit that contains it.
        kept: [sources, destinations] True at the edges of the circuit to match; entries where the
            graph has no edge are ignored.
        graph: the model's graph.
    """
    _check_shape(kept, graph)
    _check_shape(draws, graph)
    groups = edge_groups(graph)[graph.exists]
    counts = np.bincount(groups[kept[graph.exists]], minlength=groups.max() + 1)
    order = np.lexsort((-draws[graph.exists], groups))
    sizes = np.bincount(groups)
    rank = np.arange(len(groups)) - (np.cumsum(sizes) - sizes)[groups[order]]
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[order] = rank < counts[groups[order]]
    return _on_edges(chosen, graph)


def edge_groups(graph: Graph) -> NDArray[np.intp]:
    """Return a number for each edge that says which edges are alike in kind and layer.

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


def circuit_nodes(kept: NDArray[np.bool_], graph: Graph) -> NDArray[np.bool_]:
    """Return which nodes have both an incoming and an outgoing edge in a circuit.

    The embedding needs no incoming edge, and the logits need no outgoing one.

    Args:
        kept: [sources, destinations] True at the edges of the circuit.
        graph: the model's graph.

    Returns:
        [nodes] bool, in the order of `node_names`. In a pruned circuit these are all nodes at the
        ends of its edges.
    """
    _check_shape(kept, graph)
    return _alive(kept & graph.exists, _readers(graph))


def node_names(graph: Graph) -> list[str]:
    """Return the names of all nodes: the sources, then `logits`.

    Args:
        graph: the model's graph.
    """
    return [*graph.sources, "logits"]


# ---- sums of |score| over edges; for a circuit passed as scores, its number of edges


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
    readers = _readers(graph).astype(np.float64)
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


def _readers(graph: Graph) -> NDArray[np.bool_]:
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


def _alive(kept: NDArray[np.bool_], readers: NDArray[np.bool_]) -> NDArray[np.bool_]:
    outgoing = np.append(kept.any(axis=1), True)
    incoming = np.any(readers & kept.any(axis=0), axis=1)
    outgoing[-1] = incoming[-1]  # without an edge into them, the logits aren't part of the circuit
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
            f"circuit size {n}: must be between 0 and the {graph.edges} edges of the graph"
        )
