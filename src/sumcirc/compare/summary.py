"""Summarizes the results for one pair of models as means with intervals, for summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.deltas.delta_scaling import MODULE, DeltaScaling
from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.masks.mask_summary import mask_summary
from sumcirc.compare.patching.components import Component
from sumcirc.compare.patching.patching_runs import Carried, agreement, label_of
from sumcirc.compare.patching.patching_scores import halves
from sumcirc.compare.path.path_summary import path_summary
from sumcirc.compare.path.trajectory_summary import trajectory_summary
from sumcirc.compare.record_differences import most_changed_heads, most_changed_layers
from sumcirc.models.architectures import Shape
from sumcirc.schema import Analysis
from sumcirc.statistics import (
    bootstrap_mean,
    bootstrap_means,
    significantly_different,
)
from sumcirc.statistics.noise import shares_of_gap
from sumcirc.tracking.measure_records import ProbeRecord

LISTED = 10  # number of heads, and of pairs of parts


def summarize_metric(found: Findings) -> dict[str, Any]:
    """Return the entry `metric`: both models' metric, and its paired difference.

    Args:
        found: the results, with both models' metric.
    """
    before, after = found.metric[BEFORE], found.metric[AFTER]
    return {
        "metric": {
            BEFORE: asdict(bootstrap_mean(before)),
            AFTER: asdict(bootstrap_mean(after)),
            "difference": asdict(bootstrap_mean(after - before)),
        },
    }


def summarize_analysis(found: Findings, analysis: Analysis, shape: Shape) -> dict[str, Any]:
    """Return the means and intervals of one analysis by its name; empty without results of it.

    Scores of patching and delta scaling are shares of the gap between the models' metrics, and are
    NaN if the gap can't be distinguished from zero. An `effect` is in the metric's unit.

    Args:
        found: the results, with a value for each item.
        analysis: the analysis.
        shape: sizes of the models.
    """
    match analysis:
        case Analysis.differences if found.record is not None and found.base_record is not None:
            return {"differences": _differences(found.record, found.base_record, shape)}
        case Analysis.direct if found.direct:
            return {"direct": _direct(found)}
        case Analysis.attention if found.attention:
            return {"attention": _attention(found)}
        case Analysis.logit_lens if found.logit_lens:
            return {"logit_lens": _logit_lens(found)}
        case Analysis.patching if found.carried:
            carried = found.carried.items()
            return {"patching": {direction: _carried(one, shape) for direction, one in carried}}
        case Analysis.delta_scaling if found.delta_scaling is not None:
            return {"surgery": _delta_scaling(found.delta_scaling)}
        case Analysis.path if found.path is not None:
            if isinstance(found.path, str):
                return {"path": {"left_out": found.path}}
            summary = path_summary(found.path)
            if found.trajectory is not None:
                summary["trajectory"] = trajectory_summary(found.trajectory)
            return {"path": summary}
        case Analysis.masks if found.masks is not None:
            reason = {"left_out": found.masks}
            return {"masks": reason if isinstance(found.masks, str) else mask_summary(found.masks)}
    return {}


def rows_of(
    means: Sequence[NDArray[np.float64]], names: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of a table with identifying columns and the columns `mean`, `low` and `high`.

    Args:
        means: three arrays [rows]: the means, and the lower and upper ends of their intervals.
        names: for each row, the values of the columns that identify it, by name of the column.
    """
    return [
        {**name, "mean": float(mean), "low": float(low), "high": float(high)}
        for name, mean, low, high in zip(names, *means, strict=True)
    ]


def _differences(record: ProbeRecord, base: ProbeRecord, shape: Shape) -> dict[str, Any]:
    return {
        "heads": [asdict(one) for one in most_changed_heads(record, base, LISTED)],
        "layers": [asdict(one) for one in most_changed_layers(record, base, shape.layers)],
        "output_kl_tuned_base": asdict(bootstrap_mean(record.values["output/kl_tuned_base"])),
        "neurons": _neurons(record),
        # tokens that the change of the last residual stream promotes and demotes
        "lens": record.found.get("lens", [[]])[-1],
    }


def _neurons(record: ProbeRecord) -> list[dict[str, Any]]:
    """Return the neurons that changed most in any layer."""
    rows = [
        {"layer": layer, **one}
        for layer, found in enumerate(record.found.get("neurons", []))
        for one in found
    ]
    return sorted(rows, key=lambda row: -abs(row["change"]))[:LISTED]


def _direct(found: Findings) -> list[dict[str, Any]]:
    """Return the heads and MLPs whose contribution changed most."""
    one, other = found.direct[BEFORE], found.direct[AFTER]
    names = [{"part": f"head.{i}.{j}"} for i, j in np.ndindex(one.heads.shape[:2])]
    names += [{"part": f"mlp.{i}"} for i in range(len(one.mlps))]
    sides = [np.concatenate([np.concatenate(x.heads), x.mlps]) for x in (one, other)]
    change = sides[1] - sides[0]
    rows = rows_of(bootstrap_means(change), names)
    significant = significantly_different(change)
    for i, row in enumerate(rows):
        row |= {BEFORE: float(sides[0][i].mean()), AFTER: float(sides[1][i].mean())}
        row["significant"] = bool(significant[i])
    return sorted(rows, key=lambda row: -abs(row["mean"]))[:LISTED]


