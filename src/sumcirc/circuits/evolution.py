"""Changes of a circuit during training: overlaps, change rates, and where edges change.

With S_t the set of edges (or nodes) of the circuit at checkpoint t:

- Jaccard index |S_t and S_u| / |S_t or S_u| with the first checkpoint (the base), the previous one
  and the last.
- Change rate |S_t xor S_t+1| / |S_0| x 100 %, per step and summed over steps: Delta-S of Y. Wang et
  al., Towards Understanding Fine-Tuning Mechanisms of LLMs via Circuit Analysis, 2025,
  arXiv:2502.11812. Edges are those of query, key and value inputs, not merged by head.

Documents are a sample, and circuits of two samples differ even for the same model. Therefore the
circuits of two checkpoints, each from all documents, are said to *differ* if their Jaccard distance
exceeds that of 95 % of the pairs of resamples of one checkpoint, for both of them (`bound`, the
larger one). Two resamples are about as far apart as two experiments on fresh documents; slightly
less where scores are mostly noise, since resamples treat the sample's mean as the truth.
Checkpoints scored on the same documents share part of the noise, which makes the rule conservative.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import Selection, circuit_nodes, top_n
from sumcirc.circuits.edge_sums import by_kind, by_layer
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.resamples import edge_scores, on_edges, resampled_means
from sumcirc.circuits.sign_filter import SignFilter
from sumcirc.circuits.stability import (
    chance_jaccard,
    choose,
    jaccard,
    jaccard_of_counts,
    pair_jaccards,
)
from sumcirc.errors import UserError
from sumcirc.statistics import mean_over


@dataclass(frozen=True, eq=False)
class CircuitOverlaps:
    """Comparison of each checkpoint's circuit with another checkpoint's; arrays are [checkpoints].

    Attributes:
        jaccard: Jaccard index of the two circuits, each selected by scores on all documents; NaN
            where there is no checkpoint to compare with, or both circuits are empty.
        low, high: bounds that contain the Jaccard index in 95 % of the resamples, where both
            circuits are selected on the same resample. Resampling adds noise to both circuits, so
            the bounds tend to lie below `jaccard` and may not contain it. NaN where the checkpoints
            have different numbers of documents.
        chance: expected Jaccard index of random sets of the same sizes; NaN where such sets can't
            differ.
        bound: largest Jaccard distance that counts as noise, see the top of the module.
        differs: whether the distance 1 - jaccard exceeds `bound`.
    """

    jaccard: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    chance: NDArray[np.float64]
    bound: NDArray[np.float64]
    differs: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """Changes of the circuit's edges, or of its nodes, over checkpoints; arrays are [checkpoints].

    S_t is the set of edges (or nodes) of the circuit at checkpoint t.

    Attributes:
        size: number of edges (or nodes), |S_t|.
        to_first, to_previous, to_last: overlaps with the circuit of the first, the previous and the
            last checkpoint.
        within: mean Jaccard index between the circuits of two resamples at the same checkpoint,
            which is the overlap to expect if nothing changed; NaN where all these circuits are
            empty.
        changed: number of edges (or nodes) added or removed since the previous checkpoint, |S_t-1
            xor S_t|; 0 for the first checkpoint.
        change_rate: `changed` as a percentage of |S_0|; NaN if S_0 is empty.
        total_change_rate: sum of `change_rate` over all checkpoints.
    """

    size: NDArray[np.int64]
    to_first: CircuitOverlaps
    to_previous: CircuitOverlaps
    to_last: CircuitOverlaps
    within: NDArray[np.float64]
    changed: NDArray[np.int64]
    change_rate: NDArray[np.float64]
    total_change_rate: float


@dataclass(frozen=True, eq=False)
class Transition:
    """The edges added and removed between two consecutive checkpoints.

    The matrices count edges by source (rows) and destination (columns), as in
    `edge_sums.by_layer` [1 + layers, layers + 1] and `edge_sums.by_kind` [3, 5].

    Attributes:
        step, next_step: optimizer steps of the two checkpoints.
        added_by_layer, removed_by_layer, added_by_kind, removed_by_kind: numbers of edges added and
            removed.
        noise_by_layer, noise_by_kind: numbers of changed edges that count as noise: at one
            checkpoint, 95 % of the pairs of successive resamples differ by no more edges; the
            larger number of the two checkpoints is given. A cell with more changes has changed by
            more than noise, but 5 % of the cells exceed it by chance.
    """

    step: int
    next_step: int
    added_by_layer: NDArray[np.float64]
    removed_by_layer: NDArray[np.float64]
    added_by_kind: NDArray[np.float64]
    removed_by_kind: NDArray[np.float64]
    noise_by_layer: NDArray[np.float64]
    noise_by_kind: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evolution:
    """The circuits of all checkpoints, and their changes.

    Attributes:
        steps: optimizer step of each checkpoint.
        circuits: circuit of each checkpoint, a bool matrix [sources, destinations].
        edges, nodes: overlaps and change rates of the circuits' edges and of their nodes.
        transitions: edges added and removed between consecutive checkpoints.
    """

    steps: list[int]
    circuits: list[NDArray[np.bool_]]
    edges: Track
    nodes: Track
    transitions: list[Transition]


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A checkpoint's circuit, and those of its resamples."""

    circuit: NDArray[np.bool_]
    sets: dict[str, NDArray[np.bool_]]  # "edges" and "nodes" of the circuit
    packed: dict[str, NDArray[np.uint8]]  # those of the resamples, [resamples, bytes]
    within: dict[str, NDArray[np.float64]]  # Jaccard index of pairs of resamples
    noise_by_layer: NDArray[np.float64]
    noise_by_kind: NDArray[np.float64]
    documents: int


