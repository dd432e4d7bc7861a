"""Figures of a comparison: nothing overlaps, and the CSV holds what is drawn."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures import comparison
from sumcirc.figures.comparison import Point, draw_differences, draw_losses, draw_parameters

UNIT = "ROUGE-Lsum x 100"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved."""
    figures: list[Any] = []
    save = comparison.save

    def keep(figure: Any, *rest: Any) -> None:
        save(figure, *rest)
        figures.append(figure)

    monkeypatch.setattr(comparison, "save", keep)
    return figures


def read(file: Path) -> list[dict[str, str]]:
    with open(file) as lines:
        return list(csv.DictReader(lines))


def arms(count: int, parameters: list[float]) -> list[Point]:
    return [
        Point(f"arm {i}", 30 + 0.1 * i, 29 + 0.1 * i, 31 + 0.1 * i, parameters[i % len(parameters)])
        for i in range(count)
    ]


def overlapping(figure: Any, texts: list[Any]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap in the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # an annotation's own extent has the line that leads to it
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts]
    return [
        (name, other)
        for (name, box), (other, second) in itertools.combinations(boxes, 2)
        if box.overlaps(second)
    ]


@pytest.mark.parametrize(
    ("count", "parameters"),
    [
        (1, [98304.0]),
        (2, [98304.0]),
        (14, [98304.0, 97000.0]),
        (14, [98304.0, 98304.0, 98304.0, 1746944.0]),
        (6, [98304.0 * 2**i for i in range(6)]),
        (3, [98304.0, 98400.0, 500000.0]),
    ],
)
def test_no_label_or_point_hides_another(
    count: int, parameters: list[float], drawn: list[Any], tmp_path: Path
) -> None:
    points = arms(count, parameters)
    draw_parameters(points, UNIT, tmp_path / "p.png")
    (axes,) = drawn[0].axes
    labels = [text for text in axes.texts if text.get_text().startswith("arm")]
    assert len(labels) == count
    assert overlapping(drawn[0], labels) == []
    assert overlapping(drawn[0], axes.get_xticklabels()) == []
    places = [axes.transData.transform(bars[0].get_xydata()[0])[0] for bars in axes.containers]
    gaps = np.diff(np.sort(places)) / drawn[0].dpi
    assert (gaps > 0.1).all()
    rows = read(tmp_path / "p.csv")
    assert [float(row["parameters"]) for row in rows] == [p.parameters for p in points]
    assert [float(row["high"]) for row in rows] == [p.high for p in points]


def test_sizes_that_differ_are_to_scale(drawn: list[Any], tmp_path: Path) -> None:
    sizes = [1000.0, 2000.0, 8000.0]
    draw_parameters(arms(3, sizes), UNIT, tmp_path / "p")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [bars[0].get_xdata()[0] for bars in axes.containers] == sizes
    assert "not to scale" not in axes.get_xlabel()


def test_equal_sizes_share_a_column(drawn: list[Any], tmp_path: Path) -> None:
    draw_parameters(arms(4, [1000.0, 1020.0, 5000.0]), UNIT, tmp_path / "p")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1k to 1.02k", "5k"]
    assert "not to scale" in axes.get_xlabel()


def test_a_forest_of_differences(drawn: list[Any], tmp_path: Path) -> None:
    shown, hollow = Point("b", 3.0, 2.0, 4.0), Point("a", -1.0, -3.0, 1.0, hollow=True)
    draw_differences(
        {"random": [hollow, shown], "all": [shown]}, ["b", "x", "a"], UNIT, tmp_path / "d.png"
    )
    panels = drawn[0].axes
    assert [panel.get_title() for panel in panels] == ["minus random", "minus all"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["b", "a"]
    low, high = panels[0].get_ylim()
    assert low > high  # the first of the order is on top
    fills = [bars[0].get_markerfacecolor() for bars in panels[0].containers]
    assert fills[0] == "white"
    assert fills[1] != "white"
    assert read(tmp_path / "d.csv")[1] == {
        **{"against": "random", "arm": "b", "difference": "3.0"},
        **{"low": "2.0", "high": "4.0", "shown": "1"},
    }


def test_losses_are_means_over_the_steps_that_all_runs_share(tmp_path: Path) -> None:
    curves = {"a": [[(0, 4.0), (5, 3.0), (7, 2.5)], [(0, 6.0), (5, 2.0)]], "b": [[(0, 5.0)]]}
    draw_losses(curves, tmp_path / "l.png")
    rows = read(tmp_path / "l.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("a", "0", "5.0", "4.0", "6.0"),
        ("a", "5", "2.5", "2.0", "3.0"),
        ("b", "0", "5.0", "5.0", "5.0"),
    ]


def test_places_move_no_further_than_they_must() -> None:
    apart = comparison._apart
    assert list(apart(np.array([0.1, 0.9]), 0, 1, 0.2)) == [0.1, 0.9]
    assert apart(np.array([0.5, 0.5]), 0, 1, 0.2) == pytest.approx([0.4, 0.6])
    assert apart(np.array([0.0, 0.0, 0.0]), 0, 1, 0.2) == pytest.approx([0.0, 0.2, 0.4])
    crowded = apart(np.full(9, 0.5), 0, 1, 0.5)
    assert crowded == pytest.approx(np.linspace(0, 1, 9))
    rng = np.random.default_rng(0)
    for _ in range(100):
        places = rng.uniform(size=8)
        moved = apart(places, 0, 1, 0.1)
        assert (np.diff(np.sort(moved)) > 0.1 - 1e-9).all()
        assert (np.argsort(moved) == np.argsort(places)).all()
        assert -1e-9 <= moved.min() <= moved.max() <= 1 + 1e-9
