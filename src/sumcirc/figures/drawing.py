"""What figures of probe records share: grids of heads, coloured lines, saving with the data.

A figure is three files of one stem: PNG, PDF, and CSV of what is plotted. No value: an empty field.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.runtime.quoting import line, visible
from sumcirc.storage.writing import csv_text, write_file, write_text
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord

# Okabe and Ito's colours, which the colour-blind tell apart; the markers do so without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", "-.", ":")

STREAM_LABEL = "stream position (0: embedding, l: after layer l − 1)"
_LONGEST = 60  # characters of a name, of which more would leave the axes no room
_ENDINGS = (".png", ".pdf", ".csv")
_STAMP = 0.16  # inches below a figure for the name of its run
_DIGIT = 0.07  # inches, of a number of 8 points
_TICK_ROOM = 0.26  # inches that a tick's number needs beside its neighbours


class NotDrawableError(UserError):
    """The records lack what a figure shows."""


def measured(record: ProbeRecord, name: str) -> NDArray[np.float64]:
    """Values of a measure.

    Raises:
        NotDrawableError: the record lacks it.
    """
    if name not in record.values:
        raise NotDrawableError(
            f"{record_name(record)}: its probe record has no `{name}`; probe it again with"
            " the watcher that measures it"
        )
    return np.asarray(record.values[name], dtype=np.float64)


def labelled(name: str) -> str:
    """A measure's label with its unit."""
    measure = MEASURES[name]
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def record_name(record: ProbeRecord) -> str:
    """How figures and messages call a record."""
    named = record.found.get("name")
    return named or ("base" if record.step < 0 else f"step {record.step:,}")


def documents_of(record: ProbeRecord) -> str:
    """Number of its documents, in words."""
    count = len(record.documents)
    return f"{count} document{'s' * (count != 1)}"


def sizes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute values to rank by; what is undefined comes last."""
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def new_figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Any:
    """An empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def draw_grid(
    values: NDArray[np.float64], colours: str, limits: tuple[float, float], label: str
) -> tuple[Any, Any]:
    """A map of layer x head, and its axes. Grey: no value.

    Layer 0 is at the bottom: information goes up, as in drawings of circuits.

    Args:
        values: [layers, heads].
        colours: name of a colour map.
        limits: values at its ends.
        label: of the colour bar, with the unit.
    """
    layers, heads = values.shape
    cell = float(np.clip(5.0 / max(layers, heads), 0.21, 0.8))
    # "compressed" is for axes of fixed aspect
    figure = new_figure(
        max(cell * heads + 2.4, 5.4), max(cell * layers + 1.4, 3.6), layout="compressed"
    )
    axes = figure.add_subplot()
    image = fill_grid(axes, values, colours, limits, cell)
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure, axes


def fill_grid(
    axes: Any, values: NDArray[np.float64], colours: str, limits: tuple[float, float], cell: float
) -> Any:
    """Draw such a map, whose cells are `cell` inches wide, into axes; returns the image."""
    import matplotlib

    layers, heads = values.shape
    palette = matplotlib.colormaps[colours].with_extremes(bad="0.8")
    low, high = limits
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=palette,
        vmin=low,
        vmax=high,
        origin="lower",
        interpolation="nearest",
    )
    axes.set(xlabel="head", ylabel="layer")
    for axis, count in ((axes.xaxis, heads), (axes.yaxis, layers)):
        axis.set_ticks(range(0, count, _every(cell)))
    axes.tick_params(labelsize=8)
    return image


def mark_cells(axes: Any, marked: NDArray[np.bool_]) -> None:
    """A dot in each of these cells of a map."""
    layers, heads = np.nonzero(marked)
    # white around black: seen on a map's pale middle and on its dark ends
    axes.scatter(heads, layers, s=11, c="black", edgecolors="white", linewidths=0.6)


