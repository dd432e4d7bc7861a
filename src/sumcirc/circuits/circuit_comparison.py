"""Comparison of two circuits: what they share, and which edges one gained and lost.

The circuits are those of two models of one shape, such as a model before and after fine-tuning.
Overlaps are Jaccard indices, given with their value by chance. Where the scores of each document
are known, the documents are resampled as in `circuits.evolution`, which shows what overlap to
expect if nothing had changed; without them (a circuit read from a file alone) the bounds are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import aggregated, per_document
from sumcirc.circuits.discovery import edges_of, selection_of
from sumcirc.circuits.edge_selection import circuit_nodes
from sumcirc.circuits.edge_sums import DESTINATION_KINDS, SOURCE_KINDS, by_kind, by_layer
from sumcirc.circuits.evolution import Evolution, Track, evolution
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.sign_filter import sign_filter_of
from sumcirc.circuits.stability import chance_jaccard, jaccard
from sumcirc.errors import UserError
from sumcirc.schema import CircuitOptions

LISTED = 50  # edges gained, and edges lost, that are listed


@dataclass(frozen=True)
class Overlap:
    """The overlap of two circuits' edges, or of their nodes.

    Attributes:
        before, after: number of members of each circuit.
        shared: number of members of both.
        jaccard: their Jaccard index; NaN if both circuits are empty.
        chance: the index to expect for two random sets of these sizes.
        low, high: bounds of the index in 95 % of the resamples of the documents.
        within: mean index between two resamples of the same model, the smaller one of the two
            models; the overlap to expect if nothing had changed.
        differs: whether the circuits differ by more than 95 % of the pairs of resamples of one
            model do.

    `low`, `high`, `within` and `differs` are None if the documents can't be resampled.
    """

    before: int
    after: int
    shared: int
    jaccard: float
    chance: float
    low: float | None = None
    high: float | None = None
    within: float | None = None
    differs: bool | None = None


@dataclass(frozen=True)
class ChangedEdge:
    """An edge of only one of two circuits, with its score in each model."""

    source: str
    destination: str
    before: float
    after: float


@dataclass(frozen=True)
class CircuitChange:
    """What two circuits share, and where they differ.

    Attributes:
        before, after: names of the two models, or of the files that contain the circuits.
        edges, nodes: overlap of the circuits' edges, and of their nodes.
        gained, lost: the edges in only the circuit `after`, or only in `before`; those with the
            largest |score| in the circuit that contains them, at most 50.
        added_by_layer, removed_by_layer, added_by_kind, removed_by_kind: numbers of edges, by
            source and destination as in `edge_sums.by_layer` and `edge_sums.by_kind`.
        noise_by_layer, noise_by_kind: numbers of changed edges that count as noise, see
            `evolution.Transition`; None if the documents can't be resampled.
    """

    before: str
    after: str
    edges: Overlap
    nodes: Overlap
    gained: list[ChangedEdge]
    lost: list[ChangedEdge]
    added_by_layer: NDArray[np.float64]
    removed_by_layer: NDArray[np.float64]
    added_by_kind: NDArray[np.float64]
    removed_by_kind: NDArray[np.float64]
    noise_by_layer: NDArray[np.float64] | None = None
    noise_by_kind: NDArray[np.float64] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the content of `circuits/comparison.json`, with the names of the kinds."""
        kinds = {"source_kinds": SOURCE_KINDS, "destination_kinds": DESTINATION_KINDS}
        return asdict(self) | kinds


@dataclass(frozen=True, eq=False)
class NamedCircuit:
    """A circuit with the scores that its edges were selected by.

    Attributes:
        name: name of the model or file.
        scores: [sources, destinations] scores over all documents.
        kept: [sources, destinations] True at the edges of the circuit.
    """

    name: str
    scores: NDArray[np.float64]
    kept: NDArray[np.bool_]


