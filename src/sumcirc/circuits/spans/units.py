"""Units of a circuit by span: an edge, together with the span or the pair of spans where it acts.

A query, an MLP and the logits read the residual stream at a position, whose span is s. A key or
value is made at a token of span s and read by queries of span t. Both are a pair (s, t), with s = t
for the former, so a unit is (source, destination, s, t), and what a circuit keeps is a bool array
[pairs, sources, destinations].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import matched_circuit
from sumcirc.circuits.edge_sums import DESTINATION_KINDS, destination_kinds, readers_of
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.data.examples import NONE
from sumcirc.errors import UserError

CROSSING = [DESTINATION_KINDS.index(kind) for kind in ("key", "value")]
SETTING = "circuit.by_span"


@dataclass(frozen=True)
class SpanPairs:
    """The spans of some documents, and the pairs of spans between which an edge can act.

    Attributes:
        names: names of the spans.
        pairs: (s, t) indices of spans, such that in some document a token of s is at or before a
            token of t; all (s, s) are among them.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *tokens: TokenPairs) -> SpanPairs:
        """Return the spans of documents, and the pairs that occur in them.

        Args:
            tokens: clean and corrupted documents, which have the same spans.

        Raises:
            UserError: documents have no spans, or a token belongs to none.
        """
        names = tuple(tokens[0].clean.spans)
        possible = np.eye(len(names), dtype=bool)
        for some in tokens:
            if not names or tuple(some.clean.spans) != names:
                raise UserError(
                    f"{SETTING}=true: `{some.names[0]}` has no spans, or not those of other pairs;"
                    f" give every line of pairs= the same `spans`, or {SETTING}=false"
                )
            labels = some.clean.labels().masked_fill(~some.attention_mask, NONE).numpy()
            without = ((labels == NONE) & some.attention_mask.numpy()).any(1)
            if without.any():
                raise UserError(
                    f"{SETTING}=true: `{some.names[int(without.argmax())]}` has tokens of no span;"
                    " give each token one"
                )
            for row in labels:
                places = [np.flatnonzero(row == number) for number in range(len(names))]
                for s, t in np.ndindex(possible.shape):
                    if len(places[s]) and len(places[t]):
                        possible[s, t] |= places[s][0] <= places[t][-1]
        return cls(names, tuple((int(s), int(t)) for s, t in np.argwhere(possible)))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def same(self) -> NDArray[np.bool_]:
        """[pairs] true where both spans of a pair are the same."""
        return np.array([s == t for s, t in self.pairs])

    def exists(self, graph: Graph) -> NDArray[np.bool_]:
        """Return which units there are, bool [pairs, sources, destinations].

        Args:
            graph: the model's graph.
        """
        return graph.exists & (self.same[:, None, None] | crossing(graph))


def crossing(graph: Graph) -> NDArray[np.bool_]:
    """Return which destinations are keys or values, bool [destinations].

    Args:
        graph: the model's graph.
    """
    return np.isin(destination_kinds(graph), CROSSING)


def top_units(
    scores: NDArray[np.float64], units: SpanPairs, graph: Graph, count: int
) -> NDArray[np.bool_]:
    """Return the `count` units of largest |score|, pruned, bool [pairs, sources, destinations].

    Args:
        scores: [pairs, sources, destinations] scores of the units.
        units: the pairs of spans.
        graph: the model's graph.
        count: number of units before pruning; all if there are fewer.
    """
    exists = units.exists(graph)
    order = np.argsort(-np.abs(scores[exists]), kind="stable")[:count]
    chosen = np.zeros(int(exists.sum()), dtype=bool)
    chosen[order] = True
    kept = np.zeros_like(exists)
    kept[exists] = chosen
    return prune_units(kept, units, graph)


def prune_units(kept: NDArray[np.bool_], units: SpanPairs, graph: Graph) -> NDArray[np.bool_]:
    """Remove units that don't lie on a path from the embedding to the logits.

    Nodes are those of the graph at each span: a head writes at the span of its query. A node
    without an incoming or an outgoing unit is removed with its units, until there is none. The
    embedding needs no incoming unit.

    Args:
        kept: [pairs, sources, destinations] true at the units of a circuit.
        units: the pairs of spans.
        graph: the model's graph.

    Returns:
        A new bool array [pairs, sources, destinations].
    """
    left, spans = kept & units.exists(graph), len(units.names)
    readers = readers_of(graph)  # [nodes, destinations]
    start, end = np.array(units.pairs).T
    while True:
        # [spans, nodes]: a unit leaves its source at s and enters its destination's node at t
        outgoing = np.zeros((spans, graph.nodes), dtype=bool)
        incoming = np.zeros((spans, graph.nodes), dtype=bool)
        for number, (s, t) in enumerate(units.pairs):
            outgoing[s, :-1] |= left[number].any(1)
            incoming[t] |= (readers & left[number].any(0)).any(1)
        outgoing[:, -1] = incoming[:, -1]
        incoming[:, 0] = True
        alive = outgoing & incoming
        read = np.array([readers[one].any(0) for one in alive])  # [spans, destinations]
        rest = left & alive[start][:, :-1, None] & read[end][:, None]
        if np.array_equal(rest, left):
            return left
        left = rest


def matched_units(
    draws: NDArray[np.float64], kept: NDArray[np.bool_], graph: Graph
) -> NDArray[np.bool_]:
    """Return random units, for each pair of spans as many of each kind and layer as in `kept`.

    Args:
        draws: [pairs, sources, destinations] a random number for each unit.
        kept: [pairs, sources, destinations] true at the units of the circuit to match.
        graph: the model's graph.
    """
    return np.array(
        [matched_circuit(draw, one, graph) for draw, one in zip(draws, kept, strict=True)]
    )
