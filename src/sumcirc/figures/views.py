"""Draws views with matplotlib as a grid of panels, and writes their values as CSV.

`RENDERERS` maps each kind of panel to the function that draws it and the function that returns its
size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.figures.dots import dots_size, draw_dots
from sumcirc.figures.drawing import literal_texts, new_figure, save, shown_name
from sumcirc.figures.graphs import draw_graph, graph_size
from sumcirc.figures.grids import (
    bars_size,
    curves_size,
    draw_bars,
    draw_curves,
    draw_map,
    legend_of,
    map_size,
)
from sumcirc.reporting.kinds import Bars, Curves, Dots, Map, NodeGraph, NotDrawableError, View

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SCREEN = 100  # dots per inch of pictures for loggers
Size = tuple[float, float]  # inches
RENDERERS: dict[type, tuple[Callable[..., None], Callable[..., Size]]] = {
    Curves: (draw_curves, curves_size),
    Map: (draw_map, map_size),
    Bars: (draw_bars, bars_size),
    Dots: (draw_dots, dots_size),
    NodeGraph: (draw_graph, graph_size),
}
_LETTERS = 70  # characters of all names in one line of a legend
_COLUMN = 18  # number of names in one column of a legend


def draw(view: View, target: Path) -> None:
    """Write a view as PNG, PDF and CSV.

    Args:
        view: view to draw.
        target: path of any of the three files, or their common path without extension.

    Raises:
        UserError: the files can't be written.
    """
    figure = figure_of(view)
    save(figure, target, view.columns, view.rows)


def draw_all(views: Iterable[tuple[str, Callable[[], View]]], folder: Path) -> list[str]:
    """Write each view that can be made from the records as PNG, PDF and CSV.

    Args:
        views: (name, function that makes the view) pairs; the name is that of the files.
        folder: folder in which the files are written.

    Returns:
        One line for each view that could not be made, with its name and the reason.

    Raises:
        UserError: the files can't be written.
    """
    skipped = []
    for name, make in views:
        try:
            view = make()
        except NotDrawableError as error:
            skipped.append(f"{name}: {error}")
        else:
            draw(view, folder / f"{name}.png")
    return skipped


def picture(view: View) -> Image:
    """Return a view drawn as an RGB image, for loggers.

    This takes about half the time of `draw`: the figure is laid out and drawn once, and not saved.

    Args:
        view: view to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL.Image import fromarray

    figure = figure_of(view)
    literal_texts(figure)
    figure.set_dpi(SCREEN)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def figure_of(view: View) -> Any:
    """Return a matplotlib figure that shows a view."""
    several = sum(map(len, view.panels)) > 1
    sizes = [[RENDERERS[type(panel)][1](panel, several) for panel in row] for row in view.panels]
    widths = np.max([[width for width, _ in row] for row in sizes], axis=0)
    heights = np.max([[height for _, height in row] for row in sizes], axis=1)
    above = 0.22 * (1 + view.heading.count("\n")) if view.heading else 0.0
    below = 0.2 * (1 + view.note.count("\n")) if view.note else 0.0
    maps = all(isinstance(panel, Map) for row in view.panels for panel in row)
    # "compressed" is for axes with a fixed aspect ratio
    figure = new_figure(
        max(5.4, widths.sum()),
        heights.sum() + above + below,
        "compressed" if maps else "constrained",
    )
    axes = figure.subplots(
        *(len(heights), len(widths)),
        squeeze=False,
        width_ratios=widths,
        height_ratios=heights,
    )
    for row, panels in enumerate(view.panels):
        for column, panel in enumerate(panels):
            RENDERERS[type(panel)][0](axes[row, column], panel, *sizes[row][column])
    _legend(figure, view)
    if view.heading:
        figure.suptitle(view.heading, fontsize=9)
    if view.note:
        figure.supxlabel(view.note, fontsize=8)
    return figure


def _legend(figure: Any, view: View) -> None:
    """Add a legend with one entry for each name: above the panels, at the right if it is long."""
    found: dict[str, Any] = {}
    for axes, panel in zip(figure.axes, [p for row in view.panels for p in row], strict=False):
        for handle, name in legend_of(axes, panel):
            found.setdefault(shown_name(name), handle)
    graph = any(isinstance(panel, NodeGraph) for row in view.panels for panel in row)
    if len(found) < 2 and not graph:
        return
    options: dict[str, Any] = {"frameon": False, "fontsize": 8}
    if graph:
        options |= {"loc": "outside lower center", "ncols": 4, "handlelength": 2.8}
    elif not view.heading and len(found) <= 4 and sum(map(len, found)) < _LETTERS:
        options |= {"loc": "outside upper center", "ncols": len(found)}
    else:
        width, height = figure.get_size_inches()
        columns = -(-len(found) // _COLUMN)
        longest = max(map(len, found))
        figure.set_size_inches(width + columns * (0.6 + 0.065 * longest), height)
        options |= {"loc": "outside right upper", "ncols": columns}
    figure.legend(found.values(), found.keys(), **options)
