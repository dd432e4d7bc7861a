"""Labels of scatter plots cover neither each other nor a point, and the key stays in the figure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from docs.record import RECORDS
from sumcirc.figures.views import figure_of
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.several import Several
from sumcirc.placement.several_views import against
from sumcirc.reporting.kinds import Dot, Dots, View


def drawn(view: View) -> tuple[Any, dict[str, Any], list[Any]]:
    """Draw a view; return the figure and the bounding boxes of its labels and of its key."""
    figure = figure_of(view)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    (panel,) = view.panels[0]
    assert isinstance(panel, Dots)
    labels = {one.get_text(): one for one in axes.texts if one.get_text() in panel.named}
    key = [one.get_window_extent() for one in axes.texts if one not in labels.values()]
    # without the line to the point, which is part of an annotation's own extent
    found = {name: Text.get_window_extent(one) for name, one in labels.items()}
    return figure, found, key


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (2, 1), (2, 0)])
def test_labels_of_two_landscapes_are_readable(first: int, second: int) -> None:
    """Those of the recorded landscapes, and of one with the sets' places exchanged."""
    folder = RECORDS / "placement"
    found = [read_landscape(folder), read_landscape(folder / "pretrained-again")]
    analyses = [Analysis(landscape.measured("facts"), splits=2) for landscape, _ in found]
    choices = [choices for _, choices in found]
    three = Several([*analyses, analyses[0]], [*choices, choices[0]], ["one", "other", "third"])
    view = against(three, first, second)
    figure, labels, key = drawn(view)
    assert set(labels) == {",".join(map(str, layers)) for layers in three.sets}
    for (name, one), (other, two) in combinations(labels.items(), 2):
        assert not one.overlaps(two), (name, other)
    (axes,), (panel,) = figure.axes, view.panels[0]
    assert isinstance(panel, Dots)
    for dot in panel.dots:
        at = axes.transData.transform((dot.x, dot.y))
        assert not [name for name, box in labels.items() if box.contains(*at)]
    frame = axes.get_window_extent()
    assert all(frame.containsx(box.x0) and frame.containsx(box.x1) for box in labels.values())
    # a column of names and one of selectors, of which none is left out
    assert len(key) == 2
    assert key[0].x1 < key[1].x0
    assert min(box.x0 for box in key) > frame.x1
    assert max(box.x1 for box in key) < figure.bbox.x1
    assert min(box.y0 for box in key) > figure.bbox.y0
    chosen = {name for i in (first, second) for name in (one.name for one in three.choices[i])}
    told = {name for _, names in panel.key[1:] for name in names.split(", ")}
    assert told == chosen


def test_a_label_keeps_off_intervals_where_it_can() -> None:
    dots = [Dot("name", 1.0, 1.0, 0.0, 2.0, left=0.0, right=2.0), Dot("", 0.0, 0.0), Dot("", 2, 2)]
    view = View("t", [[Dots("x", "y", dots, named=frozenset({"name"}))]])
    figure, labels, _ = drawn(view)
    (axes,), box = figure.axes, labels["name"]
    at = axes.transData.transform((1.0, 1.0))
    assert not box.x0 <= at[0] <= box.x1
    assert not box.y0 <= at[1] <= box.y1
    assert np.hypot(*(np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2 - at)) < figure.dpi * 0.5
