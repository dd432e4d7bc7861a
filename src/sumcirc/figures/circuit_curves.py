"""Figures over circuit sizes and over training: faithfulness, overlaps, change rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import (
    COLOURS,
    MARKERS,
    STYLES,
    NotDrawableError,
    log_ticks,
    new_figure,
    plain_axes,
    save,
    step_ticks,
)

RANDOM = "random"  # the curve of this name is the control

_OVERLAPS = {"to_first": "first", "to_previous": "previous one", "to_last": "last"}
_BOUNDS = ("low", "high")


def draw_faithfulness(
    curves: Mapping[str, Mapping[str, Any]],
    target: Path,
    edges: int,
    label: str = "normalized faithfulness",
    whole: float | None = 1.0,
    empty: float | None = 0.0,
    title: str = "",
) -> None:
    """Faithfulness over the size of the circuit, beside random circuits of equal size.

    Args:
        curves: by name, each with `size` (edges of its circuits), `mean`, and, where there are
            intervals, `low` and `high`. The one named `random` is drawn grey.
        edges: of the whole graph: sizes are shown in percent of it.
        label: of what is measured, with its unit.
        whole, empty: its value for the whole model and the empty circuit, drawn as lines.

    Raises:
        NotDrawableError: no curve, or one has no circuit of 1 edge or more.
        UserError: the files can't be written.
    """
    if not curves:
        raise NotDrawableError("faithfulness: there is no curve; measure circuits of some sizes")
    figure = new_figure(7, 4.4)
    axes = figure.add_subplot()
    for level, text in ((whole, "whole model"), (empty, "empty circuit")):
        if level is not None:
            axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
            axes.annotate(
                text, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                textcoords="offset points", ha="right", va="bottom", fontsize=8, color="0.4",
            )  # fmt: skip
    rows, place = [], 0
    for name, curve in curves.items():
        sizes = np.asarray(curve["size"], dtype=np.float64)
        order = np.argsort(sizes, kind="stable")
        order = order[sizes[order] > 0]  # the axis is logarithmic
        if not len(order):
            raise NotDrawableError(f"faithfulness of `{name}`: no circuit of 1 edge or more")
        found = {key: _column(curve, key, len(sizes))[order] for key in ("mean", *_BOUNDS)}
        shares = 100 * sizes[order] / edges
        control = name == RANDOM
        colour = "0.45" if control else COLOURS[place % len(COLOURS)]
        style = (0, (4, 2)) if control else STYLES[place % len(STYLES)]
        marker = "x" if control else MARKERS[place % len(MARKERS)]
        place += not control
        _line(axes, shares, found, "random edges" if control else name, colour, style, marker)
        rows += [
            (name, int(sizes[i]), *(found[key][j] for key in found)) for j, i in enumerate(order)
        ]
    axes.set_xscale("log")
    axes.set_xticks(*log_ticks(100 * row[1] / edges for row in rows))
    axes.minorticks_off()
    axes.set(xlabel=f"size of the circuit (% of {edges:,} edges)", ylabel=label, title=title)
    axes.title.set_fontsize(10)
    plain_axes(axes)
    figure.legend(loc="outside upper center", ncols=min(4, len(curves)), frameon=False)
    save(figure, target, ("curve", "edges", "mean", "low", "high"), rows)


def draw_evolution(
    steps: Sequence[int],
    tracks: Mapping[str, Mapping[str, Any]],
    target: Path,
    title: str = "",
) -> None:
    """Overlap of circuits over training, and below it how fast they change.

    A panel for each kind of member. A filled marker: the two circuits differ by more than resamples
    of the documents do; hollow: within that noise. Upright lines are bootstrap intervals. The grey
    line is the overlap of two resamples of one checkpoint, what to expect if nothing changed; the
    dotted one is chance.

    Args:
        steps: of the checkpoints, the first one first; -1 is the base.
        tracks: by what is followed (`edges`, `nodes`): `to_first`, `to_previous`, `to_last`, each
            with `jaccard`, `low`, `high`, `chance`, `differs`; `within`; `change_rate` in percent;
            all of them [checkpoints].

    Raises:
        NotDrawableError: fewer than 2 checkpoints, or nothing to follow.
        UserError: the files can't be written.
    """
    if len(steps) < 2 or not tracks:
        raise NotDrawableError(
            f"circuit evolution: {len(steps)} checkpoint(s); 2 or more are needed to see change"
        )
    width = 4.6
    figure = new_figure(width * len(tracks) + 0.8, 6.6)
    panels = figure.subplots(2, len(tracks), sharex=True, squeeze=False, height_ratios=(2, 1))
    shown = [max(step, 0) for step in steps]
    if shown[0] == 0 and len(shown) > 1 and shown[1] == 0:
        shown[0] = -1  # both the base and step 0 are there
    rows: list[Sequence[Any]] = []
    for column, (name, track) in enumerate(tracks.items()):
        top, bottom = panels[:, column]
        _overlaps(top, shown, track)
        rates = _column(track, "change_rate", len(steps))
        total = rates.sum()
        rates[0] = np.nan  # before the first there is none
        bottom.plot(shown, rates, color="0.2", marker="o", markersize=4, clip_on=False)
        text = f"in all {total:,.0f} %" if np.isfinite(total) else "the first circuit is empty"
        bottom.set_title(text, fontsize=9)
        top.set_title(name, fontsize=10)
        for axes in (top, bottom):
            plain_axes(axes)
        bottom.set_ylim(0, 1.1 * max(np.nanmax(rates, initial=0.0), 1.0))
        bottom.set_xlabel("optimizer step")
        step_ticks(bottom, shown, width - 0.8)
        rows += _rows(name, steps, track)
    if steps[0] < 0:
        for axes in panels[-1]:
            ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            texts = ["base" if at == shown[0] else text.get_text() for at, text in ticks]
            axes.set_xticks(axes.get_xticks(), texts)
    panels[0, 0].set_ylabel("Jaccard index of circuits")
    panels[1, 0].set_ylabel("changed since the\nprevious (% of first)")
    _legend(figure)
    if title:
        figure.suptitle(title, fontsize=10)
    columns = ("members", "step", "compared", "jaccard", "low", "high", "chance", "differs",
               "within", "change_rate")  # fmt: skip
    save(figure, target, columns, rows)


def _overlaps(axes: Any, steps: Sequence[int], track: Mapping[str, Any]) -> None:
    from matplotlib.transforms import ScaledTranslation

    count = len(steps)
    axes.plot(
        steps,
        _column(track, "within", count),
        color="0.6",
        linewidth=5,
        alpha=0.6,
        solid_capstyle="butt",
        zorder=0,
    )
    for i, key in enumerate(_OVERLAPS):
        comparison = track[key]
        found = {part: _column(comparison, part, count) for part in ("jaccard", *_BOUNDS)}
        # of a checkpoint with itself there is nothing to say
        itself = {"to_first": 0, "to_last": count - 1}.get(key)
        if itself is not None:
            for values in found.values():
                values[itself] = np.nan
        # some points aside, so that intervals at one step don't lie on each other
        aside = ScaledTranslation((i - 1) * 5 / 72, 0, axes.figure.dpi_scale_trans)
        place = {"transform": axes.transData + aside}
        axes.plot(steps, found["jaccard"], color=COLOURS[i], linestyle=STYLES[i], **place)
        axes.vlines(steps, found["low"], found["high"], color=COLOURS[i], linewidth=1, **place)
        differs = np.asarray(comparison["differs"], dtype=bool)
        axes.scatter(
            steps,
            found["jaccard"],
            s=30,
            marker=MARKERS[i],
            color=[COLOURS[i] if beyond else "white" for beyond in differs],
            edgecolors=COLOURS[i],
            linewidths=1.1,
            zorder=3,
            **place,
        )
    chance = _column(track["to_first"], "chance", count)
    axes.plot(steps, chance, color="0.3", linewidth=1, linestyle=":")
    axes.set_ylim(-0.02, 1.03)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=COLOURS[i], linestyle=STYLES[i], marker=MARKERS[i], markersize=5,
            label=f"with the {text}",
        )
        for i, text in enumerate(_OVERLAPS.values())
    ]  # fmt: skip
    mark = {"color": "0.3", "linestyle": "", "marker": "o", "markersize": 5}
    handles += [
        Line2D([], [], color="0.6", linewidth=5, alpha=0.6, label="of two resamples of the step"),
        Line2D([], [], color="0.3", linewidth=1, linestyle=":", label="chance"),
        Line2D([], [], label="filled: differs beyond noise", **mark),
        Line2D([], [], markerfacecolor="white", label="hollow: within noise", **mark),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _line(
    axes: Any,
    places: Any,
    found: Mapping[str, NDArray[np.float64]],
    label: str,
    colour: str,
    style: Any,
    marker: str,
) -> None:
    """A curve with its band."""
    axes.fill_between(
        places, found["low"], found["high"], color=colour, alpha=0.18, linewidth=0, zorder=1
    )
    axes.plot(
        places,
        found["mean"],
        label=label,
        color=colour,
        linestyle=style,
        marker=marker,
        markersize=5,
        linewidth=1.5,
        zorder=2,
    )


def _rows(name: str, steps: Sequence[int], track: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    count = len(steps)
    rows = []
    for key in _OVERLAPS:
        columns = [_column(track[key], part, count) for part in ("jaccard", *_BOUNDS, "chance")]
        for i, step in enumerate(steps):
            differs = bool(track[key]["differs"][i])
            shared = [_column(track, part, count)[i] for part in ("within", "change_rate")]
            values = [column[i] for column in columns]
            rows.append((name, step, key.removeprefix("to_"), *values, differs, *shared))
    return rows


def _column(values: Mapping[str, Any], key: str, count: int) -> NDArray[np.float64]:
    """Values by their name as numbers, NaN where they are missing or null; a copy."""
    column = values.get(key)
    column = [None] * count if column is None else column
    return np.array([np.nan if value is None else value for value in column], dtype=np.float64)
