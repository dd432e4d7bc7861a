"""Views of the MLP neurons that changed most in tuning, and of the tokens that tuning promotes."""

from __future__ import annotations

from typing import Any

import numpy as np

from sumcirc.reporting.kinds import (
    Bar,
    Bars,
    Curve,
    Curves,
    Dot,
    Dots,
    NotDrawableError,
    Table,
    View,
    sizes_of,
)
from sumcirc.reporting.measured import documents_of, measured, record_name
from sumcirc.statistics import bracketed
from sumcirc.tracking.measure_records import ProbeRecord

NEURONS = "mlp/activation_change"
LISTED = 12  # number of neurons in the table
TOKENS = 6  # number for each position in the residual stream


def of_layer(record: ProbeRecord, layer: int | None = None, top: int = 10) -> View:
    """Return a view of how much each MLP neuron of a layer changed from the base model.

    The second panel names the most changed neurons. Intervals are one standard error over
    documents.

    Args:
        record: record of the tuned model.
        layer: index of the layer; None for the layer of the most changed neuron.
        top: number of neurons in the second panel.

    Raises:
        NotDrawableError: the record lacks the measure or its error, or has no such layer.
    """
    changes, errors = measured(record, NEURONS), measured(record, f"{NEURONS}_error")
    layer = int(sizes_of(changes).max(axis=1).argmax()) if layer is None else layer
    if not 0 <= layer < len(changes):
        raise NotDrawableError(
            f"{record_name(record)}: has no layer {layer}; choose 0 to {len(changes) - 1}"
        )
    change, error = changes[layer], errors[layer]
    order = np.argsort(-sizes_of(change), kind="stable")[:top]
    places = range(len(change))
    top_ones = np.where(np.isin(places, order), change, np.nan)
    curves = [
        Curve("all neurons", places, change),
        Curve(f"top {len(order)}", places, top_ones, filled=[True] * len(change)),
    ]
    bars = [Bar(str(i), change[i], change[i] - error[i], change[i] + error[i]) for i in order]
    spread = "± standard error" if len(record.documents) > 1 else "1 document"
    what = "change of mean activation, tuned − base"
    return View(
        f"Neurons of layer {layer}",
        [
            [
                Curves(f"neuron of layer {layer}", what, curves, "layer", levels={"": 0.0}),
                Bars(f"change, tuned − base ({spread})", bars, "neuron", zero=True),
            ]
        ],
        heading=f"{record_name(record)}, {documents_of(record)}",
        columns=("layer", "neuron", "change", "error"),
        rows=[(layer, i, change[i], error[i]) for i in range(len(change))],
    )


def most_changed(record: ProbeRecord) -> View:
    """Return a scatter plot of the changes of the most changed neurons, by layer.

    Args:
        record: record of the tuned model.

    Raises:
        NotDrawableError: the record contains no list of neurons.
    """
    if not record.found.get("neurons"):
        raise NotDrawableError(f"{record_name(record)}: its record names no neurons")
    dots = [
        Dot("", layer, one["change"], note=f"layer {layer}, neuron {one['neuron']}: {_change(one)}")
        for layer, one in _ranked(record)
    ]
    most = max((abs(dot.y) for dot in dots), default=0.0)
    return View(
        "Most changed neurons of each layer",
        [[Dots("layer", "change of mean activation", dots)]],
        "A point is a neuron; above 0 it became more active than in the base, mean of"
        f" {documents_of(record)}. Point at it for its number and 95 % interval.",
        f"Points by layer, ten a layer; the largest change is {most:.3g}. The table has the"
        " largest.",
    )


def neuron_table(record: ProbeRecord) -> Table:
    """Return a table of the most changed neurons, with their layers and changes.

    Args:
        record: record of the tuned model.
    """
    rows = _ranked(record)
    return Table(
        f"the {min(LISTED, len(rows))} most changed neurons at {record_name(record)}",
        ["neuron", "layer", "change [95 % interval]"],
        [[str(one["neuron"]), str(layer), _change(one)] for layer, one in rows[:LISTED]],
    )


def token_table(record: ProbeRecord) -> Table:
    """Return a table of tokens that the change of the residual stream makes more or less likely.

    Args:
        record: record of the tuned model.
    """
    rows = []
    for stream, tokens in enumerate(record.found["lens"]):
        sides = [[one for one in tokens if one["value"] * sign > 0][:TOKENS] for sign in (1, -1)]
        rows.append([str(stream), *(" ".join(map(_quoted, side)) or "-" for side in sides)])
    return Table(
        f"tokens that the change of the residual stream promotes, at {record_name(record)}",
        ["residual stream", "promoted", "demoted"],
        rows,
        frozenset({"promoted", "demoted"}),
    )


def _ranked(record: ProbeRecord) -> list[tuple[int, dict[str, Any]]]:
    """Return (layer, neuron's entry) for all listed neurons, with the largest change first."""
    rows = [(layer, one) for layer, top in enumerate(record.found["neurons"]) for one in top]
    return sorted(rows, key=lambda row: -abs(row[1]["change"]))


def _change(one: dict[str, Any]) -> str:
    return bracketed(one["change"], one["low"], one["high"], "+.3g")


def _quoted(one: dict[str, Any]) -> str:
    """Quote a token, with its spaces and line breaks made visible."""
    return "\u201c" + one["token"].replace(" ", "\u2423").replace("\n", "\u240a") + "\u201d"
