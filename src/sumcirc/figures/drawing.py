"""Functions shared by all figures: ticks and names of axes, and saving a figure with its data.

A figure is stored as three files with the same stem: PNG, PDF, and CSV with the plotted values. A
missing value is an empty field.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sumcirc.runtime.quoting import line, visible
from sumcirc.storage.writing import csv_text, write_file, write_text

MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", "-.", ":")

_LONGEST = 60  # characters of a name; longer ones would leave no room for the axes
_ENDINGS = (".png", ".pdf", ".csv")
_STAMP = 0.16  # inches below a figure for the name of its run
_DIGIT = 0.07  # inches per digit at 8 points
_TICK_ROOM = 0.26  # inches needed by the number of a tick


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Any:
    """Return an empty figure.

    Args:
        width, height: size of the figure in inches.
        layout: matplotlib's layout engine; `compressed` is for axes with a fixed aspect ratio.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def tick_places(count: int, width: float) -> list[int]:
    """Return the indices of the ticks that get a number, so that the numbers don't overlap.

    Args:
        count: number of evenly spaced ticks on the axis.
        width: length of the axis in inches.
    """
    return list(range(0, count, max(1, int(np.ceil(_TICK_ROOM * count / width)))))


def integer_ticks(axis: Any) -> None:
    """Put the ticks of an axis only at whole numbers, since there is no layer 2.5."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))


def spread_colours(count: int) -> list[Any]:
    """Return `count` colours from dark to bright: viridis without its yellow, faint on white."""
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, count)))


def step_ticks(axes: Any, steps: Sequence[float], width: float) -> None:
    """Put the ticks of the x axis at recorded steps, leaving out numbers that would overlap.

    If most steps are near the beginning, the axis is also made logarithmic from the first step
    after 0.

    Args:
        axes: matplotlib axes to change.
        steps: recorded optimizer steps, ascending.
        width: length of the axis in inches.
    """
    positive = [step for step in steps if step > 0]
    if positive and 5 * float(np.median(positive)) < positive[-1]:
        decades = np.log10(positive[-1] / positive[0])
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.35 * decades)
    places = axes.transScale.transform([(step, 1.0) for step in steps])[:, 0]
    inches = width * (places - places[0]) / max(places[-1] - places[0], 1e-9)
    kept = [len(steps) - 1]
    for i in reversed(range(len(steps) - 1)):
        digits = len(f"{steps[kept[-1]]}{steps[i]}")
        if inches[kept[-1]] - inches[i] >= digits / 2 * _DIGIT + 0.06:
            kept.append(i)
    axes.set_xticks([steps[i] for i in kept], [str(steps[i]) for i in kept])
    axes.set_xticks([], minor=True)


def plain_axes(axes: Any) -> None:
    """Remove the top and right frame lines, and write the numbers at the y axis without offset."""
    from matplotlib.ticker import ScalarFormatter

    axes.spines[["top", "right"]].set_visible(False)
    if isinstance(axes.yaxis.get_major_formatter(), ScalarFormatter):
        axes.ticklabel_format(axis="y", useOffset=False)


def save(figure: Any, target: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write `stem.png`, `stem.pdf` and `stem.csv`.

    Args:
        figure: the figure.
        target: path of any of the three files, or their common path without extension.
        columns: column names of the CSV file.
        rows: rows of the CSV file.

    Raises:
        UserError: the disk is full or the folder can't be written.
    """
    import matplotlib

    stem = target.name
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    stamp(figure, target)
    literal_texts(figure)
    table = csv_text(columns, ([_field(value) for value in row] for row in rows))
    write_text(target.with_name(f"{stem}.csv"), table)
    # text is stored as text in the PDF; without a date, equal figures give equal files
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table that it drops
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        for kind, options in (("png", {"dpi": 150}), ("pdf", {"metadata": {"CreationDate": None}})):
            write_file(
                target.with_name(f"{stem}.{kind}"),
                lambda path, kind=kind, options=options: figure.savefig(
                    path, format=kind, **options
                ),
            )


def literal_texts(figure: Any) -> None:
    """Turn off math parsing in all text of a figure, and make control characters visible."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter

    own = set()  # numbers on axes, which may contain matplotlib's formulas
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not isinstance(axis.get_major_formatter(), FixedFormatter):
                own |= set(axis.get_ticklabels(which="both"))
    for text in figure.findobj(Text):
        if text not in own:
            text.set_parse_math(False)
            text.set_text(visible(text.get_text()))


def shown_name(name: str) -> str:
    """Return a name for the legend: one short line that does not begin with `_`.

    Matplotlib leaves names that begin with `_` out of legends.
    """
    name = line(name)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"
    return f" {name}" if name.startswith("_") else name


def stamp(figure: Any, target: Path) -> None:
    """Write the name of the figure's run or sweep below the figure, in small print.

    Args:
        figure: figure to change.
        target: path at which the figure will be saved, inside the directory of the run or sweep.
    """
    run = next((f for f in target.parents if (f / "status.json").exists()), None)
    sweep = next((f for f in target.parents if (f / "sweep.yaml").exists()), None)
    name = f"{run.parent.name}/{run.name}" if run is not None else sweep.name if sweep else ""
    if not name:
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _STAMP)
    share = _STAMP / (height + _STAMP)
    figure.get_layout_engine().set(rect=(0, share, 1, 1 - share))
    figure.text(0.01, 0.2 * share, name, fontsize=6.5, color="0.45")


def _field(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating):
        return repr(float(value)) if np.isfinite(value) else ""
    return value
