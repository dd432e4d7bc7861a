"""Views of the logit lens: what each layer's residual stream predicts, in training or two models.

`Row` arguments are rows of `logit_lens` from the entry of one tuned model in summary.json, which
`sumcirc compare` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Curve, Curves, NotDrawableError, Table, View
from sumcirc.reporting.measured import (
    STREAM_LABEL,
    documents_of,
    labelled,
    measured,
    record_name,
)
from sumcirc.reporting.tables import interval_column
from sumcirc.statistics import bootstrap_means, mean_over
from sumcirc.tracking.measure_records import (
    LENS_AGREEMENT,
    LENS_KL,
    LENS_LOG_PROBABILITY,
    ProbeRecord,
)

Row = Mapping[str, Any]
MEASURED = (LENS_LOG_PROBABILITY, LENS_KL, LENS_AGREEMENT)
SHORT = ("log-probability of the reference (nats)", "KL(model || lens) (nats)", "same top token")
MOST_CURVES = 6  # number of steps that are drawn
KL, AGREEMENT, METRIC = "kl_model_lens", "top1_agreement", "metric"
COMPARED = (METRIC, KL, AGREEMENT)
ENDS = ("mean", "low", "high")


def lens_in_training(records: Sequence[ProbeRecord]) -> View:
    """Return a view of the logit lens over depth, with a curve for each measured step.

    If there are many steps, some of them are drawn, among them the first and the last, whose curve
    has intervals. The table has all.

    Args:
        records: records of several checkpoints, in any order.

    Raises:
        NotDrawableError: there are no records, or a record lacks the measures.
    """
    if not records:
        raise NotDrawableError("no measure record")
    ordered = sorted(records, key=lambda record: record.step)
    places = np.linspace(0, len(ordered) - 1, MOST_CURVES).round().astype(int).tolist()
    drawn = [ordered[place] for place in dict.fromkeys(places)]
    panels = []
    for name, label in zip(MEASURED, SHORT, strict=True):
        curves = []
        for record in drawn:
            values = measured(record, name)
            mean, low, high = mean_over(values, -1), None, None
            if record is drawn[-1]:
                mean, low, high = bootstrap_means(values)
            curves.append(Curve(record_name(record), range(len(values)), mean, low, high))
        panels.append(Curves(STREAM_LABEL, label, curves, "layer", ordered=True, bars=True))
    means = [[bootstrap_means(measured(record, name)) for name in MEASURED] for record in ordered]
    rows = [
        (record.step, place, *(end[place] for ends in found for end in ends))
        for record, found in zip(ordered, means, strict=True)
        for place in range(len(found[0][0]))
    ]
    columns = [f"{name.split('/')[1]}{end}" for name in MEASURED for end in ("", "_low", "_high")]
    count = documents_of(ordered[-1])
    return View(
        "Logit lens",
        [panels],
        "What the residual stream at each depth predicts under the final norm and the unembedding."
        f" A curve for each step, mean of {count}; bars are 95 % intervals at the last.",
        f"{labelled(MEASURED[0])} and two more measures over depth at {len(drawn)} steps.",
        heading=f"logit lens, mean of {count}",
        columns=("step", "stream", *columns),
        rows=rows,
    )


def lens_of_models(rows: Sequence[Row], unit: str, measures: Sequence[str] = COMPARED) -> View:
    """Return a view of the logit lens of two models over depth, with a panel for each measure.

    Args:
        rows: one row for each measure and depth.
        unit: unit of the metric.
        measures: the measures to show, of COMPARED.

    Raises:
        NotDrawableError: there are no rows.
    """
    if not rows:
        raise NotDrawableError("logit lens: no rows")
    labels = {METRIC: f"metric under the lens ({unit})", KL: SHORT[1], AGREEMENT: SHORT[2]}
    panels = []
    for name in measures:
        some = [row for row in rows if row["measure"] == name]
        places = [row["stream"] for row in some]
        curves = []
        for side in ("before", "after"):
            mean, low, high = (np.array([row[side][end] for row in some], float) for end in ENDS)
            curves.append(Curve(side, places, mean, low, high))
        panels.append(Curves(STREAM_LABEL, labels[name], curves, "layer", bars=True))
    shown = [
        (
            *(row["measure"], row["stream"]),
            *(row[side][end] for side in ("before", "after") for end in ENDS),
            *(row[end] for end in ENDS),
            row["significant"],
        )
        for row in rows
        if row["measure"] in measures
    ]
    sides = [f"{side}_{end}" for side in ("before", "after", "difference") for end in ENDS]
    return View(
        f"Logit lens of both models: {', '.join(labels[name] for name in measures)}",
        [panels],
        "What the residual stream at each depth predicts under the model's own final norm and"
        " unembedding. Bars are 95 % intervals over items.",
        f"{', '.join(measures)} under the lens over {len(panels[0].curves[0].x)} depths.",
        columns=("measure", "stream", *sides, "significant"),
        rows=shown,
    )


def lens_table(rows: Sequence[Row], unit: str, stars: str) -> Table:
    """Return a table of the metric under the lens in two models, by depth.

    Args:
        rows: one row for each measure and depth.
        unit: unit of the metric.
        stars: what a star in the column of differences means.
    """
    some = [row for row in rows if row["measure"] == METRIC]
    kl = [row for row in rows if row["measure"] == KL]
    columns = [
        ["embedding", *(f"after layer {row['stream'] - 1}" for row in some[1:])],
        *(interval_column([row[side] for row in some]) for side in ("before", "after")),
        interval_column(some),
        interval_column(kl),
    ]
    headings = ("stream", "before", "after", "after − before", "KL(model || lens), difference")
    title = f"logit lens: the metric ({unit}) read from each residual stream ({stars})"
    return Table(title, headings, [list(row) for row in zip(*columns, strict=True)])
