"""Path attribution as means with intervals for summary.json, and as rows with a value per item."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sumcirc.compare.path.edge_summary import edge_summary
from sumcirc.compare.path.interaction_summary import interaction_rows, interaction_summary
from sumcirc.compare.path.path_attribution import PathAttribution
from sumcirc.compare.path.subsets import Effects
from sumcirc.compare.path.units import Unit
from sumcirc.schema import Grain
from sumcirc.statistics import (
    MIN_DOCUMENTS,
    bootstrap_means,
    bootstrap_ratios,
    crossed_mean,
    significantly_different,
)

LISTED = 20  # largest number of units of a grain in the summary, heads and directions aside
WHOLE = (Grain.layer, Grain.module)  # grains whose units are all listed

Values = NDArray[np.float64]


def path_summary(found: PathAttribution) -> dict[str, Any]:
    """Return the scores and effects as means with intervals, and the errors of the integrals.

    Args:
        found: the results, with a value for each item.
    """
    integral = found.integral
    summary: dict[str, Any] = {
        "converged": found.converged,
        "errors": asdict(integral.errors),
        "evaluations": integral.evaluations,
        "panels": [panel.start for panel in integral.panels] + [integral.panels[-1].end],
        "units": {str(grain): _units(found, grain) for grain in Grain},
    }
    if found.effects is not None:
        effects = summary["effects"] = _effects(found, found.effects)
        if found.interactions is not None:
            units = found.units[found.effects.grain]
            effects["interactions"] = interaction_summary(found.interactions, units, found.gain)
    if found.edges is not None:
        summary["edges"] = edge_summary(found.edges, found.gain)
    return summary


def path_rows(found: PathAttribution) -> Iterator[Mapping[str, Any]]:
    """Yield a row with the score of every unit for every item."""
    for grain, values in found.scores.items():
        for unit, scores in zip(found.units[grain], values, strict=True):
            about = {"grain": str(grain), **_about(unit)}
            for item, score in zip(found.items, scores, strict=True):
                yield about | {"item": item, "score": float(score)}


def effect_rows(found: PathAttribution) -> Iterator[Mapping[str, Any]]:
    """Yield a row for every effect of a unit and every value of a curve, for every item."""
    effects = found.effects
    if effects is None:
        return
    units = found.units[effects.grain]
    by_unit: dict[str, Values] = {"add": effects.add, "remove": effects.remove}
    if effects.shapley is not None:
        by_unit["shapley"] = effects.shapley.mean(0)
    curves = {"keep": effects.keep, "drop": effects.drop}
    if effects.random is not None:
        curves["random"] = effects.random
    grain = str(effects.grain)
    for kind, values in by_unit.items():
        for unit, row in zip(units, values, strict=True):
            for item, value in zip(found.items, row, strict=True):
                about = {"kind": kind, "grain": grain, "unit": unit.label, "size": None}
                yield about | {"item": item, "value": float(value)}
    for kind, values in curves.items():
        for size, row in enumerate(values):
            for item, value in zip(found.items, row, strict=True):
                about = {"kind": kind, "grain": grain, "unit": None, "size": size}
                yield about | {"item": item, "value": float(value)}


def pair_rows(found: PathAttribution) -> Iterator[Mapping[str, Any]]:
    """Yield a row for every interaction of a pair of units, for every item."""
    if found.effects is not None and found.interactions is not None:
        grain = found.effects.grain
        yield from interaction_rows(found.interactions, found.units[grain], found.items, str(grain))


def _about(unit: Unit) -> dict[str, Any]:
    return {"unit": unit.label, "layer": unit.layer, "part": unit.part, "index": unit.index}


def _units(found: PathAttribution, grain: Grain) -> list[dict[str, Any]]:
    """Return the units of a grain, all of them or those with the largest scores."""
    values, units = found.scores[grain], found.units[grain]
    means, low, high = bootstrap_means(values)
    shares = bootstrap_ratios(values, found.gain)
    significant = significantly_different(values)
    rows = [
        {
            **_about(unit),
            "score": _ends(means[i], low[i], high[i]),
            **_ends(*(one[i] for one in shares)),
            "significant": bool(significant[i]),
            "moved": float(found.moved[grain][i] / found.gain.mean()),
        }
        for i, unit in enumerate(units)
    ]
    if grain in WHOLE:
        return rows
    return sorted(rows, key=lambda row: -abs(row["mean"]))[:LISTED]


def _effects(found: PathAttribution, effects: Effects) -> dict[str, Any]:
    """Return the effects as shares of the gain, and their rank correlation with path scores."""
    gain, units = found.gain, found.units[effects.grain]
    shares = {
        "path": bootstrap_ratios(found.scores[effects.grain], gain),
        "add": bootstrap_ratios(effects.add, gain),
        "remove": bootstrap_ratios(effects.remove, gain),
    }
    if effects.shapley is not None:
        shares["shapley"] = _shapley(effects.shapley, gain)
    rows = [
        {
            **_about(unit),
            **{name: _ends(*(one[i] for one in ends)) for name, ends in shares.items()},
        }
        for i, unit in enumerate(units)
    ]
    curves = {"keep": effects.keep, "drop": effects.drop}
    if effects.random is not None:
        curves["random"] = effects.random
    ends = {name: bootstrap_ratios(values - found.before, gain) for name, values in curves.items()}
    return {
        "grain": str(effects.grain),
        "models": effects.models,
        "exact": effects.exact,
        "orders": 0 if effects.exact or effects.shapley is None else 2 * len(effects.shapley),
        "left_out": effects.left_out,
        "units": rows,
        "order": [units[i].label for i in effects.order],
        "curve": [
            {"size": size, **{name: _ends(*(one[size] for one in x)) for name, x in ends.items()}}
            for size in range(len(units) + 1)
        ],
        "agreement": {
            name: _spearman(shares["path"][0], ends[0])
            for name, ends in shares.items()
            if name != "path"
        },
    }


def _shapley(values: Values, gain: Values) -> tuple[Values, Values, Values]:
    """Return Shapley values as shares of the gain, with intervals, [units] each.

    Args:
        values: [pairs of orders, units, items]; with a single entry they are exact, and the
            interval is over items alone. Otherwise it is over orders and items, and the mean gain
            is taken as known.
        gain: [items].
    """
    if len(values) == 1:
        return bootstrap_ratios(values[0], gain)
    means = values.mean((0, 2)) / gain.mean()
    if values.shape[-1] < MIN_DOCUMENTS:
        nothing = np.full(len(means), np.nan)
        return means, nothing, nothing
    found = [crossed_mean(values[:, unit]) for unit in range(values.shape[1])]
    ends = np.array([[one.low, one.high] for one in found]) / gain.mean()
    return means, ends.min(1), ends.max(1)


def _spearman(first: Values, second: Values) -> float:
    """Return the rank correlation of two lists of values; NaN where it isn't defined."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)  # type: ignore[attr-defined]


def _ends(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": float(mean), "low": float(low), "high": float(high)}
