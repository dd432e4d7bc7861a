"""Converts summary.json to the names and values that Weights & Biases stores.

Logging and the dashboard use the same functions, so the names agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

# names under which the callback that tracks circuits in training logs the same values
CIRCUIT_NAMES = {"circuit_edges": "edges", "edges": "graph_edges", "nodes": "graph_nodes"}


def summary_values(verb: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a run logs to W&B once, at its end, by name.

    Args:
        verb: the command that made the run, such as `train`.
        summary: contents of the run's summary.json.
    """
    if verb == "circuit":
        return circuit_values(summary)
    if verb == "compare":
        return compared_values(summary)
    return result_values(summary) if "systems" in summary else {}


def result_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a training or evaluation run logs at its end, by name.

    They are the numbers in its summary, the seconds of each phase (`time/PHASE`), and the mean test
    scores (`test/SYSTEM/SCORE`) with the ends of their intervals (`/low` and `/high` appended).

    Args:
        summary: contents of the run's summary.json.
    """
    values = _numbers(summary)
    values |= {f"time/{phase}": value for phase, value in summary.get("seconds", {}).items()}
    for system, scores in summary["systems"].items():
        for measure, interval in scores.items():
            values |= _interval(f"test/{system}/{measure}", interval)
    return values


def circuit_values(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that `sumcirc circuit` logs at its end, by name.

    They describe the circuit's size, faithfulness and stability. Values that aren't finite are left
    out.

    Args:
        summary: contents of the run's summary.json.
    """
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
    """Return the values that `sumcirc compare` logs at its end, by name.

    They are `compare/MODEL/SIDE/END`: the metric `before` and `after` and its `difference`, each
    with its mean, the ends of its interval and its number of documents.

    Args:
        summary: contents of the run's summary.json.
    """
    return {
        f"compare/{name}/{side}/{end}": value
        for name, one in summary["after"].items()
        for side, interval in one["metric"].items()
        for end, value in interval.items()
        if math.isfinite(value)
    }


def compared_tables(summary: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the tables that `sumcirc compare` logs, as rows by table name, without empty tables.

    Args:
        summary: contents of the run's summary.json.
    """
    tables: dict[str, Rows] = {}
    for name, one in summary["after"].items():
        found = {"direct": one.get("direct", []), "surgery": one.get("surgery", [])}
        found |= {key: value["parts"] for key, value in one.get("patching", {}).items()}
        tables |= {f"compare/{name}/{key}": rows for key, rows in found.items() if rows}
    return tables


def image_files(figures: Path) -> dict[str, Path]:
    """Return a run's PNG files by the names under which they are logged.

    Args:
        figures: the run's folder of figures. A file in it is named `figures/NAME`, a file in a
            subfolder `figures/FOLDER/NAME`.
    """
    files = sorted([*figures.glob("*.png"), *figures.glob("*/*.png")])
    return {f"figures/{file.relative_to(figures).with_suffix('')}": file for file in files}


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: value for name, value in summary.items() if isinstance(value, (int, float))}
    numbers.pop("format", None)  # describes the file, not the run
    return numbers


def _interval(name: str, interval: Mapping[str, float]) -> dict[str, float]:
    ends = {f"{name}/low": interval["low"], f"{name}/high": interval["high"]}
    found = {name: interval["mean"], **ends}
    return {name: value for name, value in found.items() if math.isfinite(value)}
