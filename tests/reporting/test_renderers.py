"""Every kind of data is drawn by every renderer, and text in it stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures.views import RENDERERS, draw
from sumcirc.reporting.kinds import (
    PALETTE,
    Bar,
    Bars,
    Curve,
    Curves,
    Dot,
    Dots,
    Map,
    NodeGraph,
    Table,
    View,
)
from sumcirc.reporting.page.plotly_charts import chart
from sumcirc.reporting.tables import markdown_table, print_tables
from tests.support.pages import HOSTILE

VALUES = np.array([[0.0, 1.0], [np.nan, -2.0]])
PANELS = {
    "curves": Curves(HOSTILE, "y", [Curve(HOSTILE, [1, 2], [0.5, 1.0], [0.4, 0.9], [0.6, 1.1])]),
    "steps": Curves("step", "y", [Curve("a", [0, 9], [1, 2]), Curve("b", [0], [3])], "step"),
    "names": Curves(
        "at", "y", [Curve(HOSTILE, ["base", "5"], [1, 2], filled=[True, False])], "name"
    ),
    "map": Map(VALUES, HOSTILE, "nats", True, VALUES > 0, columns=[HOSTILE, "MLP"], parted=True),
    "bars": Bars(HOSTILE, [Bar(HOSTILE, 1.0, 0.5, 1.5, "s"), Bar("b", 2.0, series="t")]),
    "dots": Dots(HOSTILE, "y", [Dot(HOSTILE, 1.0, 2.0, 1.0, 3.0), Dot("b", 9.0, 1.0)], "each"),
    "graph": NodeGraph([("input", "a0.h0", "q", 1.0), ("a0.h0", "logits", "", -0.5)], 1, 1, 2),
}


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(panel) for panel in PANELS.values()} == set(RENDERERS)


@pytest.mark.parametrize("name", PANELS)
def test_every_kind_is_drawn_as_a_picture_and_as_a_chart(name: str, tmp_path: Path) -> None:
    view = View("title", [[PANELS[name]]], "caption", "what it says", columns=("x",), rows=[(1,)])
    draw(view, tmp_path / "v")
    assert {path.name for path in tmp_path.iterdir()} == {"v.png", "v.pdf", "v.csv"}
    made = chart(view)
    assert (made.title, made.caption, made.alt) == ("title", "caption", "what it says")
    data = json.loads(made.data())
    assert data["figure"]["data"] or data["circuit"]["frames"][0]
    texts = json.dumps(data)
    assert "<script>" not in texts  # plotly reads a few tags
    assert "\\u202e" not in texts.replace("\\\\u202e", "")  # shown, and not obeyed


def test_curves_are_told_apart_by_palette_marker_and_dash() -> None:
    curves = [Curve(f"c{i}", [0, 1], [i, i]) for i in range(8)]
    found = chart(View("t", [[Curves("x", "y", curves)]])).figure["data"]
    looks = {(trace["line"]["color"], trace["line"]["dash"]) for trace in found}
    assert len(looks) == 8
    assert {colour for colour, _ in looks} == set(PALETTE)


def test_a_slider_has_one_scale_and_a_frame_for_each_view() -> None:
    views = [View("t", [[Map(VALUES * k, "l", signed=True)]]) for k in (1.0, 3.0)]
    made = chart(views[1], views[:1], ["first", "second"])
    assert made.slider is not None
    assert list(made.slider.names) == ["first", "second"]
    assert [frame[0]["z"][0][1] for frame in made.frames] == [1.0, 3.0]
    assert (made.figure["data"][0]["zmin"], made.figure["data"][0]["zmax"]) == (-6.0, 6.0)


def test_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("t", ["name", "a|b"], [[HOSTILE, "1 [0, 2]"], ["x", "2"]])
    print_tables(table)
    shown: Any = capsys.readouterr().out
    assert "\u202e" not in shown
    lines = markdown_table(table).splitlines()
    assert len(lines) == 4
    assert r"a\|b" in lines[0]
    assert r"\<script\>" in lines[2]