def evolution(
    checkpoints: Iterable[tuple[int, NDArray[Any]]],
    graph: Graph,
    size: int,
    select: Selection = top_n,
    pruned: bool = True,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    sign_filter: SignFilter | None = None,
) -> Evolution:
    """Compare the circuits of all checkpoints.

    Args:
        checkpoints: (step, edge scores [documents, sources, destinations]) of each checkpoint in
            the order of training, with the base first. Only one checkpoint's scores are held at a
            time, so they may be read from files lazily. All checkpoints should be scored on the
            same documents in the same order.
        graph: the model's graph.
        size: number of edges to select at each checkpoint, before pruning.
        select: function that selects edges by scores, such as `top_n` or `greedy`.
        pruned: whether to prune the selected edges.
        resamples: number of resamples of the documents, 2 or more, the same for all checkpoints.
        confidence: level of all bounds, which the descriptions of the results assume to be 0.95.
        seed: seed of the resamples.
        sign_filter: filter by which edges are ranked, as in `stability`; None for none.

    Raises:
        UserError: there are no checkpoints, the steps don't increase, there are fewer than 2
            documents, the graph has fewer edges than `size`, or a score isn't finite.
        ValueError: the shape of the scores, `resamples` or `confidence` is invalid.
    """
    if resamples < 2 or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"resamples={resamples}, confidence={confidence}: need 2 or more, and 0 to 1"
        )
    steps, found = [], []
    for step, scores in checkpoints:
        if steps and step <= steps[-1]:
            raise UserError(
                f"checkpoints: step {step} comes after step {steps[-1]}; give them in the order of"
                " training, each once"
            )
        steps.append(step)
        choice = graph, size, select, pruned
        found.append(_resample(scores, *choice, resamples, confidence, seed, sign_filter))
    if not found:
        raise UserError("checkpoints: there are none; give scores of the base and of later steps")
    return Evolution(
        steps,
        [one.circuit for one in found],
        _track(found, "edges", graph.edges, confidence),
        _track(found, "nodes", graph.nodes, confidence),
        [
            _transition(*places, *pair, graph)
            for places, pair in zip(pairwise(steps), pairwise(found), strict=True)
        ],
    )


