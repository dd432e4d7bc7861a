"""Circuits from scores, against the reference's own circuits and against enumeration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.circuits import edge_selection as selection
from sumcirc.circuits import edge_sums
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape

REFERENCE = Path(__file__).parents[1] / "fixtures" / "eap_ig"
SMALL = Graph(Shape(4, 4, 4, 16, 64, 256, 512, False))
GROUPED = Graph(Shape(3, 4, 2, 16, 64, 128, 256, False))
PARALLEL = Graph(Shape(3, 2, 2, 16, 32, 128, 256, True))


def reference(name: str) -> NDArray[Any]:
    with np.load(REFERENCE / "small_gpt2_reference.npz") as arrays:
        return arrays[name]


def random_scores(graph: Graph, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=graph.exists.shape)


def names_of(kept: NDArray[np.bool_], graph: Graph) -> set[str]:
    return {name for name, row, column in graph.edge_names() if kept[row, column]}


@pytest.mark.parametrize("n", [50, 100])
@pytest.mark.parametrize("how", ["topn", "greedy"])
def test_the_references_circuits(how: str, n: int) -> None:
    """Values of hannamw/EAP-IG 795f560: same scores, same edges, same nodes."""
    file = REFERENCE / f"circuit_EAP-IG-inputs_kl_all_{how}_{n}.json"
    expected = json.loads(file.read_text(encoding="utf-8"))
    scores = reference("scores/EAP-IG-inputs/kl_all/f64")
    select = selection.top_n if how == "topn" else selection.greedy
    chosen = select(scores, SMALL, n)
    assert chosen.sum() == n
    kept = selection.prune(chosen, SMALL)
    assert names_of(kept, SMALL) == {
        name for name, edge in expected["edges"].items() if edge["in_graph"]
    }
    nodes = selection.circuit_nodes(kept, SMALL)
    assert dict(zip(edge_sums.node_names(SMALL), nodes.tolist(), strict=True)) == {
        name: node["in_graph"] for name, node in expected["nodes"].items()
    }


def test_the_references_circuit_with_expanded_groups() -> None:
    graph = Graph(GROUPED.shape, expand_groups=True)
    with np.load(REFERENCE / "small_llama_reference.npz") as arrays:
        scores = arrays["scores/EAP-IG-inputs/kl_all/f64"]
        expected = arrays["in_graph/EAP-IG-inputs/kl_all/topn50"]
    assert (selection.prune(selection.top_n(scores, graph, 50), graph) == expected).all()


@pytest.mark.parametrize("graph", [SMALL, GROUPED, PARALLEL])
@pytest.mark.parametrize("absolute", [True, False])
def test_top_n_and_threshold_by_sorting(graph: Graph, absolute: bool) -> None:
    scores = random_scores(graph, 1)
    size = np.abs(scores) if absolute else scores
    ranked = sorted(graph.edge_names(), key=lambda edge: -size[edge[1], edge[2]])
    for n in (0, 1, 17, graph.edges):
        expected = {name for name, _, _ in ranked[:n]}
        assert names_of(selection.top_n(scores, graph, n, absolute), graph) == expected
    least = size[ranked[16][1:]]
    kept = selection.threshold(scores, graph, least, absolute)
    assert (kept == selection.top_n(scores, graph, 17, absolute)).all()


def test_among_equal_scores_the_first_edges_are_kept() -> None:
    ones = np.ones(SMALL.exists.shape)
    names = {name for name, _, _ in SMALL.edge_names()[:9]}
    assert names_of(selection.top_n(ones, SMALL, 9), SMALL) == names


def test_values_off_the_edges_are_ignored() -> None:
    scores = random_scores(SMALL, 2)
    noisy = np.where(SMALL.exists, scores, np.nan)
    assert (selection.top_n(scores, SMALL, 30) == selection.top_n(noisy, SMALL, 30)).all()
    assert (edge_sums.by_layer(scores, SMALL) == edge_sums.by_layer(noisy, SMALL)).all()


def heads_of(destination: str, graph: Graph) -> list[str]:
    """Nodes that a destination is an input of, from its name."""
    name = destination.split("<")[0]
    if ".g" not in name:
        return [name]
    layer, group = name.split(".g")
    share = graph.shape.heads // graph.shape.key_value_heads
    return [f"{layer}.h{int(group) * share + i}" for i in range(share)]


def naive_greedy(scores: NDArray[np.float64], graph: Graph, n: int) -> set[str]:
    """All candidates looked at anew for every edge."""
    inside, kept = {"logits"}, []
    for _ in range(n):
        candidates = [
            (abs(scores[row, column]), name)
            for name, row, column in graph.edge_names()
            if name not in kept and inside & set(heads_of(graph.destinations[column], graph))
        ]
        best = max(candidates)[1]
        kept.append(best)
        inside.add(best.split("->")[0])
    return set(kept)


@pytest.mark.parametrize("graph", [SMALL, GROUPED, PARALLEL])
def test_greedy_by_looking_at_all_candidates(graph: Graph) -> None:
    scores = random_scores(graph, 3)
    for n in (1, 12, 60):
        assert names_of(selection.greedy(scores, graph, n), graph) == naive_greedy(scores, graph, n)
    assert (selection.greedy(scores, graph, graph.edges) == graph.exists).all()


def on_a_path(kept: set[str], graph: Graph) -> set[str]:
    """Edges on a way from the embedding to the logits, by following all ways."""
    steps = [
        (name, name.split("->")[0], node)
        for name in kept
        for node in heads_of(name.split("->")[1], graph)
    ]

    def reach(start: str, origin: int, end: int) -> set[str]:
        found, fresh = {start}, [start]
        while fresh:
            node = fresh.pop()
            new = {step[end] for step in steps if step[origin] == node} - found
            found |= new
            fresh += new
        return found

    forward, backward = reach("input", 1, 2), reach("logits", 2, 1)
    return {name for name, start, end in steps if start in forward and end in backward}


@pytest.mark.parametrize("graph", [SMALL, GROUPED, PARALLEL])
@pytest.mark.parametrize("seed", range(6))
def test_pruned_is_what_lies_on_a_way_from_the_embedding_to_the_logits(
    graph: Graph, seed: int
) -> None:
    chosen = selection.top_n(random_scores(graph, seed), graph, 8 + 10 * seed)
    kept = selection.prune(chosen, graph)
    names = names_of(kept, graph)
    assert names == on_a_path(names_of(chosen, graph), graph)
    assert (selection.prune(kept, graph) == kept).all()
    found = selection.circuit_nodes(kept, graph)
    touched = {name.split("->")[0] for name in names} | {
        head
        for name in names
        for head in heads_of(name.split("->")[1], graph)
        if head == "logits" or any(other.startswith(f"{head}->") for other in names)
    }
    assert set(np.array(edge_sums.node_names(graph))[found]) == touched


def test_a_loose_chain_goes_link_by_link() -> None:
    edges = {name: (row, column) for name, row, column in SMALL.edge_names()}
    kept = np.zeros_like(SMALL.exists)
    for name in ("input->m0", "m0->logits", "input->a1.h2<k>", "a1.h2->m2", "m2->a3.h0<v>"):
        kept[edges[name]] = True
    before = kept.copy()
    assert names_of(selection.prune(kept, SMALL), SMALL) == {"input->m0", "m0->logits"}
    assert (kept == before).all()


def test_an_empty_circuit_has_no_nodes() -> None:
    nothing = np.zeros_like(SMALL.exists)
    assert not selection.circuit_nodes(nothing, SMALL).any()
    assert not selection.prune(nothing, SMALL).any()


@pytest.mark.parametrize("graph", [SMALL, GROUPED, PARALLEL])
def test_views_by_adding_edge_by_edge(graph: Graph) -> None:
    scores = random_scores(graph, 4)
    layers = graph.shape.layers
    names = edge_sums.node_names(graph)
    outgoing, incoming = np.zeros(graph.nodes), np.zeros(graph.nodes)
    kinds, by_layer = np.zeros((3, 5)), np.zeros((1 + layers, layers + 1))
    modules = {
        module: np.zeros(layers)
        for module in ("query", "key", "value", "mlp_in", "attention_out", "mlp_out")
    }
    letters = {"q": "query", "k": "key", "v": "value"}
    for name, row, column in graph.edge_names():
        size = abs(scores[row, column])
        source, destination = name.split("->")
        outgoing[names.index(source)] += size
        heads = heads_of(destination, graph)
        for head in heads:
            incoming[names.index(head)] += size / len(heads)
        written = {"i": "embedding", "a": "attention", "m": "mlp"}[source[0]]
        if destination == "logits":
            kind = "logits"
        else:
            kind = "mlp" if destination[0] == "m" else letters[destination[-2]]
        place = edge_sums.SOURCE_KINDS.index(written), edge_sums.DESTINATION_KINDS.index(kind)
        kinds[place] += size
        first = 0 if source == "input" else 1 + int(source.split(".")[0][1:])
        last = layers if kind == "logits" else int(destination.split(".")[0][1:])
        by_layer[first, last] += size
        if kind != "logits":
            modules["mlp_in" if kind == "mlp" else kind][last] += size
        if source != "input":
            modules[f"{written}_out"][first - 1] += size
    found = edge_sums.by_node(scores, graph)
    np.testing.assert_allclose(found[0], outgoing)
    np.testing.assert_allclose(found[1], incoming)
    np.testing.assert_allclose(edge_sums.by_kind(scores, graph), kinds)
    np.testing.assert_allclose(edge_sums.by_layer(scores, graph), by_layer)
    views = edge_sums.by_module(scores, graph)
    assert list(views) == list(modules)
    for module, sums in views.items():
        np.testing.assert_allclose(sums, modules[module])


def test_views_of_a_circuit_count_its_edges() -> None:
    kept = selection.top_n(random_scores(SMALL, 5), SMALL, 40)
    assert edge_sums.by_kind(kept, SMALL).sum() == edge_sums.by_layer(kept, SMALL).sum() == 40


@pytest.mark.parametrize("n", [-1, SMALL.edges + 1])
@pytest.mark.parametrize("select", [selection.top_n, selection.greedy])
def test_sizes_that_cannot_be(select: selection.Selection, n: int) -> None:
    with pytest.raises(UserError, match=f"circuit size {n}: must be between 0 and the 479 edges"):
        select(random_scores(SMALL, 0), SMALL, n)


def test_scores_that_are_not_finite() -> None:
    scores = random_scores(SMALL, 0)
    scores[0, :2] = np.nan, np.inf
    with pytest.raises(UserError, match="scores of 2 of 479 edges are NaN or infinite"):
        selection.top_n(scores, SMALL, 5)
    with pytest.raises(UserError, match="threshold=nan"):
        selection.threshold(random_scores(SMALL, 0), SMALL, float("nan"))
    with pytest.raises(ValueError, match="expected the graph's shape"):
        selection.prune(np.zeros((2, 2), dtype=bool), SMALL)
