"""The figures of a comparison, from its summary and the values that only figures show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.record_differences import layer_curves
from sumcirc.figures.views import draw, draw_all
from sumcirc.reporting.kinds import View
from sumcirc.reporting.measured import STREAM_LABEL
from sumcirc.reporting.views import compared_models
from sumcirc.reporting.views.all_measures import measure_views
from sumcirc.reporting.views.layer_profiles import by_layer
from sumcirc.reporting.views.lens_curves import lens_of_models
from sumcirc.reporting.views.mask_views import forgetting_view, mask_view
from sumcirc.reporting.views.path_views import further_views, path_view
from sumcirc.statistics import mean_over, significantly_different
from sumcirc.tracking.measure_records import ATTENTION_KL, CKA, ProbeRecord

# curves for several pairs of models: measure, label and axis
CURVES = (
    (ATTENTION_KL, "attention KL (nats)", "layer"),
    (CKA, "linear CKA", STREAM_LABEL),
)


def draw_pair(
    found: Findings, summary: Mapping[str, Any], records: Path, folder: Path, unit: str
) -> list[str]:
    """Draw the figures of all results for one pair of models.

    Args:
        found: the results, with a value for each item.
        summary: the same results as returned by `compare.summary.summarize`.
        records: the folder to which `found` was saved.
        folder: the folder to which the figures are written.
        unit: unit of the metric, for axis labels.

    Returns:
        For each figure that couldn't be drawn, a line that says why.
    """
    views: list[tuple[str, Callable[[], View]]] = []
    if found.record is not None:
        views += measure_views(records)[0]
    if found.direct:
        views.append(("direct", partial(_direct, found, unit)))
    if found.attention:
        views.append(("span_attention", partial(_span_attention, found)))
    if "logit_lens" in summary:
        views.append(("logit_lens", partial(lens_of_models, summary["logit_lens"], unit)))
    patching = summary.get("patching", {})
    for direction, one in patching.items():
        parts = one["parts"]
        for kind in compared_models.KINDS:
            if any(row["kind"] == kind for row in parts):
                make = partial(compared_models.patch_map, direction, kind, parts)
                views.append((f"{direction}_{kind}", make))
        make = partial(compared_models.output_against_value, direction, parts)
        views.append((f"{direction}_output_value", make))
    curves = compared_models.residual_curves(patching)
    views.append(
        ("residual_patching", partial(by_layer, curves, compared_models.SCORE, STREAM_LABEL))
    )
    if "surgery" in summary:
        views.append(("surgery", partial(compared_models.scaled_deltas, summary["surgery"])))
    if "path" in summary:
        views.append(("path", partial(path_view, summary["path"])))
        views += further_views(summary["path"])
    if "masks" in summary:
        views.append(("masks", partial(mask_view, summary["masks"])))
        if "retention" in summary["masks"]:
            views.append(("mask_forgetting", partial(forgetting_view, summary["masks"])))
    return draw_all(views, folder)


def draw_pairs(records: Mapping[str, ProbeRecord], folder: Path) -> None:
    """Draw how much attention and residual stream differ by layer, with a curve per pair of models.

    Args:
        records: measures of one model compared with another, by the name of the pair.
        folder: the folder to which the figures are written.
    """
    for name, label, places in CURVES:
        curves = {pair: layer_curves(record)[name] for pair, record in records.items()}
        draw(by_layer(curves, label, places), folder / f"{name.rsplit('/', 1)[-1]}_by_layer.png")


def _direct(found: Findings, unit: str) -> View:
    sides = found.direct
    return compared_models.direct_attribution(
        {model: one.heads for model, one in sides.items()},
        {model: one.heads.sum(1) + one.attention_bias for model, one in sides.items()},
        {model: one.mlps for model, one in sides.items()},
        unit,
    )


def _span_attention(found: Findings) -> View:
    one, other = found.attention[BEFORE], found.attention[AFTER]
    pairs = [f"{source} → {destination}" for source, destination in one.pairs]
    means = [mean_over(side.values, -1) for side in (one, other)]
    marked = significantly_different(other.values - one.values)
    return compared_models.span_attention(means[0], means[1], pairs, marked)
