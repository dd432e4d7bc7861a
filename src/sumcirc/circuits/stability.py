"""Stability of a circuit over documents, by the bootstrap.

From n documents draw n with replacement, average their edge scores, select the circuit; repeat B
times. The difference of two resamples' means has about the variance of the difference between two
fresh samples of n documents, so two resamples' circuits overlap about as much as those of two
experiments (slightly more where scores are mostly noise). Source: B. Efron and R. Tibshirani, An
Introduction to the Bootstrap (1993), chapter 6; for circuits, selection frequency after N.
Meinshausen and P. Buehlmann, Stability selection (2010).

Overlap of two edge sets is given as Jaccard index |A and B| / |A or B|, with its value by chance:
two random sets of a fraction p of all edges have about p^2 / (2p - p^2) = p / (2 - p). It is NaN
for two empty sets; the value by chance is NaN for sets that can't differ, because both are empty or
contain all edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import Selection, prune, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.resamples import CHUNK, edge_scores, on_edges, resampled_means
from sumcirc.circuits.sign_filter import SignFilter
from sumcirc.statistics import MIN_DOCUMENTS, Interval, bootstrap_means, mean_over
from sumcirc.statistics.ranks import standard_ranks


@dataclass(frozen=True, eq=False)
class Stability:
    """Stability of edge scores and of the selected circuit over resamples of the documents.

    Attributes:
        size: number of edges selected, before pruning.
        mean, low, high: [sources, destinations] mean score of each edge over documents, and the
            ends of its interval; 0 where there is no edge.
        same_sign: [sources, destinations] fraction of resamples in which an edge's score has the
            sign of its mean.
        circuit: [sources, destinations] True at the edges selected by the scores of all documents.
        frequency: [sources, destinations] fraction of resamples whose circuit has the edge.
        jaccard: Jaccard index between the circuits of two resamples. `mean` is over all pairs of
            resamples; a fraction `confidence` of the pairs lies between `low` and `high`. NaN where
            all circuits are empty, or `size` is the number of all edges.
        chance: mean Jaccard index to expect by chance for circuits of these sizes; NaN where the
            circuits can't differ.
        spearman: rank correlation of all signed edge scores between consecutive resamples, with
            mean and bounds as in `jaccard`.
    """

    size: int
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    same_sign: NDArray[np.float64]
    circuit: NDArray[np.bool_]
    frequency: NDArray[np.float64]
    jaccard: Interval
    chance: float
    spearman: Interval


def stability(
    scores: NDArray[Any],
    graph: Graph,
    size: int,
    select: Selection = top_n,
    pruned: bool = True,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    sign_filter: SignFilter | None = None,
) -> Stability:
    """Measure how stable edge scores and the selected circuit are over resamples of the documents.

    Resamples are processed in blocks of a few tens of megabytes.

    Args:
        scores: [documents, sources, destinations] edge scores.
        graph: the model's graph.
        size: number of edges to select, before pruning.
        select: function that selects edges by scores, such as `top_n` or `greedy`.
        pruned: whether to prune the selected edges.
        resamples: number of resamples, 2 or more.
        confidence: level of the intervals and bounds, between 0 and 1.
        seed: seed of the resamples, which depend only on the seed and on the number of documents.
        sign_filter: filter by which edges are ranked, for each resample by its own resamples; None
            to rank them by their mean scores.

    Raises:
        UserError: there are fewer than 2 documents, the graph has fewer edges than `size`, or a
            score isn't finite.
        ValueError: the shape of the scores, `resamples` or `confidence` is invalid.
    """
    edges = edge_scores(scores, graph)
    if resamples < 2:
        raise ValueError(f"resamples={resamples}: must be at least 2 to compare them")
    mean, low, high = _intervals(edges, resamples, confidence, seed)
    signs = np.sign(mean)
    count, agreeing = np.zeros(graph.edges), np.zeros(graph.edges)
    correlations: list[float] = []
    circuits, last = [], None
    for resample, weights in resampled_means(edges, resamples, seed):
        ranking = sign_filter.ranks(edges, weights) if sign_filter else resample
        kept = choose(on_edges(ranking, graph), graph, size, select, pruned)[graph.exists]
        circuits.append(np.packbits(kept))
        count += kept
        agreeing += np.sign(resample) == signs
        ranks = standard_ranks(resample)
        if last is not None:
            correlations.append(float(ranks @ last))
        last = ranks
    ranking = sign_filter.ranks(edges) if sign_filter else mean
    values, chances = pair_jaccards(np.array(circuits), graph.edges)
    if size == graph.edges:  # equal by construction
        values = np.full_like(values, np.nan)
    tail = (1 - confidence) / 2
    return Stability(
        size,
        on_edges(mean, graph),
        on_edges(low, graph),
        on_edges(high, graph),
        on_edges(agreeing / resamples, graph),
        choose(on_edges(ranking, graph), graph, size, select, pruned),
        on_edges(count / resamples, graph),
        _spread(values, tail, len(edges)),
        float(mean_over(chances, -1)),
        _spread(np.array(correlations), tail, len(edges)),
    )


def jaccard(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the Jaccard index |A and B| / |A or B| of two sets; NaN if both are empty.

    Args:
        first, second: bool arrays of equal shape, True at the members of each set.
    """
    return float(jaccard_of_counts((first & second).sum(), (first | second).sum()))


