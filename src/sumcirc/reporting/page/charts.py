"""Parts of plotly figures that several sections share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sumcirc.figures.drawing import log_ticks, record_name
from sumcirc.reporting.page.text import isolated, short
from sumcirc.tracking.measure_records import ProbeRecord

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito
SIGNED = "RdBu_r"
POSITIVE = "Viridis"


def figure(traces: Sequence[Any], **layout: Any) -> dict[str, Any]:
    """Data and layout of a figure; colours of text and lines are the page's, light or dark."""
    import plotly.graph_objects as go

    made = go.Figure(list(traces))
    made.update_layout(**layout)
    found = made.to_plotly_json()
    # the default template is 6 kB of colours that the page does not use
    return {"data": found["data"], "layout": {**found["layout"], "template": {}}}


def log_axis(title: str, values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis whose ticks are labelled in full: plotly's own read 2, 5, 1M, 2."""
    ticks, labels = log_ticks(values)
    return {"title": {"text": title}, "type": "log", "tickvals": ticks, "ticktext": labels}


def line(x: Any, y: Any, name: str, **options: Any) -> Any:
    """A line with markers; `name` is escaped already where it is from data."""
    import plotly.graph_objects as go

    return go.Scatter(x=x, y=y, name=name, mode="lines+markers", **options)


def grid(values: Any, limits: tuple[float, float], colours: str, hover: str, **options: Any) -> Any:
    """A map of layer x head."""
    import plotly.graph_objects as go

    return go.Heatmap(
        z=short(values),  # a list: plotly would encode an array, in full precision
        zmin=limits[0],
        zmax=limits[1],
        colorscale=colours,
        hovertemplate=f"{hover}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        **options,
    )


def named(record: ProbeRecord) -> str:
    """A record's name for a chart; of a comparison it is a run's, so any text."""
    return isolated(record_name(record))


def shade(position: float) -> str:
    """A colour between magenta (0) and orange (1), for steps in order, on light and dark."""
    from plotly.colors import sample_colorscale

    return str(sample_colorscale("Plasma", [0.35 + 0.4 * position])[0])


def error_bars(means: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Any:
    """Unequal bars from means to the ends of their intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - mean for mean, high in zip(means, highs, strict=True)],
        "arrayminus": [mean - low for mean, low in zip(means, lows, strict=True)],
        "thickness": 1.2,
    }
