"""One ranking of edges from the scores of several methods, metrics or seeds.

- `mean_rank`: the mean of the edge's ranks by |score|, where the largest has rank E, the number of
  edges. Only the order of each method's scores counts.
- `mean_share`: the mean of |score| / sum of |score| over all edges. A method whose scores are
  concentrated in few edges has more to say about these.

Source: P. Mondorf et al., BlackboxNLP-2025 MIB Shared Task: Exploring Ensemble Strategies for
Circuit Localization Methods, 2025, arXiv:2510.06811, which averages scores of methods that have one
scale. Scores of several metrics have different units, so here they are made comparable first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sumcirc.circuits.edge_sums import check_shape
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.resamples import on_edges
from sumcirc.errors import UserError

Values = NDArray[np.float64]


def mean_rank(scores: Sequence[NDArray[Any]], graph: Graph) -> Values:
    """Return the mean rank of every edge, [sources, destinations] from 1 to the number of edges.

    Equal scores have the mean of their ranks.

    Args:
        scores: for each method [sources, destinations] scores, whose size ranks edges.
        graph: the model's graph.

    Raises:
        UserError: there are fewer than two methods, or scores that are not finite or all 0.
        ValueError: the shape of scores differs from the graph's.
    """
    return on_edges(np.mean([rankdata(one) for one in _sizes(scores, graph)], axis=0), graph)


def mean_share(scores: Sequence[NDArray[Any]], graph: Graph) -> Values:
    """Return each edge's share in the sum of |score|, averaged over score arrays.

    Args:
        scores, graph: as in `mean_rank`.

    Returns:
        [sources, destinations]; zero where there is no edge.

    Raises:
        UserError, ValueError: as in `mean_rank`.
    """
    sizes = _sizes(scores, graph)
    return on_edges(np.mean([one / one.sum() for one in sizes], axis=0), graph)


def _sizes(scores: Sequence[NDArray[Any]], graph: Graph) -> list[Values]:
    """Return each method's |score| of the graph's edges, [edges]."""
    if len(scores) < 2:
        raise UserError(f"ensemble of {len(scores)}: give the scores of two methods or more")
    found = []
    for number, one in enumerate(scores):
        check_shape(one, graph)
        sizes = np.abs(np.asarray(one, dtype=np.float64)[graph.exists])
        if not np.isfinite(sizes).all() or not sizes.any():
            raise UserError(
                f"ensemble: scores {number} of {len(scores)} (from 0) are all 0, NaN or infinite;"
                " leave them out"
            )
        found.append(sizes)
    return found
