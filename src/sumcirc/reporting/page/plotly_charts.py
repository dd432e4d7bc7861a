"""Draws views as plotly charts, with a slider where there are views of several checkpoints.

The page sets the colours of text and lines, light or dark. Text from data is escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import (
    PALETTE,
    Bars,
    Curve,
    Curves,
    Dots,
    Map,
    NodeGraph,
    NotDrawableError,
    View,
    log_ticks,
    one_scale,
    places,
)
from sumcirc.reporting.page.blocks import Block, ChartBlock, Slider
from sumcirc.reporting.page.safe_text import isolated, plain, short

DASHES = ("solid", "dash", "dot")
LOOKS = {  # grey, visible on a light page and on a dark one
    "base": {"color": "#8a8a8a", "dash": "dash"},
    "whole": {"color": PALETTE[0], "width": 3},
    "control": {"color": "#8a8a8a", "dash": "dot"},
    "chance": {"color": "#8a8a8a", "dash": "dot", "width": 1},
    "noise": {"color": "#8a8a8a", "dash": "dash"},
}
INPUTS = {"": 0, "q": 1, "k": 2, "v": 3}  # numbers of a head's inputs in the page's script
MANY_NAMES = 12  # number of curves above which the chart has no legend
Rendered = tuple[list[Any], dict[str, Any]]  # traces and layout


def chart(
    view: View, before: Sequence[View] = (), names: Sequence[str] = (), label: str = "Checkpoint"
) -> ChartBlock:
    """Return a chart of a view's first panel, with a slider if there are earlier views.

    Args:
        view: the last or only view, from which the chart's title, caption and alternative text are
            taken.
        before: the same view of earlier checkpoints, in order; if empty, the chart has no slider.
        names: names of all views for the slider, with the name of `view` last.
        label: text beside the slider.
    """
    slider, views = Slider(label, names) if before else None, [*before, view]
    panels = [view.panel for view in (one_scale(views) if slider else views)]
    moved, circuit = [], None
    if isinstance(panels[-1], NodeGraph):
        drawn, layout = [], _graph_layout(panels[-1])
        circuit = _circuit(panels)
    else:
        drawn, layout = _render(panels[-1])
        moved = [[_moving(panel)] for panel in panels] if slider else []
    figure = _figure(drawn, layout)
    return ChartBlock(view.title, view.caption, view.alt, figure, slider, moved, circuit)


def charts(*makers: Callable[[], View]) -> list[Block]:
    """Return a chart of each view, leaving out views that can't be drawn.

    Args:
        makers: functions that return a view, or raise `NotDrawableError`.
    """
    found: list[Block] = []
    for make in makers:
        with suppress(NotDrawableError):
            found.append(chart(make()))
    return found


def panel_charts(make: Callable[[], View], names: Sequence[str] | None = None) -> list[Block]:
    """Return a chart of each panel of a view, or [] if the view can't be drawn.

    Args:
        make: function that returns a view, or raises `NotDrawableError`.
        names: name of each panel, which follows the view's title; None for the panels' own titles.
            The caption is shown once.
    """
    try:
        view = make()
    except NotDrawableError:
        return []
    panels = [panel for row in view.panels for panel in row]
    views = [
        replace(view, title=f"{view.title}: {name}", panels=[[panel]])
        for name, panel in zip(names or [panel.title for panel in panels], panels, strict=True)
    ]
    return [chart(views[0]), *(chart(replace(one, caption="")) for one in views[1:])]


def _render(panel: Any) -> Rendered:
    match panel:
        case Curves():
            return _curves(panel)
        case Map():
            return _map(panel)
        case Bars():
            return _bars(panel)
        case Dots():
            return _dots(panel)
    raise TypeError(f"no plotly renderer for {type(panel).__name__}")


def _figure(traces: Sequence[Any], layout: dict[str, Any]) -> dict[str, Any]:
    import plotly.graph_objects as go

    # plotly's own template contains 6 kB of colours that the page does not use
    untouched: dict[str, Any] = {"template": {}}
    found = go.Figure(list(traces), {**layout, **untouched}).to_plotly_json()
    return {"data": found["data"], "layout": {**found["layout"], **untouched}}


def _title(text: str) -> dict[str, Any]:
    return {"title": {"text": plain(text)}}


def _log_axis(title: str, values: Iterable[float]) -> dict[str, Any]:
    """Return plotly's settings of a logarithmic axis with complete labels at its ticks.

    Plotly's own labels abbreviate: 2, 5, 1M, 2, 5.
    """
    ticks, labels = log_ticks(values)
    return {**_title(title), "type": "log", "tickvals": ticks, "ticktext": labels}


def _error_bars(mean: Any, low: Any, high: Any) -> dict[str, Any] | None:
    """Return plotly's error bars from means to the ends of their intervals.

    The result is None if no interval has a finite lower end.
    """
    mean, low, high = (np.asarray(one, dtype=float) for one in (mean, low, high))
    if not np.isfinite(low).any():
        return None
    return {
        **{"type": "data", "symmetric": False, "thickness": 1.2},
        **{"array": (high - mean).tolist(), "arrayminus": (mean - low).tolist()},
    }


def _curves(panel: Curves) -> Rendered:
    import plotly.graph_objects as go

    plain_ones = [curve for curve in panel.curves if curve.look == "plain"]
    groups = list(dict.fromkeys(curve.group or curve.name for curve in plain_ones))
    shown: set[str] = set()
    traces = []
    for curve in panel.curves:
        name, group = isolated(curve.name), curve.group or curve.name
        y = np.asarray(curve.y, dtype=float).tolist()
        look = LOOKS.get(curve.look) or _plain_look(panel, groups.index(group), len(groups))
        bars = _error_bars(y, curve.low, curve.high) if curve.low is not None else None
        where = "%{x}" if panel.scale == "name" else f"{plain(panel.x.split(' (')[0])} %{{x}}"
        traces.append(
            go.Scatter(
                x=list(curve.x),
                y=y,
                name=name,
                mode="lines+markers" if len(y) < 200 else "lines",
                error_y=bars,
                legendgroup=isolated(group),
                showlegend=bool(curve.name) and group not in shown,
                line={"width": 1.6, **look},
                marker={"size": 5, "symbol": _symbols(curve)},
                hovertemplate=f"{name}, {where}: %{{y:.4g}}<extra></extra>",
            )
        )
        shown.add(group)
    sizes = [x for curve in panel.curves for x in curve.x]
    axis = _log_axis(panel.x, sizes) if panel.scale == "log" else _title(panel.x)
    if panel.scale == "name":
        axis["type"] = "category"
    if panel.scale == "layer":
        axis["dtick"] = 1 if len(set(sizes)) <= 18 else 4 if len(set(sizes)) <= 100 else None
    layout: dict[str, Any] = {
        "xaxis": axis,
        "yaxis": _title(panel.y),
        "showlegend": 1 < len(shown) <= MANY_NAMES,
    }
    if None not in panel.limits:
        layout["yaxis"]["range"] = list(panel.limits)
    elif panel.limits[0] == 0:
        layout["yaxis"]["rangemode"] = "tozero"
    return traces, layout


def _plain_look(panel: Curves, i: int, count: int) -> dict[str, Any]:
    from plotly.colors import sample_colorscale

    if panel.ordered:
        # between magenta (first) and orange (last), visible on light and dark
        colour = str(sample_colorscale("Plasma", [0.35 + 0.4 * (i + 1) / count])[0])
        return {"color": colour, "width": 2.5 if i == count - 1 else 1.5}
    # colours repeat after the sixth curve
    return {"color": PALETTE[i % len(PALETTE)], "dash": DASHES[i // len(PALETTE) % len(DASHES)]}


def _symbols(curve: Curve) -> Any:
    if curve.filled is None:
        return "circle"
    return ["circle" if filled else "circle-open" for filled in curve.filled]


def _map(panel: Map) -> Rendered:
    import plotly.graph_objects as go

    rows, columns = panel.values.shape
    low, high = panel.limits
    unit = plain(f" {panel.unit}" if panel.unit else "")
    form = ":+.3g" if panel.signed else ":.3g"
    place = f"{plain(panel.y)} %{{y}}, {plain(panel.x)} %{{x}}<br>"
    value = "%{customdata}" if panel.details else f"{plain(panel.label)}: %{{z{form}}}{unit}"
    heat = go.Heatmap(
        **_moving(panel),
        zmin=low,
        zmax=high,
        x=panel.columns and [plain(name) for name in panel.columns],
        y=panel.rows and [plain(name) for name in panel.rows],
        colorscale="RdBu_r" if panel.signed else "Viridis",
        texttemplate="%{text}",
        hovertemplate=f"{place}{value} %{{text}}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": plain(panel.unit or "")}},
    )
    layout: dict[str, Any] = {"height": int(np.clip(34 * rows + 140, 300, 820))}
    named = (("xaxis", panel.x, columns, panel.columns), ("yaxis", panel.y, rows, panel.rows))
    for axis, title, count, names in named:
        ticks = {"type": "category"} if names else {"dtick": 1 if count <= 16 else 4}
        layout[axis] = {**_title(title), **ticks, "showgrid": False}
    return [heat], layout


def _moving(panel: Any) -> dict[str, Any]:
    """Return the parts of a panel's plotly trace that change when the slider moves."""
    if isinstance(panel, Map):
        rows, columns = panel.values.shape
        marked = np.zeros((rows, columns), bool) if panel.marked is None else panel.marked
        moving = {
            "z": short(panel.values),  # a list: plotly would encode an array with full precision
            "text": [["•" if one else "" for one in row] for row in marked],
        }
        return moving | ({"customdata": panel.details} if panel.details else {})
    dots = panel.dots
    return {
        "x": [dot.x for dot in dots],
        "y": [dot.y for dot in dots],
        "text": [plain(dot.note or dot.name) for dot in dots],
    }


