"""Figures of a comparison, from its findings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.compare.deltas.delta_scaling import MODULE, REMOVE, WHOLE, Arm, DeltaScaling
from sumcirc.compare.deltas.deltas import NORMS
from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.patching.components import MLP, OUTPUT, RESIDUAL, VALUE
from sumcirc.compare.patching.patching_runs import Carried, grid
from sumcirc.compare.record_differences import layer_curves
from sumcirc.figures.differences import Direct, draw_direct, draw_layer_curves, draw_span_attention
from sumcirc.figures.drawing import STREAM_LABEL
from sumcirc.figures.probes import draw_all
from sumcirc.figures.transfer import draw_delta_scaling, draw_output_value, draw_patching
from sumcirc.models.architectures import Shape
from sumcirc.schema import MODULES
from sumcirc.statistics import mean_over, significantly_different
from sumcirc.statistics.noise import no_gap, shares_of_gap
from sumcirc.tracking.measure_records import ProbeRecord

SCORE = "patch score (share of the gap)"
TITLES = {
    "sufficiency": "after's part moved into before",
    "necessity": "before's part moved into after",
}
# of pairwise curves: measure, label and what the places are
CURVES = (
    ("attention/kl_tuned_base", "attention KL (nats)", "layer"),
    ("residual/cka", "linear CKA", STREAM_LABEL),
)


def draw(found: Findings, shape: Shape, records: Path, folder: Path, unit: str) -> None:
    """Draw all that was found of one pair.

    Args:
        records: where the findings were saved.
        unit: of the metric.
    """
    if found.record is not None:
        draw_all(records, folder)
    if found.direct:
        sides = (found.direct[BEFORE], found.direct[AFTER])
        before, after = (
            Direct(one.heads, one.heads.sum(1) + one.attention_bias, one.mlps) for one in sides
        )
        draw_direct(before, after, folder / "direct.png", unit)
    if found.attention:
        _draw_attention(found, folder)
    carried = {
        direction: one
        for direction, one in found.carried.items()
        if not no_gap(one.moved.receiver, one.moved.donor)  # else there are no shares to draw
    }
    for direction, one in carried.items():
        _draw_patching(one, shape, folder, direction)
    _draw_streams(carried, folder)
    if found.delta_scaling is not None:
        _draw_delta_scaling(found.delta_scaling, shape, folder)


def draw_pairs(records: Mapping[str, ProbeRecord], folder: Path) -> None:
    """Curves over layers of several pairs of models in one figure each.

    Args:
        records: by the name of the pair.
    """
    for name, label, places in CURVES:
        curves = {pair: layer_curves(record)[name] for pair, record in records.items()}
        target = folder / f"{name.rsplit('/', 1)[-1]}_by_layer.png"
        draw_layer_curves(curves, target, label, places)


def _draw_attention(found: Findings, folder: Path) -> None:
    one, other = found.attention[BEFORE], found.attention[AFTER]
    change = other.values - one.values
    pairs = [f"{source} → {destination}" for source, destination in one.pairs]
    means = [mean_over(side.values, -1) for side in (one, other)]
    marked = significantly_different(change)
    draw_span_attention(means[0], means[1], pairs, folder / "span_attention.png", marked)


def _draw_streams(found: Mapping[str, Carried], folder: Path) -> None:
    """What the residual stream carries, position by position."""
    curves = {}
    for direction, carried in found.items():
        moved = carried.moved
        places = [i for i, part in enumerate(moved.parts) if part.kind == RESIDUAL]
        if places:
            curves[TITLES[direction]] = moved.scores(moved.effects[places])
    if curves:
        draw_layer_curves(curves, folder / "residual_patching.png", SCORE, STREAM_LABEL)


def _draw_patching(carried: Carried, shape: Shape, folder: Path, direction: str) -> None:
    moved, title = carried.moved, TITLES[direction]
    scores = moved.scores(moved.effects)[0]
    sure = significantly_different(moved.effects).astype(float)
    kinds = {part.kind for part in moved.parts}
    sizes: dict[str, int] = dict.fromkeys(("output", "query", "pattern"), shape.heads)
    sizes |= dict.fromkeys(("key", "value"), shape.key_value_heads)

    def mapped(values: Any, kind: str) -> np.ndarray:
        return grid(moved, values, kind, shape.layers, sizes.get(kind, 1))

    for kind in sizes:
        if kind not in kinds:
            continue
        with_mlp = kind == OUTPUT and MLP in kinds
        marked = mapped(sure, kind)
        if with_mlp:
            marked = np.hstack([marked, mapped(sure, MLP)])
        draw_patching(
            mapped(scores, kind),
            folder / f"{direction}_{kind}.png",
            SCORE,
            mapped(scores, MLP)[:, 0] if with_mlp else None,
            np.nan_to_num(marked) > 0,
            f"{kind}: {title}",
        )
    if {OUTPUT, VALUE} <= kinds:
        value = np.repeat(mapped(scores, VALUE), shape.group, axis=1)
        target = folder / f"{direction}_output_value.png"
        draw_output_value(mapped(scores, OUTPUT), value, target, SCORE, title)


def _draw_delta_scaling(scaling: DeltaScaling, shape: Shape, folder: Path) -> None:
    base, tuned = scaling.metric[scaling.before], scaling.metric[scaling.after]
    if no_gap(base, tuned):
        return
    scales = sorted({arm.amount for arm in scaling.arms if arm.kind == WHOLE})
    place = {arm: i for i, arm in enumerate(scaling.arms)}

    def shares(arms: list[Arm]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return shares_of_gap(scaling.metric[[place[arm] for arm in arms]] - base, base, tuned)

    whole = shares([Arm(WHOLE, None, None, scale) for scale in scales])
    layers = np.stack(
        [
            shares([Arm(REMOVE, layer, None, scale) for scale in scales])[0]
            for layer in range(shape.layers)
        ]
    )
    changed = {target.layer for target in scaling.targets}
    layers[[layer not in changed for layer in range(shape.layers)]] = np.nan
    names = {target.module for target in scaling.targets}
    modules = [name for name in (*MODULES, NORMS) if name in names]
    removal = np.full((shape.layers, len(modules)), np.nan)
    marked = np.zeros(removal.shape, dtype=bool)
    for layer, column in np.ndindex(removal.shape):
        arm = Arm(MODULE, layer, modules[column], 0.0)
        if arm in place:
            effect = scaling.metric[place[arm]] - tuned
            removal[layer, column] = shares_of_gap(effect, base, tuned)[0]
            marked[layer, column] = bool(significantly_different(effect[None])[0])
    label = "share of the metric's gap (0: before, 1: after)"
    target = folder / "surgery.png"
    draw_delta_scaling(
        scales, whole, layers, removal, modules, target, label, marked, "change without the module"
    )
