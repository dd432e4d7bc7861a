"""Section: curves over the depth of the model, a line for each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import documents_of, labelled
from sumcirc.reporting.page.charts import error_bars, figure, line, named, shade
from sumcirc.reporting.page.view import Block, Chart, Page, each
from sumcirc.statistics import bootstrap_means, mean_over
from sumcirc.tracking.measure_records import HEADS, MEASURES, ProbeRecord
from sumcirc.tracking.run_records import RunRecords

SHOWN = {
    "residual/cka": "1: the layer represents the documents as the base does; lower: differently.",
    "residual/centered_cosine": "1: the same direction as the base's; lower: turned away.",
    "residual/relative_change": "How far the residual stream moved, as a share of its length.",
    "attention/kl_tuned_base": "0: the layer's heads attend as the base's do.",
    "attention/mass_sink": "Attention that rests on the first position.",
    "attention/salience_alignment": "Whether heads look at the words that the reference repeats.",
}
INTRO = (
    "How each depth of the model differs from the base on fixed documents: a line for each"
    " checkpoint, from magenta (early) to orange (late). Bars are 95 % bootstrap intervals over"
    " documents, at the last checkpoint. Click a name in a legend to hide its line."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Curves of what was probed; that nothing was is said with the heads."""
    page.add("layers", "Layers", INTRO, each(runs, lambda run: charts(run.probes)))


def charts(records: Sequence[ProbeRecord]) -> list[Block]:
    """A chart for each measure that the records have."""
    found: list[Block] = []
    for name, reading in SHOWN.items():
        having = [record for record in records if name in record.values]
        if having and any(np.isfinite(record.values[name]).any() for record in having):
            found.append(_curves(name, reading, having))
    return found


def _curves(name: str, reading: str, records: Sequence[ProbeRecord]) -> Chart:
    heads = MEASURES[name].axes == HEADS
    rows = [_by_depth(record, name, heads) for record in records]
    place = "layer" if heads else "stream position"
    traces = []
    for i, (record, values) in enumerate(zip(records, rows, strict=True)):
        last = i == len(rows) - 1
        means = bootstrap_means(values) if last else (mean_over(values, axis=-1),)
        traces.append(
            line(
                list(range(len(values))),
                means[0].tolist(),
                named(record),
                error_y=error_bars(*(one.tolist() for one in means)) if last else None,
                line={"color": shade((i + 1) / len(rows)), "width": 2.5 if last else 1.5},
                marker={"size": 5},
                hovertemplate=f"{named(record)}, {place} %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
    where = "layer" if heads else "0: embedding, l: after layer l − 1"
    drawn = figure(
        traces,
        xaxis={"title": {"text": where}, "dtick": 1 if len(rows[0]) <= 18 else 4},
        yaxis={"title": {"text": MEASURES[name].unit or ""}},
        showlegend=len(traces) > 1,
    )
    label = labelled(name)
    mean = "Mean over heads. " if heads else ""
    return Chart(
        label[0].upper() + label[1:],
        f"{mean}{reading} {documents_of(records[-1]).capitalize()}.",
        f"{label} over {len(rows[0])} depths at {len(records)} checkpoints.",
        drawn,
    )


def _by_depth(record: ProbeRecord, name: str, heads: bool) -> NDArray[np.float64]:
    """[depths, documents]."""
    values = np.asarray(record.values[name], dtype=np.float64)
    return mean_over(values, axis=1) if heads else values
