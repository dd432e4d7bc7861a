"""Section: the neurons that changed most, and the tokens that the change promotes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sumcirc.figures.drawing import documents_of, record_name
from sumcirc.reporting.page.charts import COLOURS, figure
from sumcirc.reporting.page.heads import slider_of
from sumcirc.reporting.page.view import Block, Chart, Page, Table, each
from sumcirc.reporting.tables import TextTable
from sumcirc.statistics import bracketed
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.run_records import RunRecords

LISTED = 12  # neurons in the table
TOKENS = 6  # of each stream position
INTRO = (
    "MLP neurons whose mean activation changed most from the base, ten of each layer, and the"
    " tokens that the mean change of the residual stream makes likelier."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Neurons and tokens; that nothing was probed is said with the heads."""
    page.add("neurons", "Neurons", INTRO, each(runs, lambda run: charts(run.probes)))


def charts(records: Sequence[ProbeRecord]) -> list[Block]:
    """What the last record has, with a slider over all."""
    found: list[Block] = []
    having = [record for record in records if record.found.get("neurons")]
    if having:
        found += [_chart(having), Table(_table(having[-1]), folded=True)]
    lenses = [record for record in records if record.found.get("lens")]
    if lenses:
        found.append(Table(_tokens(lenses[-1])))
    return found


def _points(record: ProbeRecord) -> dict[str, Any]:
    """Neurons by layer; hover text says which."""
    rows = [(layer, one) for layer, top in enumerate(record.found["neurons"]) for one in top]
    return {
        "x": [layer for layer, _ in rows],
        "y": [one["change"] for _, one in rows],
        "text": [f"layer {layer}, neuron {one['neuron']}: {_change(one)}" for layer, one in rows],
    }


def _change(one: dict[str, Any]) -> str:
    return bracketed(one["change"], one["low"], one["high"], "+.3g")


def _chart(records: Sequence[ProbeRecord]) -> Chart:
    import plotly.graph_objects as go

    frames = [[_points(record)] for record in records]
    most = max((abs(y) for (frame,) in frames for y in frame["y"]), default=0.0) or 1.0
    trace = go.Scatter(
        **frames[-1][0],
        mode="markers",
        marker={"color": COLOURS[0], "size": 8, "opacity": 0.7},
        hovertemplate="%{text}<extra></extra>",
    )
    drawn = figure(
        [trace],
        xaxis={
            "title": {"text": "layer"},
            "dtick": 1 if len(records[-1].found["neurons"]) < 19 else 4,
        },
        yaxis={
            "title": {"text": "change of mean activation"},
            "range": [-1.1 * most, 1.1 * most],
            "zeroline": True,
        },
    )
    return Chart(
        "Most changed neurons of each layer",
        "A point is a neuron; above 0 it became more active than in the base, mean of"
        f" {documents_of(records[-1])}. Point at it for its number and 95 % interval.",
        f"Points by layer, ten a layer; the largest change is {most:.3g}. The table has the"
        " largest.",
        drawn,
        slider_of(records),
        frames,
    )


def _table(record: ProbeRecord) -> TextTable:
    rows = [(layer, one) for layer, top in enumerate(record.found["neurons"]) for one in top]
    rows.sort(key=lambda row: -abs(row[1]["change"]))
    return TextTable(
        f"the {min(LISTED, len(rows))} most changed neurons at {record_name(record)}",
        ["neuron", "layer", "change [95 % interval]"],
        [[str(one["neuron"]), str(layer), _change(one)] for layer, one in rows[:LISTED]],
    )


def _tokens(record: ProbeRecord) -> TextTable:
    rows = []
    for stream, tokens in enumerate(record.found["lens"]):
        sides = [[one for one in tokens if one["value"] * sign > 0][:TOKENS] for sign in (1, -1)]
        cells = [" ".join(_quoted(one["token"]) for one in side) or "-" for side in sides]
        rows.append([str(stream), *cells])
    return TextTable(
        f"tokens that the change of the residual stream promotes, at {record_name(record)}",
        ["stream position", "promoted", "demoted"],
        rows,
        frozenset({"promoted", "demoted"}),
    )


def _quoted(token: str) -> str:
    """With the space that begins it made visible."""
    return "\u201c" + token.replace(" ", "\u2423").replace("\n", "\u240a") + "\u201d"
