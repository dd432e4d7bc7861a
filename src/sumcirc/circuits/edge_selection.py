"""Selection of edges for a circuit by their scores or at random, and pruning.

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

from sumcirc.circuits.edge_sums import check_shape, edge_groups, readers_of
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError

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
    readers = readers_of(graph)
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
    check_shape(kept, graph)
    readers = readers_of(graph)
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
    check_shape(kept, graph)
    check_shape(draws, graph)
    groups = edge_groups(graph)[graph.exists]
    counts = np.bincount(groups[kept[graph.exists]], minlength=groups.max() + 1)
    order = np.lexsort((-draws[graph.exists], groups))
    sizes = np.bincount(groups)
    rank = np.arange(len(groups)) - (np.cumsum(sizes) - sizes)[groups[order]]
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[order] = rank < counts[groups[order]]
    return _on_edges(chosen, graph)


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
    check_shape(kept, graph)
    return _alive(kept & graph.exists, readers_of(graph))


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
    check_shape(scores, graph)
    values = np.asarray(scores, dtype=np.float64)
    missing = int((~np.isfinite(values[graph.exists])).sum())
    if missing:
        raise UserError(
            f"scores of {missing} of {graph.edges} edges are NaN or infinite;"
            " score the circuit again in float32"
        )
    return np.abs(values) if absolute else values


def _check_size(n: int, graph: Graph) -> None:
    if not 0 <= n <= graph.edges:
        raise UserError(
            f"circuit size {n}: must be between 0 and the {graph.edges} edges of the graph"
        )
