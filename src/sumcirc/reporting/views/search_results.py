"""Results of a search for settings: a table with the best trial of each arm, and a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sumcirc.reporting.kinds import Curve, Curves, NotDrawableError, Table, View

Trials = list[Mapping[str, Any]]


def best_of(record: Mapping[str, Any], arm: str) -> Mapping[str, Any] | None:
    """Return the best trial of an arm, or None if all its trials failed.

    Args:
        record: contents of search.json.
        arm: name of the arm.
    """
    scored: Trials = [one for one in record["arms"][arm] if one["value"] is not None]
    best = min if record["mode"] == "min" else max
    return best(scored, key=lambda one: one["value"], default=None)


def best_table(record: Mapping[str, Any]) -> Table:
    """Return a table with the best trial of each arm.

    Args:
        record: contents of search.json.
    """
    rows = []
    for arm, trials in record["arms"].items():
        found = best_of(record, arm)
        failed = sum(one["value"] is None for one in trials)
        count = f"{len(trials)}" + (f" ({failed} failed)" if failed else "")
        if found is None:
            rows.append([arm, "-", "-", count])
            continue
        spread = ""
        if len(found["values"]) > 1:
            spread = f" ({min(found['values']):.4f} to {max(found['values']):.4f})"
        settings = " ".join(f"{key}={_short(value)}" for key, value in found["settings"].items())
        rows.append([arm, f"{found['value']:.4f}{spread}", settings, count])
    which = "lowest" if record["mode"] == "min" else "highest"
    seeds = f", mean over {record['seeds']} seeds (from the lowest to the highest)"
    title = f"{which} {record['objective']} of each arm{seeds * (record['seeds'] > 1)}"
    headings = ["arm", record["objective"], "settings", "trials"]
    return Table(title, headings, rows, frozenset({"settings"}))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trials_view(record: Mapping[str, Any]) -> View:
    """Return a view of the objective over each searched setting, with a curve for each arm.

    Args:
        record: contents of search.json.

    Raises:
        NotDrawableError: no trial has a value, or no searched setting is a number.
    """
    arms = {
        arm: [one for one in trials if one["value"] is not None]
        for arm, trials in record["arms"].items()
    }
    every = [one for trials in arms.values() for one in trials]
    names = dict.fromkeys(name for one in every for name in one["settings"])
    numbers = [name for name in names if all(_is_number(one["settings"][name]) for one in every)]
    if not numbers:
        raise NotDrawableError("search: no trial has a value and a number that was searched")
    panels = []
    for name in numbers:
        curves = []
        for arm, trials in arms.items():
            points = sorted((float(one["settings"][name]), one["value"]) for one in trials)
            if points:
                x, y = zip(*points, strict=True)
                curves.append(Curve(arm, list(x), list(y)))
        places = [place for curve in curves for place in curve.x]
        wide = min(places) > 0 and max(places) / min(places) >= 10
        panels.append([Curves(name, record["objective"], curves, "log" if wide else "linear")])
    return View(
        "Search",
        panels,
        f"Each point is a trial, joined in the order of the setting. The value is the run's last"
        f" {record['objective']} (its best with trainer.load_best), a mean over seeds if there are"
        " several. With several searched settings, the others differ from point to point.",
        f"{record['objective']} of {len(every)} trials over {', '.join(numbers)}.",
        columns=("arm", "trial", *names, "value"),
        rows=[
            (arm, one["number"], *(one["settings"][name] for name in names), one["value"])
            for arm, trials in arms.items()
            for one in trials
        ],
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False
    return isinstance(value, (int, float)) and math.isfinite(value)