def _bars(panel: Bars) -> Rendered:
    import plotly.graph_objects as go

    names = list(dict.fromkeys(bar.name for bar in panel.bars))
    series = list(dict.fromkeys(bar.series for bar in panel.bars))
    traces = []
    for i, one in enumerate(series):
        bars = [bar for bar in panel.bars if bar.series == one]
        mean, low, high = ([getattr(bar, end) for bar in bars] for end in ("mean", "low", "high"))
        form = "%{x:+.4g}" if panel.zero else "%{x:.4g}"
        traces.append(
            go.Scatter(
                x=mean,
                y=[isolated(bar.name) for bar in bars],
                error_x=_error_bars(mean, low, high),
                name=isolated(one),
                mode="markers",
                marker={
                    **{"size": 9, "color": PALETTE[i % len(PALETTE)]},
                    "symbol": ["circle" if bar.filled else "circle-open" for bar in bars],
                },
                text=[plain(bar.note) for bar in bars],
                hovertemplate=f"%{{y}}: {form}<br>%{{text}}<extra>{isolated(one)}</extra>",
            )
        )
    order = [isolated(name) for name in reversed(names)]  # plotly starts at the bottom
    layout: dict[str, Any] = {
        "xaxis": {**_title(panel.x), "zeroline": panel.zero},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": order},
        "height": max((16 + 16 * len(series)) * len(names) + 120, 220),
        "showlegend": len(series) > 1,
    }
    if len(series) > 1:
        layout |= {"scattermode": "group", "scattergap": 0.3}
        for trace in traces:
            trace.orientation = "h"
    return traces, layout


