"""Findings with values that were drawn, of a model with grouped queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.circuits.graph import Graph
from sumcirc.compare.deltas.delta_scaling import DeltaScaling, ScalingArm
from sumcirc.compare.deltas.deltas import Target
from sumcirc.compare.direct_attribution import DirectAttribution
from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.item_lens import ItemLens
from sumcirc.compare.patching.components import Component, components
from sumcirc.compare.patching.patching_runs import FIRST, OWN, RANDOM, Carried, NamedSet
from sumcirc.compare.patching.patching_scores import PatchingResult, pairs_of
from sumcirc.compare.path.edge_writes import EdgeWrites, existing
from sumcirc.compare.path.interactions import Interactions
from sumcirc.compare.path.path_attribution import PathAttribution
from sumcirc.compare.path.quadrature import Errors, Integral, Panel
from sumcirc.compare.path.subsets import Subsets, effects_of
from sumcirc.compare.path.units import Unit
from sumcirc.compare.path.written_changes import Sender
from sumcirc.compare.span_attention import SpanAttention
from sumcirc.compare.summary import summarize_analysis, summarize_metric
from sumcirc.models.architectures import Shape
from sumcirc.schema import Analysis, Grain
from sumcirc.tracking.measure_records import ProbeRecord
from tests.compare.made_masks import made_masks
from tests.compare.made_trajectory import made_trajectory

SHAPE = Shape(
    layers=2,
    heads=4,
    key_value_heads=2,
    head_width=8,
    width=32,
    neurons=48,
    vocabulary=400,
    parallel=False,
)
COUNT = 8  # items
ITEMS = [f"item-{number}" for number in range(COUNT)]
KINDS = ["output", "value", "mlp", "residual", "unembedding"]


def made_moved(seed: int = 0, gap: float = 1.0) -> PatchingResult:
    """Effects by part, and estimates that are near them."""
    draw = np.random.default_rng(seed)
    parts = list(components(SHAPE, KINDS))
    effects = draw.normal(size=(len(parts), 1)) + draw.normal(0, 0.1, size=(len(parts), COUNT))
    receiver = draw.normal(size=COUNT)
    donor = receiver + gap * draw.normal(2, 0.1, size=COUNT)
    told = effects + draw.normal(0, 0.05, size=effects.shape)
    return PatchingResult(parts, receiver, donor, effects, told)


def made_carried(seed: int = 0) -> Carried:
    """Three sets of each kind, and pairs."""
    draw = np.random.default_rng(seed + 100)
    moved = made_moved(seed)
    head, mlp, value = Component(0, "output", 1), Component(1, "mlp"), Component(1, "value", 1)
    sets = [
        NamedSet(OWN, 0, [head, value]),
        NamedSet(FIRST, 0, [head]),
        NamedSet(FIRST, 0, [head, mlp]),
        NamedSet(RANDOM, 0, [mlp]),
        NamedSet(RANDOM, 0, [mlp, head]),
        NamedSet(RANDOM, 1, [head]),
        NamedSet(RANDOM, 1, [head, mlp]),
    ]
    pairs = pairs_of([head, mlp, value])
    return Carried(
        moved,
        sets,
        draw.normal(1, 0.2, size=(len(sets), COUNT)),
        pairs,
        draw.normal(size=(len(pairs), COUNT)),
    )


def made_direct(seed: int) -> DirectAttribution:
    """Contributions that sum to nothing in particular."""
    draw = np.random.default_rng(seed)
    by_layer = (SHAPE.layers, COUNT)
    return DirectAttribution(
        embedding=draw.normal(size=COUNT),
        heads=draw.normal(size=(SHAPE.layers, SHAPE.heads, COUNT)),
        attention_bias=draw.normal(size=by_layer),
        mlps=draw.normal(size=by_layer),
        bias=draw.normal(size=COUNT),
        entropy=draw.normal(size=COUNT),
        metric=draw.normal(size=COUNT),
    )


def made_attention(seed: int) -> SpanAttention:
    """Two pairs of spans, the second of which one item lacks."""
    draw = np.random.default_rng(seed)
    values = draw.uniform(size=(2, SHAPE.layers, SHAPE.heads, COUNT))
    values[1, ..., 3] = np.nan
    return SpanAttention([("fact", "last"), ("distractor", "last")], values)


def made_lens(seed: int) -> ItemLens:
    """Of three streams."""
    draw = np.random.default_rng(seed)
    size = (SHAPE.layers + 1, COUNT)
    kl = draw.exponential(size=size)
    kl[-1] = 0
    agree = draw.uniform(size=size)
    agree[-1] = 1
    metric = seed + draw.normal(size=size)
    return ItemLens({"metric": metric, "kl_model_lens": kl, "top1_agreement": agree})


def made_delta_scaling(seed: int = 0, texts: int = 3) -> DeltaScaling:
    """The whole at three amounts, a layer, a module and a layer alone."""
    draw = np.random.default_rng(seed)
    arms = [
        ScalingArm("whole", None, None, 0.0),
        ScalingArm("whole", None, None, 0.5),
        ScalingArm("whole", None, None, 1.0),
        ScalingArm("remove", 1, None, 0.0),
        ScalingArm("remove", 1, None, 0.5),
        ScalingArm("module", 1, "qkv", 0.0),
        ScalingArm("only", 1, None, 1.0),
        ScalingArm("only", None, "embedding", 1.0),
    ]
    metric = draw.normal(size=(len(arms), COUNT))
    metric[2] += 3
    return DeltaScaling(
        [Target(1, "qkv")], arms, metric, draw.uniform(1, 2, size=(len(arms), texts))
    )


def made_edges() -> EdgeWrites:
    """Of one head, its group's shared keys and values, an MLP and what is not divided."""
    draw, graph = np.random.default_rng(12), Graph(SHAPE)
    senders = [Sender("a0.h1", 2), Sender("a0.h1 by a0.g0", 2), Sender("m0", graph.mlp_source(0))]
    exists = existing(graph, senders)
    values = draw.normal(0.1, 0.02, size=(COUNT, *exists.shape)) * exists
    values[:, 0, -1] = 3 + draw.normal(0, 0.1, size=COUNT)
    values[:, 2, -2] = -2 + draw.normal(0, 0.1, size=COUNT)
    rest = {"layer 0 norms": draw.normal(0.5, 0.1, size=COUNT), "final": draw.normal(size=COUNT)}
    return EdgeWrites(graph, senders, values, np.where(exists, 0.01, 0.0), rest)


