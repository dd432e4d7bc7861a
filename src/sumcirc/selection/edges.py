"""From scores of edges to scores of modules.

A module's score is the sum over the circuit's edges that it has a part in: `qkv` reads the edges
into queries, keys and values, `mlp_in` those into the MLP, `attn_out` and `mlp_out` write those out
of the heads and out of the MLP. So an edge counts where it is written and where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.graph import Graph
from sumcirc.statistics.resampling import weights


def by_module(values: NDArray[np.floating], graph: Graph) -> NDArray[np.float64]:
    """Sums over edges, [documents, sources, destinations] to [layers, modules, documents]."""
    read = values.sum(1, dtype=np.float64).T
    written = values.sum(2, dtype=np.float64).T
    found = []
    for layer in range(graph.shape.layers):
        places = (graph.query_columns(layer), graph.key_columns(layer), graph.value_columns(layer))
        found.append(
            [
                sum(read[place].sum(0) for place in places),
                written[graph.attention_sources(layer)].sum(0),
                read[graph.mlp_destination(layer)],
                written[graph.mlp_source(layer)],
            ]
        )
    return np.array(found)


def size_by_module(
    mean: NDArray[np.floating], kept: NDArray[np.bool_], graph: Graph
) -> NDArray[np.float64]:
    """Sums of |mean| over the kept edges, [sources, destinations] to [layers, modules]."""
    return by_module((np.abs(mean) * kept)[None], graph)[..., 0]


def resampled_edges(scores: NDArray[np.floating], resamples: int) -> Iterator[NDArray[np.float64]]:
    """Mean scores [sources, destinations] of one resample of the documents after the other."""
    for weight in weights(len(scores), resamples):
        yield np.tensordot(weight, scores, 1)


def along_mean(values: NDArray[np.floating], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each document's part of the |mean| of the kept edges, in the shape of `values`.

    An edge's value is taken with the sign that its mean over documents has, so that the mean over
    documents of what comes out is |mean|, and noise of changing sign cancels.
    """
    return values * np.sign(values.mean(0, dtype=np.float64)) * kept