def _dots(panel: Dots) -> Rendered:
    import plotly.graph_objects as go

    each = panel.colours == "each"
    groups = [[dot] for dot in panel.dots] if each else [list(panel.dots)]
    traces = []
    for i, dots in enumerate(groups):
        some = Dots(panel.x, panel.y, dots)
        x, left, right = ([getattr(dot, end) for dot in dots] for end in ("x", "left", "right"))
        y, low, high = ([getattr(dot, end) for dot in dots] for end in ("y", "low", "high"))
        marker: dict[str, Any] = {
            **{"size": 11 if each else 8, "opacity": 1.0 if each else 0.75},
            "symbol": ["circle" if dot.filled else "circle-open" for dot in dots],
        }
        if panel.colours == "order":
            marker |= {"color": [dot.order for dot in dots], "colorscale": "Plasma"}
            marker["colorbar"] = {"title": {"text": panel.order}}
        else:
            marker["color"] = PALETTE[i % len(PALETTE)]
        where = "<br>%{x:,.6~g}: %{y:.4g}" if any(dot.name for dot in dots) else ""
        traces.append(
            go.Scatter(
                **_moving(some),
                error_x=_error_bars(x, left, right),
                error_y=_error_bars(y, low, high),
                name=isolated(dots[0].name) if each else "",
                mode="markers",
                marker=marker,
                hovertemplate=f"%{{text}}{where}<extra></extra>",
            )
        )
    xs = [dot.x for dot in panel.dots]
    whole = all(float(x).is_integer() for x in xs) and not panel.columns
    layout: dict[str, Any] = {
        "xaxis": _log_axis(panel.x, xs) if panel.columns else _title(panel.x),
        "yaxis": {**_title(panel.y), "zeroline": True},
        "showlegend": each and 1 < len(groups) <= MANY_NAMES,
    }
    if whole:
        layout["xaxis"]["dtick"] = 1 if len(set(xs)) < 19 else 4
    if panel.limits is not None:
        layout["yaxis"]["range"] = list(panel.limits)
    if panel.diagonal:
        ends = [min(*xs, *(d.y for d in panel.dots)), max(*xs, *(d.y for d in panel.dots))]
        line = {"color": "#8a8a8a", "dash": "dash", "width": 1}
        traces.append(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip"))
    return traces, layout


def _graph_layout(panel: NodeGraph) -> dict[str, Any]:
    rows = {"tickvals": list(range(panel.layers)), "showgrid": False, "zeroline": False}
    return {
        "xaxis": {"visible": False},
        "yaxis": {**_title("layer"), **rows},
        "height": min(max(64 * panel.layers + 140, 420), 1000),
    }


def _circuit(panels: Sequence[NodeGraph]) -> dict[str, Any]:
    """Return the nodes and edges of the circuits, one per checkpoint, for the page's script."""
    where = places(panels[-1].layers, panels[-1].heads)
    order = {name: i for i, name in enumerate(where)}
    return {
        "nodes": [(name, *place) for name, place in where.items()],
        "aside": 0.012 * panels[-1].heads,
        "frames": [
            [
                (order[source], order[end], INPUTS[into], score)
                for source, end, into, score in p.edges
            ]
            for p in panels
        ],
    }