def made_path(shapley: bool = True) -> PathAttribution:
    """Four units of layers that gain 1, 2, 3 and 4, a module in two of them, all subsets run."""
    draw = np.random.default_rng(11)
    names = ("embedding", "layer 0", "layer 1", "final")
    layers = [Unit(name, {"0": 0, "1": 1}.get(name[-1]), name.split()[0]) for name in names]
    modules = [
        Unit(f"layer {layer} {module}", layer, module)
        for layer in range(2)
        for module in ("qkv", "mlp_out")
    ]
    heads = [Unit(f"head.1.{head}", 1, "head", head) for head in range(30)]
    units = {Grain.layer: layers, Grain.module: [layers[0], *modules, layers[3]]}
    units |= {
        Grain.head: heads,
        Grain.direction: [Unit("layer 1 attn.c_proj rest", 1, "attn.c_proj")],
    }
    scores = {
        grain: draw.normal(1, 0.1, size=(len(own), COUNT)) * (1 + np.arange(len(own)))[:, None]
        for grain, own in units.items()
    }
    before = draw.normal(size=COUNT)
    after = before + scores[Grain.layer].sum(0) + 1

    def run(factors: np.ndarray) -> np.ndarray:
        return before + factors @ scores[Grain.layer] + factors[0] * factors[1]

    subsets = Subsets(4, run)
    effects = effects_of(Grain.layer, subsets, scores[Grain.layer].mean(1), 16 if shapley else 1)
    panel = Panel(0.0, 1.0, np.zeros((COUNT, 1)), np.zeros((COUNT, 1)), after - before)
    integral = Integral([panel], Errors(0.004, 0.002, 0.03), 7)
    moved = {grain: np.zeros(len(own)) for grain, own in units.items()}
    return PathAttribution(ITEMS, units, before, after, scores, moved, integral, effects)


def made_interactions() -> Interactions:
    """Of four units, of which the first two have one nat more together."""
    pairs = [(i, j) for j in range(4) for i in range(j)]
    values = np.zeros((6, COUNT))
    values[0] = 1
    return Interactions(pairs, dict.fromkeys(("add", "remove", "shapley"), values))


def made_records() -> tuple[ProbeRecord, ProbeRecord]:
    """Of the one after and of the one before."""
    draw = np.random.default_rng(8)
    heads = (SHAPE.layers, SHAPE.heads, COUNT)
    values = {
        "attention/kl_tuned_base": draw.exponential(size=heads),
        "attention/entropy": draw.normal(3, 1, size=heads),
        "residual/relative_change": draw.exponential(size=(SHAPE.layers + 1, COUNT)),
        "output/kl_tuned_base": draw.exponential(size=COUNT),
    }
    base = {"attention/entropy": draw.normal(2, 1, size=heads)}
    return (
        ProbeRecord(0, ITEMS, {name: one.astype(np.float32) for name, one in values.items()}),
        ProbeRecord(-1, ITEMS, {name: one.astype(np.float32) for name, one in base.items()}),
    )


def made_findings(name: str = "tuned") -> Findings:
    """Of every analysis."""
    draw = np.random.default_rng(9)
    metric = draw.normal(size=COUNT)
    record, base = made_records()
    return Findings(
        name,
        ITEMS,
        {BEFORE: metric, AFTER: metric + draw.normal(2, 0.3, size=COUNT)},
        record,
        base,
        {BEFORE: made_direct(1), AFTER: made_direct(2)},
        {BEFORE: made_attention(3), AFTER: made_attention(4)},
        {"necessity": made_carried(5), "sufficiency": made_carried(6)},
        made_delta_scaling(),
        replace(made_path(), interactions=made_interactions()),
        made_masks(),
        {BEFORE: made_lens(3), AFTER: made_lens(5)},
        made_trajectory(ITEMS),
    )


def save_all(found: Findings, folder: Path) -> None:
    """Write the results of all analyses."""
    for analysis in Analysis:
        found.save(folder, analysis)


def summarize(found: Findings, shape: Shape) -> dict[str, Any]:
    """The summary's entry of a model once all analyses are finished."""
    summary = summarize_metric(found)
    for analysis in Analysis:
        summary |= summarize_analysis(found, analysis, shape)
    return summary