def jaccard_of_counts(shared: Any, either: Any) -> NDArray[np.float64]:
    """Return the Jaccard index from the counts |A and B| and |A or B|; NaN where both are empty.

    Args:
        shared: the count |A and B|, a number or an array.
        either: the count |A or B|, of the same shape.
    """
    return np.where(np.asarray(either) > 0, shared / np.maximum(either, 1), np.nan)


def chance_jaccard(first: Any, second: Any, edges: int) -> Any:
    """Return the Jaccard index to expect for two random sets of edges of given sizes.

    The index is computed from expected counts. For two sets that each contain a fraction p of all
    edges, it is p / (2 - p). It is NaN for sets that can't differ because both are empty or contain
    all edges.

    Args:
        first, second: sizes of the two sets, numbers or arrays.
        edges: total number of edges from which the sets are drawn.
    """
    shared = np.asarray(first, dtype=np.float64) * second / edges
    either = first + second - shared
    return np.where((either > 0) & (shared < edges), shared / np.maximum(either, 1e-300), np.nan)


# ---- also used by `circuits.evolution`


def choose(
    scores: NDArray[Any], graph: Graph, size: int, select: Selection, pruned: bool
) -> NDArray[np.bool_]:
    """Return the circuit that is selected by mean scores, [sources, destinations] bool.

    Args:
        scores: [sources, destinations] mean edge scores.
        graph: the model's graph.
        size: number of edges to select, before pruning.
        select: function that selects edges by scores, such as `top_n`.
        pruned: whether to prune the selected edges.
    """
    kept = select(scores, graph, size)
    return prune(kept, graph) if pruned else kept


def pair_jaccards(
    packed: NDArray[np.uint8], members: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Jaccard index of every pair of sets, and the index to expect by chance.

    Args:
        packed: [sets, bytes] each set as bits, packed by `np.packbits`.
        members: number of possible members of a set, which is the number of bits before packing.

    Returns:
        Two arrays [pairs], for the pairs of sets (0, 1), (0, 2), ...; NaN as in `jaccard` and
        `chance_jaccard`.
    """
    count = len(packed)
    shared = np.zeros((count, count))
    width = max(1, CHUNK // count // 8)
    for first in range(0, packed.shape[1], width):
        bits = np.unpackbits(packed[:, first : first + width], axis=1).astype(np.float32)
        shared += bits @ bits.T  # whole numbers below 2^24: exact
    sizes = np.diag(shared)
    one, two = np.triu_indices(count, 1)
    either = sizes[one] + sizes[two] - shared[one, two]
    values = jaccard_of_counts(shared[one, two], either)
    return values, chance_jaccard(sizes[one], sizes[two], members)


def _intervals(
    edges: NDArray[Any], resamples: int, confidence: float, seed: int
) -> tuple[NDArray[np.float64], ...]:
    """Mean, low and high of every edge."""
    part = max(1, CHUNK // 2 // len(edges))
    pieces = [
        bootstrap_means(edges[:, begin : begin + part].T, resamples, confidence, seed)
        for begin in range(0, edges.shape[1], part)
    ]
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


def _spread(values: NDArray[np.float64], tail: float, documents: int) -> Interval:
    low = high = np.nan
    defined = values[np.isfinite(values)]
    if documents >= MIN_DOCUMENTS and defined.size:
        low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(mean_over(values, -1)), float(low), float(high), documents)
