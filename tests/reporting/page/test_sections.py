"""Views of single sections: copied words, faithfulness curves, a comparison of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sumcirc.circuits.card.lines import BARS, FAIL, PASS, Card, Line, untested
from sumcirc.reporting.page import circuit_section, models_section
from sumcirc.reporting.page.blocks import Bullets, ChartBlock, Page, Piece, TableBlock, Words
from sumcirc.reporting.page.summary_examples import marked
from sumcirc.statistics import Interval
from sumcirc.storage.writing import write_json
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


def circuit_blocks(tmp_path: Path, points: list[dict[str, Any]], draws: int = 2) -> list[Any]:
    """The blocks of a run of `sumcirc circuit` that has these points in faithfulness.json."""
    run = write_run(tmp_path / "s/c", config(), 0.4, state="running", verb="circuit")
    curves = {"points": points, "random": [points] * draws}
    write_json(run.path / "circuits/faithfulness.json", {"absolute": curves, "signed": curves})
    return circuit_section.blocks(RunRecords(run.path))


def test_random_circuits_stand_beside_the_curve(tmp_path: Path) -> None:
    points = [{"edges": edges, "faithfulness": {**ENDS, "n": 9}} for edges in (0, 10, 100)]
    (chart,) = circuit_blocks(tmp_path, points)
    assert isinstance(chart, ChartBlock)
    traces = chart.figure["data"]
    names = [trace["name"].strip("\u2068\u2069") for trace in traces]
    assert names == ["by |score|, in-sample", "by score, in-sample", "random edges"]
    assert list(traces[0]["x"]) == [10, 100]  # a logarithmic axis has no 0
    assert traces[0]["error_y"]["array"] == pytest.approx([0.1, 0.1])


def test_a_card_is_shown_with_what_it_assumes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/c", config(), 0.4, state="running", verb="circuit")
    lines = [
        Line("minimal", FAIL, Interval(0.25, 0.1, 0.5, 8), "2 of 8 edges matter"),
        Line("complete", PASS, Interval(-0.001, -0.004, 0.004, 8), "nothing is left"),
        untested("exact", "", "card.lines=[quick,exact]", 1234),
    ]
    said = {"estimand": ["A share."], "ablation": ["Zero."], "assumptions": ["One.", "Two."]}
    write_json(run.path / "circuits/card.json", Card(lines, said).as_json())
    table, assumed = circuit_section.blocks(RunRecords(run.path))
    assert isinstance(table, TableBlock)
    assert table.table.title == "Card of the circuit: 1 passed, 1 failed, 1 not tested"
    assert [row[:3] for row in table.table.rows] == [
        ["minimal", "fail", "0.25 [0.10, 0.50]"],
        ["complete", "pass", "0.00 [0.00, 0.00]"],
        ["exact", "not tested", "-"],
    ]
    assert table.table.rows[0][3:] == [
        "share of edges whose removal matters: at least 0.9",
        "2 of 8 edges matter",
        BARS["minimal"].source,
    ]
    assert (
        table.table.rows[2][4] == "tested with card.lines=[quick,exact], 1,234 passes over one pair"
    )
    assert isinstance(assumed, Bullets)
    assert assumed.lines == [
        "estimated: A share.",
        "ablation: Zero.",
        "assumed: One.",
        "assumed: Two.",
    ]


def test_circuits_without_faithfulness_are_not_drawn(tmp_path: Path) -> None:
    nothing = {**dict.fromkeys(ENDS), "n": 9}
    points = [{"edges": edges, "faithfulness": nothing} for edges in (0, 10, 100)]
    (words,) = circuit_blocks(tmp_path, points, 1)
    assert isinstance(words, Words)
    assert "No circuit has a faithfulness" in words.text


def test_edges_that_came_and_went_are_marked_beyond_noise() -> None:
    *_, chart = circuit_section.evolution(made_up())
    assert isinstance(chart, ChartBlock)
    assert chart.slider is not None
    assert chart.slider.names == ["base to step 10", "step 10 to step 100"]
    (last,) = chart.frames[-1]
    assert last["z"][0][:2] == [2, 1]
    assert last["text"][0][:2] == ["•", ""]
    assert last["customdata"][0][:2] == ["1 joined, 1 left", "0 joined, 1 left"]


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
    models_section.add(page, [run])
    (section,) = page.sections
    charts = {block.title: block for block in section.blocks if isinstance(block, ChartBlock)}
    assert list(charts) == [
        "Patch scores, necessity: outputs of heads and MLPs",
        "Patch scores, necessity: values of heads",
        "Output against value, necessity",
        "Sets of parts, necessity",
        "Scaling the change of weights",
    ]
    heat = charts["Patch scores, necessity: outputs of heads and MLPs"].figure["data"][0]
    assert [list(row) for row in heat["z"]] == [[0.0, 0.0], [0.1, 0.1]]  # layers by head and MLP
    assert [list(row) for row in heat["text"]] == [["", ""], ["•", "•"]]
