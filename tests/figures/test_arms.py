"""Figures of a comparison: nothing overlaps, and the CSV holds what is drawn."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.figures.dots import apart
from sumcirc.figures.views import draw
from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.kinds import Bar, Bars, Dot, Dots, View
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.views.arm_views import differences, mean_losses, parameters
from tests.support.sweeps import config, write_run, write_sweep


def read(file: Path) -> list[dict[str, str]]:
    with open(file) as lines:
        return list(csv.DictReader(lines))


def arms(count: int, sizes: list[float]) -> View:
    dots = [
        Dot(f"arm {i}", sizes[i % len(sizes)], 30 + 0.1 * i, 29 + 0.1 * i, 31 + 0.1 * i)
        for i in range(count)
    ]
    names = frozenset(dot.name for dot in dots)
    panel = Dots("trainable parameters", "ROUGE x 100", dots, "each", named=names, columns=True)
    return View("arms", [[panel]])


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
    ("count", "sizes"),
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
    count: int, sizes: list[float], drawn: list[Any], tmp_path: Path
) -> None:
    draw(arms(count, sizes), tmp_path / "p.png")
    (axes,) = drawn[0].axes
    labels = [text for text in axes.texts if text.get_text().startswith("arm")]
    assert len(labels) == count
    assert overlapping(drawn[0], labels) == []
    assert overlapping(drawn[0], axes.get_xticklabels()) == []
    places = [axes.transData.transform(bars[0].get_xydata()[0])[0] for bars in axes.containers]
    gaps = np.diff(np.sort(places)) / drawn[0].dpi
    assert (gaps > 0.1).all()


def test_sizes_that_differ_are_to_scale(drawn: list[Any], tmp_path: Path) -> None:
    sizes = [1000.0, 2000.0, 8000.0]
    draw(arms(3, sizes), tmp_path / "p")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [bars[0].get_xdata()[0] for bars in axes.containers] == sizes
    assert "not to scale" not in axes.get_xlabel()


def test_equal_sizes_share_a_column(drawn: list[Any], tmp_path: Path) -> None:
    draw(arms(4, [1000.0, 1020.0, 5000.0]), tmp_path / "p")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1k to 1.02k", "5k"]
    assert "not to scale" in axes.get_xlabel()


def test_a_forest_of_differences(drawn: list[Any], tmp_path: Path) -> None:
    shown, hollow = Bar("b", 3.0, 2.0, 4.0), Bar("a", -1.0, -3.0, 1.0, filled=False)
    panels = [Bars("x", bars, zero=True, title="minus it") for bars in ([shown, hollow], [shown])]
    draw(View("differences", [panels]), tmp_path / "d.png")
    first, second = drawn[0].axes
    assert first.get_title() == second.get_title() == "minus it"
    assert [text.get_text() for text in first.get_yticklabels()] == ["b", "a"]
    low, high = first.get_ylim()
    assert low > high  # the first is on top
    fills = [bars[0].get_markerfacecolor() for bars in first.containers]
    assert fills[1] == "white"
    assert fills[0] != "white"


def test_the_tables_hold_what_is_drawn(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4, "page": 0.7, "full": 0.8}, noise=0.01)
    comparison = compare(*read_runs([tmp_path / "s"]), ComparisonOptions())
    draw(parameters(comparison), tmp_path / "p")
    rows = read(tmp_path / "p.csv")
    assert [row["arm"] for row in rows] == [result.arm.title for result in comparison.arms]
    sizes = [result.arm.trainable_parameters for result in comparison.arms]
    assert [float(row["parameters"]) for row in rows] == sizes
    draw(differences(comparison), tmp_path / "d")
    by_arm = {found.arm.title: found for found in comparison.of("random", "rougeLsum_f1")}
    rows = read(tmp_path / "d.csv")
    assert {row["arm"] for row in rows} == set(by_arm)
    for row in rows:
        found = by_arm[row["arm"]]
        assert float(row["difference"]) == 100 * found.estimate.mean
        assert float(row["low"]) == 100 * found.estimate.low
        assert row["shown"] == str(int(found.shown(0.05)))


def test_losses_are_means_over_the_steps_that_all_runs_share(tmp_path: Path) -> None:
    losses = [[(0, 4.0), (5, 3.0), (7, 2.5)], [(0, 6.0), (5, 2.0)]]
    for seed, some in enumerate(losses, start=1):
        write_run(tmp_path / f"s/a{seed}", config([0], seed=seed), 0.5, losses=some)
    write_run(tmp_path / "s/b", config([1]), 0.4, losses=[(0, 5.0)])
    comparison = compare(*read_runs([tmp_path / "s"]), ComparisonOptions())
    draw(mean_losses(comparison), tmp_path / "l.png")
    assert sorted(tuple(row.values()) for row in read(tmp_path / "l.csv")) == [
        ("layers 0", "0", "5.0", "4.0", "6.0"),
        ("layers 0", "5", "2.5", "2.0", "3.0"),
        ("layers 1", "0", "5.0", "5.0", "5.0"),
    ]


def test_places_move_no_further_than_they_must() -> None:
    assert list(apart(np.array([0.1, 0.9]), 0.2)) == [0.1, 0.9]
    assert apart(np.array([0.5, 0.5]), 0.2) == pytest.approx([0.4, 0.6])
    assert apart(np.array([0.0, 0.0, 0.0]), 0.2) == pytest.approx([0.0, 0.2, 0.4])
    crowded = apart(np.full(9, 0.5), 0.5)
    assert crowded == pytest.approx(np.linspace(0, 1, 9))
    rng = np.random.default_rng(0)
    for _ in range(100):
        places = rng.uniform(size=8)
        moved = apart(places, 0.1)
        assert (np.diff(np.sort(moved)) > 0.1 - 1e-9).all()
        assert (np.argsort(moved) == np.argsort(places)).all()
        assert -1e-9 <= moved.min() <= moved.max() <= 1 + 1e-9
