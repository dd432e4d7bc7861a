"""Resamples of the documents, from which edges' mean scores are computed again.

Used by `circuits.stability`, `circuits.evolution` and `circuits.sign_filter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError

CHUNK = 1 << 21  # float64 values held at once: 16 MB

Values = NDArray[np.float64]


def edge_scores(scores: NDArray[Any], graph: Graph) -> NDArray[Any]:
    """Return the scores of the graph's edges as [documents, edges], row by row of the matrix.

    Args:
        scores: [documents, sources, destinations] scores, whose dtype is kept.
        graph: the model's graph.

    Raises:
        UserError: there are fewer than 2 documents, or an edge's score isn't finite.
        ValueError: the shape is not [documents, sources, destinations].
    """
    if scores.ndim != 3 or scores.shape[1:] != graph.exists.shape:
        raise ValueError(
            f"expected [documents, {graph.exists.shape[0]}, {graph.exists.shape[1]}],"
            f" got {list(scores.shape)}"
        )
    if len(scores) < 2:
        raise UserError(
            f"{len(scores)} document{'s' * (len(scores) != 1)} can't be resampled:"
            " score the circuit on 2 or more"
        )
    edges = scores[:, graph.exists]
    bad = [i for i, row in enumerate(edges) if not np.isfinite(row).all()]
    if bad:
        raise UserError(
            f"edge scores of document {bad[0]} (of {len(edges)}, from 0) are NaN or infinite:"
            " score the circuit again in float32"
        )
    return edges


def resampled_means(
    edges: NDArray[Any], resamples: int, seed: int, weights: Values | None = None
) -> Iterator[tuple[Values, Values]]:
    """Yield, for each resample of the documents, the mean score of every edge, and the weights.

    The drawn documents depend only on `seed`, the number of documents and their weights, so
    checkpoints scored on the same documents can be compared resample by resample.

    Args:
        edges: [documents, edges] scores.
        resamples: number of resamples.
        seed: seed of the draws.
        weights: [documents] probability of drawing each document, such as the weights of a resample
            that is itself resampled; None for equal ones.

    Yields:
        [edges] means, and [documents] share of each document in the resample.
    """
    documents, count = edges.shape
    rng = np.random.default_rng(seed)
    chances = np.full(documents, 1 / documents) if weights is None else weights
    drawn = rng.multinomial(documents, chances, resamples) / documents
    block = max(1, CHUNK // 2 // count)
    part = max(1, CHUNK // 2 // documents)
    for first in range(0, resamples, block):
        some = drawn[first : first + block]
        means = np.empty((len(some), count))
        for begin in range(0, count, part):
            piece = slice(begin, begin + part)
            means[:, piece] = some @ edges[:, piece].astype(np.float64)
        yield from zip(means, some, strict=True)


def on_edges(values: NDArray[Any], graph: Graph) -> Values:
    """Return a matrix [sources, destinations] with values at the graph's edges, 0 elsewhere.

    Args:
        values: [edges] a value for each edge, row by row of the matrix.
        graph: the model's graph.
    """
    matrix = np.zeros(graph.exists.shape)
    matrix[graph.exists] = values
    return matrix