def _resample(
    scores: NDArray[Any],
    graph: Graph,
    size: int,
    select: Selection,
    pruned: bool,
    resamples: int,
    confidence: float,
    seed: int,
    sign_filter: SignFilter | None,
) -> _Resampled:
    edges = edge_scores(scores, graph)

    def circuit_of(
        means: NDArray[np.float64], weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.bool_]:
        ranking = sign_filter.ranks(edges, weights) if sign_filter else means
        return choose(on_edges(ranking, graph), graph, size, select, pruned)

    packed: dict[str, list[NDArray[np.uint8]]] = {"edges": [], "nodes": []}
    by_layers, by_kinds, last = [], [], None
    for means, weights in resampled_means(edges, resamples, seed):
        kept = circuit_of(means, weights)
        for name, members in _sets(kept, graph).items():
            packed[name].append(np.packbits(members))
        if last is not None:
            by_layers.append(by_layer(kept ^ last, graph))
            by_kinds.append(by_kind(kept ^ last, graph))
        last = kept
    circuit = circuit_of(edges.astype(np.float64).mean(axis=0))
    arrays = {name: np.array(rows) for name, rows in packed.items()}
    return _Resampled(
        circuit,
        _sets(circuit, graph),
        arrays,
        {name: pair_jaccards(rows, rows.shape[1] * 8)[0] for name, rows in arrays.items()},
        np.quantile(by_layers, confidence, axis=0),
        np.quantile(by_kinds, confidence, axis=0),
        len(edges),
    )


def _sets(kept: NDArray[np.bool_], graph: Graph) -> dict[str, NDArray[np.bool_]]:
    return {"edges": kept[graph.exists], "nodes": circuit_nodes(kept, graph)}


def _track(found: list[_Resampled], name: str, members: int, confidence: float) -> Track:
    sets = [one.sets[name] for one in found]
    changed = [0, *(int((one ^ two).sum()) for one, two in pairwise(sets))]
    first = int(sets[0].sum())
    rate = np.array(changed) * 100 / first if first else np.full(len(sets), np.nan)
    last = len(found) - 1
    return Track(
        np.array([one.sum() for one in sets]),
        _compare(found, [0] * len(found), name, members, confidence),
        _compare(found, list(range(-1, last)), name, members, confidence),
        _compare(found, [last] * len(found), name, members, confidence),
        np.array([mean_over(one.within[name], -1) for one in found]),
        np.array(changed),
        rate,
        float(rate.sum()),
    )


def _compare(
    found: list[_Resampled], others: list[int], name: str, members: int, confidence: float
) -> CircuitOverlaps:
    """Compare each checkpoint with another one, given by index; -1 for none."""
    columns = np.full((5, len(found)), np.nan)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    for i, place in enumerate(others):
        if place < 0:
            continue
        one, other = found[i], found[place]
        first, second = one.sets[name], other.sets[name]
        columns[0, i] = jaccard(first, second)
        if one.documents == other.documents:
            both = _paired(one.packed[name], other.packed[name])
            if np.isfinite(both).any():
                columns[1:3, i] = np.nanquantile(both, tails)
        columns[3, i] = chance_jaccard(first.sum(), second.sum(), members)
        # two empty resamples have no overlap, but they don't differ
        columns[4, i] = max(
            1 - float(np.quantile(np.nan_to_num(each.within[name], nan=1.0), 1 - confidence))
            for each in (one, other)
        )
    # quantiles interpolate: a distance equal to the bound may exceed it by rounding
    value, low, high, chance, bound = columns
    return CircuitOverlaps(value, low, high, chance, bound, 1 - value > bound + 1e-12)


def _paired(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Jaccard index of the two circuits of each resample."""
    shared = np.bitwise_count(first & second).sum(axis=1)
    either = np.bitwise_count(first | second).sum(axis=1)
    return jaccard_of_counts(shared, either)


def _transition(
    step: int, next_step: int, one: _Resampled, two: _Resampled, graph: Graph
) -> Transition:
    added, removed = two.circuit & ~one.circuit, one.circuit & ~two.circuit
    return Transition(
        step,
        next_step,
        by_layer(added, graph),
        by_layer(removed, graph),
        by_kind(added, graph),
        by_kind(removed, graph),
        np.maximum(one.noise_by_layer, two.noise_by_layer),
        np.maximum(one.noise_by_kind, two.noise_by_kind),
    )
