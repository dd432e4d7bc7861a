"""EAP-IG's circuit files: theirs are read, ours are as theirs, and nothing is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sumcirc.circuits.eap_ig_format import read_circuit, write_circuit
from sumcirc.circuits.edge_selection import circuit_nodes, greedy, prune, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape

REFERENCE = Path(__file__).parents[1] / "fixtures" / "eap_ig"
FILES = [
    f"circuit_EAP-IG-inputs_kl_all_{how}_{n}.json" for how in ("topn", "greedy") for n in (50,)
]
SMALL = Graph(Shape(4, 4, 4, 16, 64, 256, 512, False))
GROUPED = Graph(Shape(3, 4, 2, 16, 64, 128, 256, False))
PARALLEL = Graph(Shape(2, 3, 3, 16, 48, 128, 256, True))


def random_circuit(graph: Graph, n: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = np.random.default_rng(0).normal(size=graph.exists.shape) * graph.exists
    return scores, prune(top_n(scores, graph, n), graph)


@pytest.mark.parametrize("name", FILES)
def test_the_references_files_are_read(name: str) -> None:
    circuit = read_circuit(REFERENCE / name)
    with np.load(REFERENCE / "small_gpt2_reference.npz") as arrays:
        scores = arrays["scores/EAP-IG-inputs/kl_all/f64"]
    assert circuit.graph.destinations == SMALL.destinations
    assert (circuit.scores == np.where(SMALL.exists, scores, 0)).all()
    select = top_n if "topn" in name else greedy
    assert (
        circuit.kept == prune(select(scores, SMALL, int(name[:-5].split("_")[-1])), SMALL)
    ).all()
    assert (circuit.graph.shape.layers, circuit.graph.shape.width) == (4, 64)


@pytest.mark.parametrize("name", FILES)
def test_files_are_written_as_the_references(name: str, tmp_path: Path) -> None:
    circuit = read_circuit(REFERENCE / name)
    write_circuit(tmp_path / "c.json", circuit.scores, circuit.kept, circuit.graph)
    ours = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    theirs = json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    assert ours == theirs
    assert [list(part) for part in ours.values()] == [list(part) for part in theirs.values()]


@pytest.mark.parametrize("graph", [SMALL, PARALLEL])
def test_round_trip(graph: Graph, tmp_path: Path) -> None:
    scores, kept = random_circuit(graph, 60)
    write_circuit(tmp_path / "c.json", scores, kept, graph)
    found = read_circuit(tmp_path / "c.json")
    assert (found.scores == scores).all()
    assert (found.kept == kept).all()
    assert (found.graph.sources, found.graph.destinations) == (graph.sources, graph.destinations)


def test_float32_scores_come_back_exactly(tmp_path: Path) -> None:
    scores, kept = random_circuit(SMALL, 60)
    small = scores.astype(np.float32) * np.float32(1e-8)
    write_circuit(tmp_path / "c.json", small, kept, SMALL)
    assert (read_circuit(tmp_path / "c.json").scores == small).all()


@pytest.mark.parametrize("pruned", [True, False])
def test_groups_are_expanded(pruned: bool, tmp_path: Path) -> None:
    scores, _ = random_circuit(GROUPED, 0)
    kept = top_n(scores, GROUPED, 25)
    kept = prune(kept, GROUPED) if pruned else kept
    write_circuit(tmp_path / "c.json", scores, kept, GROUPED)
    found = read_circuit(tmp_path / "c.json")
    whole = Graph(GROUPED.shape, expand_groups=True)
    assert found.graph.destinations == whole.destinations
    sums, any_kept = np.zeros_like(scores), np.zeros_like(kept)
    for column, name in enumerate(whole.destinations):
        if name.endswith(("<k>", "<v>")):
            layer, head = name[:-3].split(".h")
            name = f"{layer}.g{int(head) // 2}{name[-3:]}"
        sums[:, GROUPED.destinations.index(name)] += found.scores[:, column]
        any_kept[:, GROUPED.destinations.index(name)] |= found.kept[:, column]
    np.testing.assert_allclose(sums, scores, atol=1e-15)
    if pruned:
        assert (any_kept == kept).all()
        assert (prune(found.kept, whole) == found.kept).all()
        assert (circuit_nodes(found.kept, whole) == circuit_nodes(kept, GROUPED)).all()


def test_the_older_format_is_read(tmp_path: Path) -> None:
    content = json.loads((REFERENCE / FILES[0]).read_text(encoding="utf-8"))
    content["nodes"] = {name: node["in_graph"] for name, node in content["nodes"].items()}
    del content["cfg"]["d_model"]
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    old, new = read_circuit(tmp_path / "old.json"), read_circuit(REFERENCE / FILES[0])
    assert (old.kept == new.kept).all()
    assert (old.scores == new.scores).all()
    assert old.graph.shape.width == 0


def test_an_edge_of_a_node_that_is_out_is_out(tmp_path: Path) -> None:
    content = json.loads((REFERENCE / FILES[0]).read_text(encoding="utf-8"))
    content["nodes"]["m1"]["in_graph"] = False
    (tmp_path / "c.json").write_text(json.dumps(content), encoding="utf-8")
    kept, before = read_circuit(tmp_path / "c.json").kept, read_circuit(REFERENCE / FILES[0]).kept
    row, column = SMALL.mlp_source(1), SMALL.mlp_destination(1)
    assert not kept[row].any()
    assert not kept[:, column].any()
    before[row], before[:, column] = False, False
    assert (kept == before).all()


def set_at(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def collapse(content: dict[str, Any]) -> None:
    content["edges"] = {name.split("<")[0]: edge for name, edge in content["edges"].items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("nodes"), "`nodes` is missing"),
        (lambda content: content["cfg"].pop("n_heads"), "`cfg.n_heads` is missing"),
        (set_at("cfg", "n_layers", value=0), "`cfg.n_layers` is 0, not 1 to"),
        (set_at("cfg", "n_layers", value=True), "`cfg.n_layers` is true, not a whole"),
        (set_at("cfg", "n_layers", value=9999), "lists 479 edges, a model of 9999 layers"),
        (set_at("cfg", "n_layers", value=10**9), "`cfg.n_layers` is 1000000000, not 1 to"),
        (set_at("cfg", "d_model", value="64"), '`cfg.d_model` is "64", not a whole number'),
        (set_at("cfg", "parallel_attn_mlp", value=True), "lists 479 edges, .* has 463"),
        (lambda content: content["edges"].pop("m3->logits"), "lists 478 edges, .* has 479"),
        (collapse, "don't say whether they lead to a query"),
        (set_at("edges", "m3->logits", "score", value=float("nan")), "m3->logits.score` is nan"),
        (set_at("edges", "m3->logits", "score", value="0.1"), 'm3->logits.score` is "0.1"'),
        (
            set_at("edges", "m3->logits", "score", value=10**400),
            "m3->logits.score` is a whole number of more",
        ),
        (set_at("edges", "m3->logits", "in_graph", value=1), "m3->logits.in_graph` is 1, not true"),
        (set_at("edges", "m3->logits", value=True), "`edges.m3->logits` is true, not a mapping"),
        (lambda content: content["nodes"].pop("a1.h2"), "node `a1.h2` is missing"),
        (set_at("nodes", "a9.h9", value=True), "node `a9.h9` is missing or not"),
        (set_at("nodes", "m1", value="yes"), '`nodes.m1` is "yes", not a mapping or true'),
        (set_at("nodes", "m1", "neurons", value=[True]), "circuit of neurons"),
    ],
)
def test_malformed_files(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    content = json.loads((REFERENCE / FILES[0]).read_text(encoding="utf-8"))
    change(content)
    (tmp_path / "c.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_circuit(tmp_path / "c.json")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "c.json"))


def test_an_edge_by_another_name(tmp_path: Path) -> None:
    text = (REFERENCE / FILES[0]).read_text(encoding="utf-8")
    (tmp_path / "c.json").write_text(text.replace('"m3->logits"', '"m3->m2"'), encoding="utf-8")
    with pytest.raises(UserError, match="names the edge `m3->m2`"):
        read_circuit(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000, "1" * 5000, "\udcff"])
def test_files_that_are_no_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"is not|is nested|is \[1|is a list|is 1") as caught:
        read_circuit(tmp_path / "c.json")
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        read_circuit(tmp_path / "none.json")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    scores, kept = random_circuit(SMALL, 20)
    scores[0, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinite can't be written"):
        write_circuit(tmp_path / "c.json", scores, kept, SMALL)
    with pytest.raises(ValueError, match="expected the graph's shape"):
        write_circuit(tmp_path / "c.json", scores[:2], kept, SMALL)
    assert not list(tmp_path.iterdir())
