"""Filter of edges whose mean score keeps its sign when the pairs are resampled.

From n documents draw n with replacement and average their scores; repeat B times. An edge is a
candidate if in at least a given share of the resamples its mean score has the sign of its mean
score over all documents, which isn't 0. Candidates rank before all other edges, and both are ranked
by |mean score|. So a circuit has an edge without a sure sign only where there are fewer candidates
than the circuit's size.

Source: Y. Nikankin et al., BlackboxNLP-2025 MIB Shared Task: Improving Circuit Faithfulness via
Better Edge Selection, 2025, arXiv:2510.25786, which keeps edges with consistent scores over
bootstrap samples. The share of signs is our reading of its abstract. Its public code takes a normal
confidence interval of the mean over B resamples instead, whose standard error shrinks with B, and
also appends the other edges after the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import aggregated
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.resamples import edge_scores, on_edges, resampled_means
from sumcirc.errors import UserError
from sumcirc.schema import CircuitOptions

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SignFilter:
    """The filter's settings.

    Attributes:
        least: share of the resamples in which a candidate keeps its sign, above 0.5 and up to 1.
        resamples: number of resamples.
        seed: seed of the resamples.
    """

    least: float
    resamples: int = 200
    seed: int = 0

    def candidates(
        self, edges: NDArray[Any], weights: Values | None = None
    ) -> tuple[NDArray[np.bool_], Values]:
        """Return which edges pass the filter, and the mean score of every edge, both [edges].

        Args:
            edges: [documents, edges] scores.
            weights: [documents] share of each document, which add up to 1; None for equal ones. A
                resample's candidates are those of its own resamples.
        """
        count = len(edges)
        shares = np.full(count, 1 / count) if weights is None else weights
        mean = shares @ edges.astype(np.float64)
        signs, same = np.sign(mean), np.zeros(edges.shape[1], dtype=np.int64)
        for drawn, _ in resampled_means(edges, self.resamples, self.seed, weights):
            same += np.sign(drawn) == signs
        least = self.least * self.resamples - 1e-9  # a product may exceed the count by rounding
        return (same >= least) & (signs != 0), mean

    def ranks(self, edges: NDArray[Any], weights: Values | None = None) -> Values:
        """Return values by which edges are ranked, [edges] from 1 (last) to the number of edges.

        Candidates come first. Among edges of equal score the first ones come first.

        Args:
            edges, weights: as in `candidates`.
        """
        kept, mean = self.candidates(edges, weights)
        ranks = np.empty(len(mean))
        ranks[np.lexsort((-np.abs(mean), ~kept))] = np.arange(len(mean), 0, -1)
        return ranks


def sign_filter_of(options: CircuitOptions) -> SignFilter | None:
    """Return the filter that the settings ask for; None without `circuit.sign_filter`.

    Args:
        options: the settings.
    """
    if options.sign_filter is None:
        return None
    return SignFilter(options.sign_filter, options.resamples)


def ranking_scores(scores: NDArray[Any], graph: Graph, options: CircuitOptions) -> Values:
    """Return the values by whose size edges are selected and ranked, [sources, destinations].

    These are the aggregated scores, or the ranks of `SignFilter.ranks`.

    Args:
        scores: [documents, sources, destinations] edge scores.
        graph: the model's graph.
        options: how scores are aggregated and filtered.

    Raises:
        UserError: there is a filter and a single document.
    """
    found = sign_filter_of(options)
    if found is None:
        return aggregated(scores, options.aggregation)
    if len(scores) < 2:
        raise UserError(
            f"circuit.sign_filter={found.least:g}: one pair can't be resampled; use more pairs"
            " (circuit.documents), or leave circuit.sign_filter out"
        )
    return on_edges(found.ranks(edge_scores(scores, graph)), graph)


def candidate_count(scores: NDArray[Any], graph: Graph, options: CircuitOptions) -> int | None:
    """Return how many edges keep their sign in enough resamples; None without the filter.

    Args:
        scores, graph, options: as in `ranking_scores`.
    """
    found = sign_filter_of(options)
    if found is None:
        return None
    return int(found.candidates(edge_scores(scores, graph))[0].sum())
