"""Converts summary.json to the names and values that Weights & Biases stores.

Logging and the dashboard use the same functions, so the names agree. Files hold ROUGE and facts as
fractions; W&B also has them times 100, under names that end in `_x100`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sumcirc.tracking.score_names import SHARES, shown_in_wandb

Rows = Sequence[Mapping[str, Any]]

# version of the names in W&B, stored in status.json: 2 has the names in `_x100`
NAMES = 2

CARD_COUNTS = ("passed", "failed", "not_tested")  # lines of a circuit's card

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

    They are the numbers in its summary, the seconds of each phase (`time/PHASE`), what training
    cost (`cost/NAME`), and the mean test scores that runs are compared by: `test/SYSTEM/SCORE` for
    the scores in `SHARES`, as a fraction and times 100. `score_rows` has all scores. Of each corpus
    of other texts they have the results of each system (`retention/CORPUS/SYSTEM/NAME`) and the
    change (`retention/CORPUS/NAME`).

    Args:
        summary: contents of the run's summary.json.
    """
    values = _numbers(summary)
    values |= {f"time/{phase}": value for phase, value in summary.get("seconds", {}).items()}
    values |= {f"cost/{name}": value for name, value in summary.get("cost", {}).items()}
    for system, scores in summary["systems"].items():
        means = {name: one["mean"] for name, one in scores.items() if name in SHARES}
        found = {f"test/{system}/{name}": value for name, value in times_100(means).items()}
        values |= {name: value for name, value in found.items() if math.isfinite(value)}
    return values | _retention_values(summary.get("retention", {}))


def _retention_values(corpora: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for corpus, one in corpora.items():
        for system, scores in one["systems"].items():
            means = {f"{system}/{name}": score for name, score in scores.items()}
            found |= {f"retention/{corpus}/{name}": mean for name, mean in means.items()}
        for name in ("nll_change", "kl"):
            if name in one:
                found[f"retention/{corpus}/{name}"] = one[name]
    return {
        key: value
        for name, interval in found.items()
        for key, value in _interval(name, interval).items()
    }


def times_100(means: Mapping[str, float]) -> dict[str, float]:
    """Return means by name, with an additional entry in `_x100` for each ROUGE F1 and share.

    Args:
        means: mean of each score, by the name of the score or by a path that ends in it, such as
            `summaries/rouge1_f1`.
    """
    found = dict(means)
    for name, value in means.items():
        start, slash, score = name.rpartition("/")
        if score in SHARES:
            shown, scale = shown_in_wandb(score)
            found[f"{start}{slash}{shown}"] = scale * value
    return found


def score_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table `test/scores`: each score of each system with its interval.

    Args:
        summary: contents of the run's summary.json.
    """
    rows = []
    for system, scores in summary.get("systems", {}).items():
        for score, interval in scores.items():
            name, scale = shown_in_wandb(score)
            ends = {end: _scaled(interval[end], scale) for end in ("mean", "low", "high")}
            rows.append({"system": system, "score": name, **ends, "documents": interval["n"]})
    return rows


def _scaled(value: float, scale: float) -> float | None:
    return scale * value if math.isfinite(value) else None


def arm_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table of arms with ROUGE and shares times 100, under their names in W&B.

    Args:
        row: a row of arms.csv, by column.
    """
    found = {}
    for column, value in row.items():
        score = next((one for one in SHARES if column in _columns_of(one)), None)
        if score is None:
            found[column] = value
        else:
            name, scale = shown_in_wandb(score)
            if value is not None and not column.endswith("_documents"):
                value *= scale
            found[name + column.removeprefix(score)] = value
    return found


def _columns_of(score: str) -> set[str]:
    return {score, *(f"{score}_{part}" for part in ("low", "high", "documents"))}


def difference_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table of differences with ROUGE and shares times 100.

    Args:
        row: a row of differences.csv, by column.
    """
    if row["measure"] not in SHARES:
        return dict(row)
    name, scale = shown_in_wandb(row["measure"])
    numbers = {key: row[key] for key in ("difference", "low", "high", "error")}
    scaled = {key: None if one is None else scale * one for key, one in numbers.items()}
    return {**row, "measure": name, **scaled}


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
    beside = summary.get("in_sample", {})
    for name in ("faithfulness", "cpr", "cmd"):
        if name in beside:
            values |= _interval(f"circuit/in_sample/{name}", beside[name])
    if summary.get("control") is not None:
        values |= _interval("circuit/control", summary["control"])
    if summary.get("reached") is not None:
        values["circuit/reached_edges"] = summary["reached"]["edges"]
    if "card" in summary:
        values |= {f"circuit/card/{name}": summary["card"][name] for name in CARD_COUNTS}
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
        found = {key: one.get(key, []) for key in ("direct", "logit_lens", "surgery")}
        found |= {key: value["parts"] for key, value in one.get("patching", {}).items()}
        scores = one.get("path", {}).get("units", {})
        found |= {f"path_{grain}": rows for grain, rows in scores.items()}
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