def part_column(axes: Any, count: int, name: str) -> None:
    """Part the column after `count` heads from them by a line, and name it."""
    # seen on dark cells and on pale ones
    axes.axvline(count - 0.5, color="white", linewidth=4)
    axes.axvline(count - 0.5, color="0.2", linewidth=0.8)
    ticks = [tick for tick in axes.get_xticks() if tick < count]
    # between the last head's number and this word there has to be room
    ticks = [int(tick) for tick in ticks if count <= 12 or tick < count - 1]
    axes.set_xticks([*ticks, count], [*map(str, ticks), name])


def largest(*values: NDArray[np.float64]) -> float:
    """The largest absolute value that is defined, for the ends of colours; 1 where all are 0."""
    return max(float(sizes(part).max(initial=0.0)) for part in values) or 1.0


def percent(share: float) -> str:
    """A share from 0 to 1 for a text."""
    return f"{100 * share:.0f} %"


def _every(cell: float) -> int:
    """Numbering each cell where there is room, else every other one or fewer."""
    return max(1, int(np.ceil(_TICK_ROOM / cell)))


def integer_ticks(axis: Any) -> None:
    """Whole numbers only: there is no layer 2.5."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))


def spread_colours(count: int) -> list[Any]:
    """Colours from dark to bright; without viridis' yellow, which white paper swallows."""
    import matplotlib

    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, count)))


def step_ticks(axes: Any, steps: Sequence[int], width: float) -> None:
    """A step axis, `width` inches wide, with numbers at recorded steps that don't touch.

    By default steps are probed at log-spaced points: where most lie near the beginning, the axis is
    logarithmic from the first step after 0 on.
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
    axes.tick_params(axis="x", labelsize=8)


def log_ticks(values: Iterable[float]) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis over positive values, and their labels as whole numbers.

    Labels are powers of ten over three decades and more, else also their multiples by 2 and 5; over
    less than that, the values themselves.
    """
    ordered = sorted({float(value) for value in values if value > 0})
    if not ordered:
        return [], []
    low, high = ordered[0], ordered[-1]
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    factors = (1,) if high >= 1000 * low else (1, 2, 5)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    ticks = [tick for tick in ticks if low / 1.3 <= tick <= 1.3 * high]
    if len(ticks) < 3:
        ticks = ordered if len(ordered) <= 5 else [low, high]
    return ticks, [_tick_label(tick) for tick in ticks]


def _tick_label(tick: float) -> str:
    if tick >= 1e6:
        return f"{tick / 1e6:.3g}M"
    return f"{tick:,.0f}" if tick >= 1 and tick == round(tick) else f"{tick:.3g}"


def plain_axes(axes: Any) -> None:
    """No frame at the top and right, and y numbers in full."""
    from matplotlib.ticker import ScalarFormatter

    axes.spines[["top", "right"]].set_visible(False)
    if isinstance(axes.yaxis.get_major_formatter(), ScalarFormatter):
        axes.ticklabel_format(axis="y", useOffset=False)


def save(figure: Any, target: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write `stem.png`, `stem.pdf` and `stem.csv`.

    Args:
        target: the stem, or any of the three files.
        columns: header of the CSV.

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
    # text stays text in the PDF; without the date equal figures are equal files
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table it drops
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

    own = set()  # numbers of axes, in which formulas are matplotlib's own
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not isinstance(axis.get_major_formatter(), FixedFormatter):
                own |= set(axis.get_ticklabels(which="both"))
    for text in figure.findobj(Text):
        if text not in own:
            text.set_parse_math(False)
            text.set_text(visible(text.get_text()))


def shown_name(name: str) -> str:
    """Shorten a name to a one-line label; legends drop labels that begin with `_`, so pad those."""
    name = line(name)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"
    return f" {name}" if name.startswith("_") else name


def stamp(figure: Any, target: Path) -> None:
    """Write the run, or the sweep, in whose directory a figure is saved under it in small print."""
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