def compare_circuits(
    before: NamedCircuit, after: NamedCircuit, graph: Graph, resampled: Evolution | None = None
) -> CircuitChange:
    """Compare two circuits of one graph.

    Args:
        before, after: the circuits.
        graph: the graph of both.
        resampled: the comparison of the same two circuits over resamples of the documents, from
            `resample`, if there is one.

    Raises:
        UserError: the circuits are not of this graph.
    """
    for one in (before, after):
        if one.kept.shape != graph.exists.shape:
            raise UserError(
                f"{one.name}: its circuit is of a graph of {one.kept.shape[0]} sources and"
                f" {one.kept.shape[1]} destinations, that of {before.name} has"
                f" {graph.exists.shape[0]} and {graph.exists.shape[1]}; compare circuits of models"
                " of one shape"
            )
    added, removed = after.kept & ~before.kept, before.kept & ~after.kept
    tracks: Mapping[str, Track | None] = {"edges": None, "nodes": None}
    noise: tuple[Any, Any] = None, None
    if resampled is not None:
        tracks = {"edges": resampled.edges, "nodes": resampled.nodes}
        (moved,) = resampled.transitions
        noise = moved.noise_by_layer, moved.noise_by_kind
    edges = before.kept[graph.exists], after.kept[graph.exists]
    nodes = circuit_nodes(before.kept, graph), circuit_nodes(after.kept, graph)
    scores = before.scores, after.scores
    return CircuitChange(
        before.name,
        after.name,
        _overlap(*edges, tracks["edges"]),
        _overlap(*nodes, tracks["nodes"]),
        _listed(added, after.scores, scores, graph),
        _listed(removed, before.scores, scores, graph),
        by_layer(added, graph),
        by_layer(removed, graph),
        by_kind(added, graph),
        by_kind(removed, graph),
        *noise,
    )


def resample(before: DocumentScores, after: DocumentScores, options: CircuitOptions) -> Evolution:
    """Compare the circuits of two models over resamples of the documents.

    Both circuits are selected from the aggregated scores by the same settings.

    Args:
        before, after: scores of the two models on the same documents in the same order.
        options: how scores are aggregated and edges selected, and the number of resamples.

    Raises:
        UserError: the scores are of other documents, or made by another method or metric; or there
            are fewer than 2 documents.
    """
    for name in ("documents", "method", "metric", "interpolation_steps"):
        ours, theirs = getattr(before, name), getattr(after, name)
        if ours != theirs:
            shown = "" if name == "documents" else f" ({ours} and {theirs})"
            raise UserError(
                f"circuits: the two circuits' scores differ in {name}{shown}; find both with the"
                " same settings on the same pairs (`sumcirc circuit checkpoint=ONE against=OTHER`)"
            )
    graph, how = before.graph, options.aggregation
    return evolution(
        [(i, per_document(one.scores, how)) for i, one in enumerate((before, after))],
        graph,
        edges_of(aggregated(before.scores, how), graph, options),
        selection_of(options),
        resamples=options.resamples,
        sign_filter=sign_filter_of(options),
    )


def _overlap(before: NDArray[np.bool_], after: NDArray[np.bool_], track: Track | None) -> Overlap:
    sizes = int(before.sum()), int(after.sum())
    shared = int((before & after).sum())
    chance = float(chance_jaccard(*sizes, len(before)))
    bounds: dict[str, Any] = {}
    if track is not None:
        other = track.to_first
        bounds = {
            "low": float(other.low[1]),
            "high": float(other.high[1]),
            "within": float(track.within.min()),
            "differs": bool(other.differs[1]),
        }
    return Overlap(*sizes, shared, jaccard(before, after), chance, **bounds)


def _listed(
    chosen: NDArray[np.bool_],
    ranked: NDArray[np.float64],
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    graph: Graph,
) -> list[ChangedEdge]:
    rows, columns = np.nonzero(chosen)
    order = np.argsort(-np.abs(ranked[rows, columns]), kind="stable")[:LISTED]
    return [
        ChangedEdge(
            graph.sources[row],
            graph.destinations[column],
            float(scores[0][row, column]),
            float(scores[1][row, column]),
        )
        for row, column in zip(rows[order], columns[order], strict=True)
    ]