def _attention(found: Findings) -> list[dict[str, Any]]:
    """Return, for each pair of spans, the head whose attention between them changed most."""
    one, other = found.attention[BEFORE], found.attention[AFTER]
    rows = []
    for number, (source, destination) in enumerate(one.pairs):
        change = other.values[number] - one.values[number]
        means, low, high = bootstrap_means(change)
        if not np.isfinite(means).any():
            continue
        layer, head = np.unravel_index(np.nanargmax(np.abs(means)), means.shape)
        sides = [float(np.nanmean(x.values[number, layer, head])) for x in (one, other)]
        rows.append(
            {
                "source": source,
                "destination": destination,
                "layer": int(layer),
                "head": int(head),
                BEFORE: sides[0],
                AFTER: sides[1],
                "mean": float(means[layer, head]),
                "low": float(low[layer, head]),
                "high": float(high[layer, head]),
                "significant": bool(significantly_different(change)[layer, head]),
            }
        )
    return rows


def _logit_lens(found: Findings) -> list[dict[str, Any]]:
    """Return both models' values for each measure and depth, and their paired difference."""
    rows = []
    sides = {name: found.logit_lens[name].values for name in (BEFORE, AFTER)}
    for measure in sides[BEFORE]:
        values = {name: side[measure] for name, side in sides.items()}
        change = values[AFTER] - values[BEFORE]
        names = [{"measure": measure, "stream": stream} for stream in range(len(change))]
        own = {
            name: rows_of(bootstrap_means(side), [{}] * len(names)) for name, side in values.items()
        }
        significant = significantly_different(change)
        for i, row in enumerate(rows_of(bootstrap_means(change), names)):
            row |= {name: one[i] for name, one in own.items()}
            rows.append({**row, "significant": bool(significant[i])})
    return rows


def _carried(carried: Carried, shape: Shape) -> dict[str, Any]:
    moved = carried.moved

    def named(parts: Sequence[Component]) -> list[str]:
        return [label_of(part, shape.heads, shape.key_value_heads) for part in parts]

    rows = rows_of(moved.scores(moved.effects), [{"part": name} for name in named(moved.parts)])
    raw = rows_of(bootstrap_means(moved.effects), [{} for _ in moved.parts])
    significant = significantly_different(moved.effects)
    told = moved.scores(moved.attributed)[0]
    for row, part, effect, sure, one in zip(rows, moved.parts, raw, significant, told, strict=True):
        row |= {"kind": part.kind, "layer": part.layer, "index": part.index, "effect": effect}
        row |= {"significant": bool(sure), "attributed": float(one)}
    found: dict[str, Any] = {"parts": rows, "agreement": agreement(moved)}
    if carried.sets:
        _, judged = halves(len(moved.gap))
        sets = []
        for one, effects in zip(carried.sets, carried.set_effects, strict=True):
            # sets chosen on one half of the items are evaluated on the other half
            kept = slice(None) if one.kind == "own" else judged
            ends = _share(effects[kept], moved.receiver[kept], moved.donor[kept])
            about = {"kind": one.kind, "draw": one.draw, "size": len(one.parts)}
            sets.append({**about, "parts": named(one.parts), **ends})
        found["sets"] = sets
    if carried.pairs:
        pairs = [{"parts": named(pair)} for pair in carried.pairs]
        synergies = rows_of(moved.scores(carried.synergies), pairs)
        found["synergy"] = sorted(synergies, key=lambda row: -abs(row["mean"]))[:LISTED]
    return found


def _share(
    effects: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> dict[str, float]:
    mean, low, high = shares_of_gap(effects, first, second)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def _delta_scaling(scaling: DeltaScaling) -> list[dict[str, Any]]:
    """Return each arm's metric as a share of the gap (0 before, 1 after), and perplexity."""
    base, tuned = scaling.metric[scaling.before], scaling.metric[scaling.after]
    rows = []
    for arm, metric, losses in zip(scaling.arms, scaling.metric, scaling.losses, strict=True):
        row = {"arm": arm.kind, "layer": arm.layer, "module": arm.module, "amount": arm.amount}
        row |= _share(metric - base, base, tuned)
        if arm.kind == MODULE:
            row["significant"] = bool(significantly_different((metric - tuned)[None])[0])
        if losses.size:
            interval = bootstrap_mean(losses)
            ends = {
                name: float(np.exp(getattr(interval, name))) for name in ("mean", "low", "high")
            }
            row["perplexity"] = ends
        rows.append(row)
    return rows
