"""The change of a circuit between two models: counted by hand, and resampled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.circuits.circuit_comparison import NamedCircuit, compare_circuits, resample
from sumcirc.circuits.evolution import evolution
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape
from sumcirc.schema import CircuitOptions

GRAPH = Graph(Shape(2, 2, 2, 8, 16, 64, 100, False))
PLACES = {name: (row, column) for name, row, column in GRAPH.edge_names()}
BEFORE = {"input->m0": 3.0, "m0->logits": 2.0, "input->a0.h1<q>": 1.0, "a0.h1->logits": 0.5}
AFTER = {"input->m0": 1.0, "m0->logits": -4.0, "input->a1.h0<k>": 0.2, "a1.h0->logits": -0.7}


def circuit(name: str, edges: dict[str, float]) -> NamedCircuit:
    mean = np.zeros(GRAPH.exists.shape)
    for edge, score in edges.items():
        mean[PLACES[edge]] = score
    return NamedCircuit(name, mean, mean != 0)


def stored(scores: NDArray[np.float64], **changes: object) -> DocumentScores:
    fields = {
        "graph": GRAPH,
        "scores": scores.astype(np.float32),
        "documents": [str(i) for i in range(len(scores))],
        "method": "eap-ig-inputs",
        "metric": "kl",
        "interpolation_steps": 5,
        "step": 0,
    }
    return DocumentScores(**(fields | changes))  # type: ignore[arg-type]


def noisy(mean: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(size=(16, *mean.shape))
    return (mean + 0.3 * noise) * GRAPH.exists


def test_overlap_and_changed_edges_by_hand() -> None:
    found = compare_circuits(circuit("one", BEFORE), circuit("two", AFTER), GRAPH)
    edges, nodes = found.edges, found.nodes
    assert (edges.before, edges.after, edges.shared) == (4, 4, 2)
    assert edges.jaccard == pytest.approx(2 / 6)
    expected = 16 / GRAPH.edges
    assert edges.chance == pytest.approx(expected / (8 - expected))
    assert (nodes.before, nodes.after, nodes.shared) == (4, 4, 3)
    assert edges.differs is None
    assert found.noise_by_layer is None
    assert [(e.source, e.destination, e.before, e.after) for e in found.gained] == [
        ("a1.h0", "logits", 0.0, -0.7),
        ("input", "a1.h0<k>", 0.0, 0.2),
    ]
    assert [(e.source, e.destination) for e in found.lost] == [
        ("input", "a0.h1<q>"),
        ("a0.h1", "logits"),
    ]
    # rows: embedding, layers 0 and 1; columns: layers 0 and 1, logits
    np.testing.assert_array_equal(found.added_by_layer, [[0, 1, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found.removed_by_layer, [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    # rows: embedding, attention, mlp; columns: query, key, value, mlp, logits
    np.testing.assert_array_equal(found.added_by_kind[:2], [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(found.removed_by_kind[:2], [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    assert not found.added_by_kind[2].any()


def test_noise_of_documents_is_no_change_and_another_circuit_is() -> None:
    truth = np.random.default_rng(0).normal(size=GRAPH.exists.shape) ** 3
    another = np.random.default_rng(9).normal(size=GRAPH.exists.shape) ** 3
    options = CircuitOptions(size=0.2, resamples=50)
    for mean, differs in ((truth, False), (another, True)):
        scores = stored(noisy(truth, 1)), stored(noisy(mean, 2))
        resampled = resample(*scores, options)
        named = [
            NamedCircuit(name, one.scores.mean(0, dtype=float), kept)
            for name, one, kept in zip("ab", scores, resampled.circuits, strict=True)
        ]
        found = compare_circuits(named[0], named[1], GRAPH, resampled)
        assert found.edges.differs is differs
        assert found.edges.within is not None
        reference = evolution(
            [(3, scores[0].scores), (4, scores[1].scores)],
            GRAPH,
            int(0.2 * GRAPH.edges),
            resamples=50,
        )
        assert found.edges.jaccard == reference.edges.to_first.jaccard[1]
        np.testing.assert_array_equal(found.noise_by_layer, reference.transitions[0].noise_by_layer)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"documents": ["x"] * 16}, "differ in documents"),
        ({"metric": "nll"}, r"differ in metric \(kl and nll\)"),
        ({"method": "eap"}, r"differ in method \(eap-ig-inputs and eap\)"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(changes: dict[str, object], told: str) -> None:
    scores = noisy(np.zeros(GRAPH.exists.shape), 1)
    with pytest.raises(UserError, match=told):
        resample(stored(scores), stored(scores, **changes), CircuitOptions())


def test_circuits_of_two_shapes_are_refused() -> None:
    other = Graph(Shape(3, 2, 2, 8, 16, 64, 100, False))
    empty = np.zeros(other.exists.shape)
    with pytest.raises(UserError, match="two: its circuit is of a graph of"):
        compare_circuits(circuit("one", BEFORE), NamedCircuit("two", empty, empty != 0), GRAPH)
