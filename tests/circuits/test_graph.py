"""Nodes, edges and index maps against closed forms and the reference's own lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sumcirc.circuits.graph import Graph
from sumcirc.models.architectures import Shape

GPT2_SMALL = Shape(12, 12, 12, 64, 768, 3072, 50257, False)


def count(layers: int, heads: int, parallel: bool) -> int:
    """Edges by the closed form of EAP-IG."""
    total = 1 + layers * (heads + 1)
    for layer in range(layers):
        before = 1 + layer * (heads + 1)
        total += 3 * heads * before + before + (0 if parallel else heads)
    return total


def test_gpt2_small() -> None:
    graph = Graph(GPT2_SMALL)
    assert (graph.nodes, graph.edges) == (158, 32_491)
    assert graph.exists.shape == (157, 445)
    assert graph.edges == count(12, 12, False)


@pytest.mark.parametrize(
    ("shape", "share", "edges"),
    [
        (GPT2_SMALL, 0.05, 1624),  # 1,624.55: rounded down, as in EAP-IG
        (Shape(30, 9, 3, 64, 576, 1536, 49152, False), 0.05, 3532),  # SmolLM2-135M: 3,532.55
        (GPT2_SMALL, 1.0, 32_491),
        (GPT2_SMALL, 1e-9, 1),
        (GPT2_SMALL, 0.0, 0),
    ],
)
def test_a_share_of_the_edges_is_rounded_down_but_not_to_none(
    shape: Shape, share: float, edges: int
) -> None:
    assert Graph(shape).edges_in(share) == edges


def test_a_count_given_as_a_share_is_that_count() -> None:
    graph = Graph(GPT2_SMALL)
    assert [graph.edges_in(n / graph.edges) for n in range(5000)] == list(range(5000))


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (4, 4), (3, 5)])
def test_closed_form(layers: int, heads: int, parallel: bool) -> None:
    shape = Shape(layers, heads, heads, 8, 8 * heads, 16, 10, parallel)
    assert Graph(shape).edges == count(layers, heads, parallel)


def test_small_case_by_hand() -> None:
    graph = Graph(Shape(1, 2, 2, 4, 8, 16, 10, False))
    assert graph.sources == ["input", "a0.h0", "a0.h1", "m0"]
    assert graph.destinations == [
        *("a0.h0<q>", "a0.h1<q>", "a0.h0<k>", "a0.h1<k>", "a0.h0<v>", "a0.h1<v>"),
        *("m0", "logits"),
    ]
    assert graph.exists.astype(int).tolist() == [
        [1] * 8,
        [0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]


def test_parallel_blocks_have_no_edge_from_heads_to_their_own_mlp() -> None:
    shape = Shape(2, 2, 2, 4, 8, 16, 10, True)
    graph = Graph(shape)
    assert not graph.exists[graph.attention_sources(1), graph.mlp_destination(1)].any()
    assert graph.exists[graph.attention_sources(0), graph.mlp_destination(1)].all()
    assert Graph(replace(shape, parallel=False)).edges == graph.edges + 4


def test_groups() -> None:
    shape = Shape(3, 4, 2, 16, 64, 128, 256, False)
    grouped, expanded = Graph(shape), Graph(shape, expand_groups=True)
    assert expanded.edges == 262  # of the reference on the same shape
    assert len(grouped.destinations) == len(expanded.destinations) - 3 * 4
    assert "a2.g1<k>" in grouped.destinations
    assert "a2.h3<v>" in expanded.destinations
    assert grouped.destinations[grouped.value_columns(1)] == ["a1.g0<v>", "a1.g1<v>"]


@pytest.mark.parametrize("expand", [False, True])
def test_index_maps(expand: bool) -> None:
    graph = Graph(Shape(3, 4, 2, 16, 64, 128, 256, False), expand)
    for layer in range(3):
        assert graph.sources[graph.attention_sources(layer)] == [f"a{layer}.h{h}" for h in range(4)]
        assert graph.sources[graph.mlp_source(layer)] == f"m{layer}"
        for columns, letter in (
            (graph.query_columns(layer), "q"),
            (graph.key_columns(layer), "k"),
            (graph.value_columns(layer), "v"),
        ):
            names = graph.destinations[columns]
            assert all(n.startswith(f"a{layer}.") and n.endswith(f"<{letter}>") for n in names)
            assert (graph.exists[:, columns].sum(0) == graph.attention_reads(layer)).all()
        assert graph.destinations[graph.mlp_destination(layer)] == f"m{layer}"
        assert graph.exists[:, graph.mlp_destination(layer)].sum() == graph.mlp_reads(layer)
    assert graph.destinations[-1] == "logits"
    assert graph.exists[:, -1].all()


def test_edge_names_are_all_and_once() -> None:
    graph = Graph(Shape(2, 2, 2, 4, 8, 16, 10, False))
    names = graph.edge_names()
    assert len({name for name, _, _ in names}) == graph.edges
    assert ("input->a0.h1<k>", 0, graph.key_columns(0).start + 1) in names
    mask = np.zeros_like(graph.exists)
    for _, row, column in names:
        mask[row, column] = True
    assert (mask == graph.exists).all()


def test_graphs_are_equal_by_shape() -> None:
    assert Graph(GPT2_SMALL) == Graph(GPT2_SMALL)
    assert Graph(GPT2_SMALL) != Graph(replace(GPT2_SMALL, layers=11))
