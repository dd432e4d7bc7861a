"""From a run's summary.json to the names and values under which Weights & Biases keeps it.

What is logged and what a dashboard asks for are named by the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

# `sumcirc circuit` says of the circuit what the watcher of training says of it
CIRCUIT_NAMES = {"circuit_edges": "edges", "edges": "graph_edges", "nodes": "graph_nodes"}


def summary_values(verb: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary values that a run of a verb logs."""
    if verb == "circuit":
        return circuit_values(summary)
    if verb == "compare":
        return compared_values(summary)
    return result_values(summary) if "systems" in summary else {}


def result_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Of training and evaluation: single numbers, seconds by phase, scores with intervals.

    Scores are `test/SYSTEM/MEASURE`, with `/low` and `/high` for the interval.
    """
    values = _numbers(summary)
    values |= {f"time/{phase}": value for phase, value in summary.get("seconds", {}).items()}
    for system, scores in summary["systems"].items():
        for measure, interval in scores.items():
            values |= _interval(f"test/{system}/{measure}", interval)
    return values


def circuit_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Of a circuit: how large, how faithful, how stable."""
    values = {
        f"circuit/{CIRCUIT_NAMES.get(name, name)}": value
        for name, value in _numbers(summary).items()
    }
    areas = {name: summary[name]["value"] for name in ("cpr", "cmd")}
    for name, interval in (*areas.items(), ("faithfulness", summary["faithfulness"])):
        values |= _interval(f"circuit/{name}", interval)
    if "jaccard" in summary:
        values["circuit/jaccard"] = summary["jaccard"]["mean"]
        values["circuit/spearman"] = summary["spearman"]["mean"]
    return {name: value for name, value in values.items() if math.isfinite(value)}


def compared_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Of a comparison of models: what each scores by the metric, and the gap."""
    return {
        f"compare/{name}/{side}/{end}": value
        for name, one in summary["after"].items()
        for side, interval in one["metric"].items()
        for end, value in interval.items()
        if math.isfinite(value)
    }


def compared_tables(summary: Mapping[str, Any]) -> dict[str, Rows]:
    """Of a comparison of models: tables by name, those without rows left out."""
    tables: dict[str, Rows] = {}
    for name, one in summary["after"].items():
        found = {"direct": one.get("direct", []), "surgery": one.get("surgery", [])}
        found |= {key: value["parts"] for key, value in one.get("patching", {}).items()}
        tables |= {f"compare/{name}/{key}": rows for key, rows in found.items() if rows}
    return tables


def image_files(figures: Path) -> dict[str, Path]:
    """Pictures of a run by name: `figures/NAME`, or `figures/FOLDER/NAME` one folder down."""
    files = sorted([*figures.glob("*.png"), *figures.glob("*/*.png")])
    return {f"figures/{file.relative_to(figures).with_suffix('')}": file for file in files}


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: value for name, value in summary.items() if isinstance(value, (int, float))}
    numbers.pop("format", None)  # says how the file is to be read, and nothing of the run
    return numbers


def _interval(name: str, interval: Mapping[str, float]) -> dict[str, float]:
    ends = {f"{name}/low": interval["low"], f"{name}/high": interval["high"]}
    found = {name: interval["mean"], **ends}
    return {name: value for name, value in found.items() if math.isfinite(value)}
