"""Views of single sections: copied words, faithfulness curves, a comparison of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from sumcirc.reporting.page import models
from sumcirc.reporting.page.circuit_curves import evolution, faithfulness
from sumcirc.reporting.page.examples import marked
from sumcirc.reporting.page.view import Chart, Page, Piece, Words
from sumcirc.tracking.run_records import RunRecords
from tests.support.pages import evolution as made_up
from tests.support.sweeps import config, write_run

ENDS = {"mean": 0.5, "low": 0.4, "high": 0.6}


@pytest.mark.parametrize(
    ("document", "summary", "copied"),
    [
        ("On Monday the ferry sank.", "A ship: the Ferry sank!", ["the Ferry sank"]),
        ("One two. Three", "two three one", ["two three"]),
        ("İstanbul'da sis var", "Bugün sis var", ["sis var"]),
        ("a b", "", []),
        ("", "the ferry sank", []),
    ],
)
def test_copied_runs_are_marked(document: str, summary: str, copied: list[str]) -> None:
    pieces = marked(document, summary)
    assert "".join(piece.text for piece in pieces) == summary
    assert [piece.text for piece in pieces if piece.copied] == copied
    assert Piece("") not in pieces


def test_random_circuits_stand_beside_the_curve() -> None:
    points = [{"edges": edges, "faithfulness": ENDS} for edges in (0, 10, 100)]
    curves = {"points": points, "random": [points, points]}
    (chart,) = faithfulness({"absolute": curves, "signed": curves})
    assert isinstance(chart, Chart)
    traces = chart.figure["data"]
    assert [trace["name"] for trace in traces] == ["by |score|", "by score", "random", "random"]
    assert list(traces[0]["x"]) == [10, 100]  # a logarithmic axis has no 0
    assert traces[0]["error_y"]["array"] == pytest.approx([0.1, 0.1])


def test_circuits_without_faithfulness_are_not_drawn() -> None:
    nothing = dict.fromkeys(ENDS, float("nan"))
    points = [{"edges": edges, "faithfulness": nothing} for edges in (0, 10, 100)]
    curves = {"points": points, "random": [points]}
    (words,) = faithfulness({"absolute": curves, "signed": curves})
    assert isinstance(words, Words)
    assert "No circuit has a faithfulness" in words.text


def test_edges_that_came_and_went_are_marked_beyond_noise() -> None:
    *_, chart = evolution(made_up())
    assert isinstance(chart, Chart)
    assert chart.slider is not None
    assert chart.slider.names == ["base to step 10", "step 10 to step 100"]
    (last,) = chart.frames[-1]
    assert last["z"][0][:2] == [2, 1]
    assert last["text"][0][:2] == ["•", ""]
    assert last["customdata"][0][:2] == [[1, 1], [0, 1]]


def test_a_comparison_of_models(tmp_path: Path) -> None:
    run = RunRecords(write_run(tmp_path / "s/r", config(), 0.4).path)
    parts = [
        {**ENDS, "part": f"{kind}.{layer}", "kind": kind, "layer": layer, "index": 0}
        | {"significant": layer == 1, "mean": 0.1 * layer}
        for kind in ("output", "value", "mlp", "residual")
        for layer in (0, 1)
    ]
    sets = [{**ENDS, "kind": kind, "draw": 0, "size": 1} for kind in ("first", "random")]
    surgery = [
        {**ENDS, "arm": arm, "layer": None, "module": None, "amount": 0.5}
        for arm in ("whole", "only")
    ]
    run.summary = {
        **{"before": "tiny", "metric": "log_probability", "unit": "nats", "items": 8},
        "after": {
            "tuned": {
                "metric": dict.fromkeys(("before", "after", "difference"), ENDS),
                "patching": {"necessity": {"parts": parts, "sets": sets}},
                "surgery": surgery,
            }
        },
    }
    page = Page("r")
    models.add(page, [run])
    (section,) = page.sections
    charts = {block.title: block for block in section.blocks if isinstance(block, Chart)}
    assert list(charts) == [
        "Patch scores, necessity: outputs of heads and MLPs",
        "Patch scores, necessity: values of heads",
        "Sets of parts, necessity",
        "Scaling the change of weights",
    ]
    heat = charts["Patch scores, necessity: outputs of heads and MLPs"].figure["data"][0]
    assert [list(row) for row in heat["z"]] == [[0.0, 0.0], [0.1, 0.1]]  # layers by head and MLP
    assert [list(row) for row in heat["text"]] == [["", ""], ["•", "•"]]
