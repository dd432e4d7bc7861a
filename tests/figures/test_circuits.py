"""Figures of circuits show the edges they are given, and can be read."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm, to_rgb
from matplotlib.patches import PathPatch

from sumcirc.figures.views import draw
from sumcirc.reporting.kinds import PALETTE, NotDrawableError
from sumcirc.reporting.views.circuit_curves import RANDOM, evolution, faithfulness
from sumcirc.reporting.views.circuit_graphs import graph, node_scores

EDGES = [
    ("input", "m0", 0.4),
    ("input", "a0.h1<q>", -0.1),
    ("a0.h1", "a1.h0<k>", 0.2),
    ("m0", "a1.h0<v>", 0.05),
    ("a1.h0", "logits", -0.3),
    ("m0", "logits", 0.0),
]


def rows_of(target: Path) -> list[list[str]]:
    with open(target.with_suffix(".csv"), encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def lines_of(figure: Any) -> list[PathPatch]:
    """Edges, from small |score| to large."""
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def texts_of(figure: Any) -> set[str]:
    return {text.get_text() for text in figure.axes[0].texts}


def test_a_circuit_as_it_is_given(tmp_path: Path, drawn: list[Any]) -> None:
    draw(graph(EDGES, (2, 2), "step 200", "nats"), tmp_path / "circuit.png")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf", ".csv"}
    assert rows_of(tmp_path / "circuit") == [
        ["source", "destination", "score"],
        *([source, destination, repr(score)] for source, destination, score in EDGES),
    ]
    figure = drawn[0]
    lines = lines_of(figure)
    assert len(lines) == len(EDGES)
    widths = [line.get_linewidth() for line in lines]
    assert widths == sorted(widths)
    assert widths[-1] > 4 * widths[1]
    assert texts_of(figure) == {"input", "m0", "h1", "h0", "logits"}
    assert figure.get_suptitle() == "step 200: 6 edges, 5 nodes"
    # blue below zero, vermilion above; the palest of a sign is still of its hue
    by_size = sorted(EDGES, key=lambda edge: abs(edge[2]))
    for line, (_, _, score) in list(zip(lines, by_size, strict=True))[1:]:
        red, _, blue = line.get_edgecolor()[:3]
        assert (red > blue) == (score > 0)
    assert lines[-1].get_edgecolor()[:3] == pytest.approx(to_rgb(PALETTE[1]))
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"into a query", "into a key", "into a value", "|score| 0.4 nats"} <= legend


def test_query_key_and_value_arrive_at_places_and_by_lines_of_their_own(
    tmp_path: Path, drawn: list[Any]
) -> None:
    edges = [("input", f"a1.h0<{letter}>", 1.0) for letter in "qkv"] + [("a1.h0", "logits", 1.0)]
    draw(graph(edges, (2, 2)), tmp_path / "circuit")
    lines = lines_of(drawn[0])[:3]
    assert len({str(line.get_linestyle()) for line in lines}) == 3
    ends = [line.get_path().vertices[-1] for line in lines]
    assert ends[0][0] < ends[1][0] < ends[2][0]
    assert len({tuple(line.get_path().vertices[0]) for line in lines}) == 1


def test_an_edge_into_a_group_goes_to_its_heads(tmp_path: Path, drawn: list[Any]) -> None:
    edges = [("input", "a1.g1<k>", 0.9), *((f"a1.h{head}", "logits", 0.5) for head in (0, 2, 3))]
    draw(graph(edges, (2, 4), group=2), tmp_path / "circuit")
    assert len(lines_of(drawn[0])) == 5
    assert texts_of(drawn[0]) == {"input", "h0", "h2", "h3", "logits"}
    assert len(rows_of(tmp_path / "circuit")) == 1 + len(edges)


def test_nodes_of_a_large_circuit_do_not_touch(tmp_path: Path, drawn: list[Any]) -> None:
    rng = np.random.default_rng(0)
    nodes = ["input"]
    for layer in range(12):
        nodes += [f"a{layer}.h{head}" for head in range(12)] + [f"m{layer}"]
    edges = [("input", f"{node}<q>" if ".h" in node else node, 1.0) for node in nodes[1:]]
    edges += [(node, "logits", float(rng.normal())) for node in nodes]
    draw(graph(edges, (12, 12)), tmp_path / "circuit")
    figure = drawn[0]
    FigureCanvasAgg(figure).draw()
    places = figure.axes[0].transData.transform(
        np.vstack([points.get_offsets() for points in figure.axes[0].collections])
    )
    radii = [
        np.sqrt(points.get_sizes()[0]) / 2 * figure.dpi / 72
        for points in figure.axes[0].collections
    ]
    assert len(places) == 158
    gaps = [
        np.linalg.norm(places[i] - places[j]) - radii[i] - radii[j]
        for i, j in combinations(range(len(radii)), 2)
    ]
    assert min(gaps) > 0


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], "no edges to draw"),
        ([("a9.h0", "logits", 1.0)], "there is no edge a9.h0->logits"),
        ([("input", "a0.h7<q>", 1.0)], "there is no edge input->a0.h7<q>"),
        ([("input", "a0.h0<x>", 1.0)], "there is no edge input->a0.h0<x>"),
    ],
)
def test_circuits_that_cannot_be_drawn(edges: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotDrawableError, match=message):
        draw(graph(edges, (2, 2)), tmp_path / "circuit")
    assert not list(tmp_path.iterdir())


def test_a_circuit_without_size(tmp_path: Path, drawn: list[Any]) -> None:
    draw(graph([("input", "logits", 0.0)], (1, 1)), tmp_path / "circuit")
    assert rows_of(tmp_path / "circuit")[1:] == [["input", "logits", "0.0"]]
    (line,) = lines_of(drawn[0])
    assert np.isfinite(line.get_linewidth())
    assert texts_of(drawn[0]) == {"input", "logits"}


def test_node_scores(tmp_path: Path, drawn: list[Any]) -> None:
    heads, mlp = np.arange(6.0).reshape(2, 3), np.array([10.0, np.nan])
    draw(node_scores(heads, "score", "nats", mlp), tmp_path / "nodes")
    rows = rows_of(tmp_path / "nodes")
    assert rows[1] == ["a0.h0", "0", "0", "0.0"]
    assert rows[4] == ["m0", "0", "", "10.0"]
    assert rows[7:] == [["a1.h2", "1", "2", "5.0"], ["m1", "1", "", ""]]
    image = drawn[0].axes[0].images[0]
    assert isinstance(image.norm, PowerNorm)
    assert (image.norm.vmin, image.norm.vmax) == (0.0, 10.0)
    assert [text.get_text() for text in drawn[0].axes[0].get_xticklabels()][-1] == "MLP"


def test_differences_of_node_scores_are_white_at_zero(tmp_path: Path, drawn: list[Any]) -> None:
    draw(node_scores(np.array([[1.0, -4.0]]), "change", "nats"), tmp_path / "nodes")
    image = drawn[0].axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-4.0, 4.0)
    assert min(image.cmap(0.5)[:3]) > 0.9
    with pytest.raises(NotDrawableError, match="none is finite"):
        node_scores(np.full((2, 2), np.nan), "x")


def sized(*points: tuple[int, float | None]) -> list[dict[str, Any]]:
    """Circuits of some edges with a faithfulness, its interval 0.1 to either side."""
    return [
        {
            "edges": edges,
            "faithfulness": {
                "mean": mean,
                "low": None if mean is None else mean - 0.1,
                "high": None if mean is None else mean + 0.1,
            },
        }
        for edges, mean in points
    ]


def test_faithfulness(tmp_path: Path, drawn: list[Any]) -> None:
    ranked = {"points": sized((0, 0.0), (10, 0.5), (100, 0.75)), "random": []}
    random = [sized((0, 0.0), (10, 0.0), (100, 0.25)), sized((0, 0.0), (10, 0.5), (100, None))]
    record = {"absolute": {**ranked, "random": random}, "signed": ranked}
    draw(faithfulness(record, 1000), tmp_path / "faithfulness")
    assert rows_of(tmp_path / "faithfulness")[1:] == [
        ["by |score|, in-sample", "10", "0.5", "0.4", "0.6"],
        ["by |score|, in-sample", "100", "0.75", "0.65", "0.85"],
        ["by score, in-sample", "10", "0.5", "0.4", "0.6"],
        ["by score, in-sample", "100", "0.75", "0.65", "0.85"],
        [RANDOM, "10.0", "0.25", "0.0", "0.5"],  # from the lowest to the highest
    ]
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    curves = {line.get_label(): line for line in axes.lines}
    assert curves["by |score|, in-sample"].get_xdata().tolist() == [10, 100]
    assert curves["by |score|, in-sample"].get_color() == PALETTE[0]
    assert curves[RANDOM].get_color() == "0.45"


def test_a_long_interval_leaves_the_curves_readable(tmp_path: Path, drawn: list[Any]) -> None:
    points = sized((10, 0.5), (100, 0.75))
    ranked = {"points": points, "random": []}
    record = {"absolute": {**ranked, "random": [points]}, "signed": ranked}
    assert faithfulness(record).panel.limits == (None, None)
    points[0]["faithfulness"]["low"] = -17.0
    view = faithfulness(record)
    assert view.panel.limits == (-0.5, 1.5)
    assert "the table has all" in view.caption
    draw(view, tmp_path / "faithfulness")
    assert drawn[0].axes[0].get_ylim() == (-0.5, 1.5)
    assert rows_of(tmp_path / "faithfulness")[1][3] == "-17.0"


def test_faithfulness_that_cannot_be_drawn() -> None:
    nothing = {"points": sized((0, 0.0), (10, None)), "random": [sized((0, 0.0), (10, None))]}
    with pytest.raises(NotDrawableError, match="no circuit has a faithfulness"):
        faithfulness({"absolute": nothing, "signed": nothing})


def made_track(count: int) -> dict[str, Any]:
    values = np.linspace(0.9, 0.3, count)
    comparison = {
        "jaccard": values,
        "low": values - 0.1,
        "high": values + 0.05,
        "chance": np.full(count, 0.02),
        "differs": values < 0.6,
    }
    names = ("to_first", "to_previous", "to_last")
    return {
        **dict.fromkeys(names, comparison),
        "within": np.full(count, 0.8),
        "change_rate": np.arange(count) * 10.0,
    }


@pytest.mark.parametrize("steps", [[-1, 10, 100, 1000], [0, 300, 600], [-1, 0, 5], [-1, 200]])
def test_evolution(steps: list[int], tmp_path: Path, drawn: list[Any]) -> None:
    tracks = {name: made_track(len(steps)) for name in ("edges", "nodes")}
    draw(evolution({"steps": steps, **tracks}), tmp_path / "evolution")
    rows = rows_of(tmp_path / "evolution")
    assert len(rows) == 1 + 2 * 3 * len(steps)
    assert rows[1][:4] == ["edges", str(steps[0]), "first", "0.9"]
    figure = drawn[0]
    assert len(figure.axes) == 4
    FigureCanvasAgg(figure).draw()
    ticks = zip(figure.axes[2].get_xticks(), figure.axes[2].get_xticklabels(), strict=True)
    labels = [text.get_text() for _, text in sorted(ticks, key=lambda tick: tick[0])]
    assert labels == ["base" if step < 0 else f"{step:,}" for step in steps]
    assert figure.axes[2].get_title() == f"in all {sum(range(len(steps))) * 10} %"
    # a checkpoint isn't compared with itself
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "with the first"]
    assert np.isnan(line.get_ydata()[0])
    assert np.isfinite(line.get_ydata()[1:]).all()
    given = tracks["edges"]["to_first"]["jaccard"]
    assert np.isfinite(given).all()


def test_evolution_that_cannot_be_drawn() -> None:
    with pytest.raises(NotDrawableError, match="1 checkpoint"):
        evolution({"steps": [0], "edges": made_track(1)})


def test_values_read_from_json_may_be_null(tmp_path: Path) -> None:
    track = made_track(2)
    track["to_previous"] = {**track["to_previous"], "jaccard": [None, 0.5], "low": None}
    draw(evolution({"steps": [0, 5], "edges": track}), tmp_path / "e")
    assert rows_of(tmp_path / "e")[3][3:5] == ["", ""]
