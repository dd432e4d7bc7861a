"""Views of a circuit's faithfulness by its size, and of how a circuit changed in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.kinds import Curve, Curves, Map, NotDrawableError, Table, View
from sumcirc.reporting.measured import step_name
from sumcirc.reporting.views.nulls import or_nan
from sumcirc.statistics import bracketed

RANKINGS = {"absolute": "by |score|", "signed": "by score"}
RANDOM = "random edges"
OVERLAPS = {
    "to_first": "with the first",
    "to_previous": "with the previous one",
    "to_last": "with the last",
}
ENDS = ("mean", "low", "high")


def faithfulness(record: Mapping[str, Any], edges: int | None = None) -> View:
    """Return a plot of faithfulness against circuit size, with random circuits as a control.

    If pairs were held out, the curves are of those, and a curve of the pairs on which the edges
    were chosen is drawn beside them.

    There is one curve for circuits of the edges with the largest scores, and one for circuits of
    the edges with the largest |score|.

    Args:
        record: the content of faithfulness.json.
        edges: number of edges in the whole graph, if known.

    Raises:
        NotDrawableError: no circuit has both an edge and a faithfulness.
    """
    beside = record.get("in_sample")
    where = "in-sample" if beside is None else "held-out"
    curves = [_ranked(record[name], f"{label}, {where}") for name, label in RANKINGS.items()]
    if beside is not None:
        name, label = next(iter(RANKINGS.items()))
        curves.append(_ranked(beside[name], f"{label}, in-sample"))
    # random circuits of one size: their mean, with a band from the lowest to the highest
    columns = [c for c in zip(*record["absolute"]["random"], strict=True) if all(map(_defined, c))]
    columns = [column for column in columns if all(p["edges"] for p in column)]
    values = [[p["faithfulness"]["mean"] for p in column] for column in columns]
    places = [float(np.mean([p["edges"] for p in column])) for column in columns]
    mean, low, high = ([float(f(some)) for some in values] for f in (np.mean, min, max))
    curves.append(Curve(RANDOM, places, mean, low, high, look="control"))
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        raise NotDrawableError("no circuit has a faithfulness: see the notes of the run")
    of = f" (of {edges:,})" if edges else ""
    levels = {"whole model": 1.0, "empty circuit": 0.0}
    label, limits = "normalized faithfulness", _limits(curves)
    cut = "" if limits == (None, None) else " Bands end where the picture does; the table has all."
    return View(
        "Faithfulness by size",
        [[Curves(f"edges in the circuit{of}", label, curves, "log", levels=levels, limits=limits)]],
        "How much of what the model does a circuit of this size does: 0 nothing, 1 all of it. The"
        " bands of the rankings are 95 % intervals over documents. Held-out: on other documents"
        " than those that chose the edges; in-sample: on the same ones. Random circuits with as"
        " many edges of each kind and layer are the control, with a band from the lowest to the"
        f" highest: a good circuit is far above them.{cut}",
        "Faithfulness over the number of edges, for circuits by score and for random ones.",
        columns=("curve", "edges", *ENDS),
        rows=[
            (curve.name, *point)
            for curve in curves
            for point in zip(curve.x, curve.y, curve.low or (), curve.high or (), strict=True)
        ],
    )


def _limits(curves: Sequence[Curve]) -> tuple[float | None, float | None]:
    """Return limits of the axis if intervals would make the curves themselves unreadable.

    The interval of a ratio of means is very long if few documents have most of the effect.
    """
    means = np.concatenate([curve.y for curve in curves])
    known = [end for curve in curves for end in (curve.low, curve.high) if end is not None]
    ends = np.concatenate([np.array(end, dtype=float) for end in known])
    ends = ends[np.isfinite(ends)]
    bottom, top = min(0.0, float(means.min())) - 0.5, max(1.0, float(means.max())) + 0.5
    fits = all((bottom <= ends) & (ends <= top))
    return (None, None) if fits else (bottom, top)


def _ranked(ranking: Mapping[str, Any], label: str) -> Curve:
    points = [p for p in ranking["points"] if p["edges"] and _defined(p)]
    mean, low, high = ([p["faithfulness"][end] for p in points] for end in ENDS)
    return Curve(label, [p["edges"] for p in points], mean, low, high)


def _defined(point: Mapping[str, Any]) -> bool:
    mean = point["faithfulness"]["mean"]
    return mean is not None and math.isfinite(mean)


def faithfulness_table(record: Mapping[str, Any]) -> Table:
    """Return a table of the faithfulness of circuits of several sizes.

    The circuits consist of the edges with the largest |score|. Beside them are their faithfulness
    on the pairs on which the edges were chosen, if others were held out, and that of random
    circuits of the same sizes.

    Args:
        record: the content of faithfulness.json.
    """
    rows, beside = [], record.get("in_sample")
    chosen = [] if beside is None else beside["absolute"]["points"]
    together = record["absolute"].get("control")
    for i, point in enumerate(record["absolute"]["points"]):
        controls = [points[i]["faithfulness"]["mean"] for points in record["absolute"]["random"]]
        random = mean_of([or_nan(mean) for mean in controls], ".2f")
        if together:
            random = _bracketed(together[i])
        rows.append(
            [
                str(point["edges"]),
                f"{100 * (point['fraction'] or 0):g} %",
                _bracketed(point["faithfulness"]) if point["edges"] else "no edge",
                *([_bracketed(chosen[i]["faithfulness"])] if chosen else []),
                random,
                f"{point['kl']['mean']:.3f}",
            ]
        )
    ranked = RANKINGS["absolute"]
    judged = [f"{ranked}, held-out", "in-sample"] if chosen else [f"{ranked}, in-sample"]
    headings = ["edges", "share", *judged, "random", "KL(model || circuit), nats"]
    return Table("faithfulness (1: the whole model, 0: all edges patched)", headings, rows)


def _bracketed(interval: Mapping[str, Any]) -> str:
    mean, low, high = (or_nan(interval[end]) for end in ENDS)
    return bracketed(mean, low, high, ".2f") if math.isfinite(mean) else "-"


def mean_of(values: Sequence[float], form: str) -> str:
    """Return the mean of the finite values as text, or `-` if no value is finite.

    Args:
        values: the numbers.
        form: Python format specification for the mean.
    """
    found = [value for value in values if math.isfinite(value)]
    return format(sum(found) / len(found), form) if found else "-"


def evolution(record: Mapping[str, Any]) -> View:
    """Return a view of how much the circuits of different checkpoints overlap, and how they change.

    The overlap is the Jaccard index of two circuits. A point is filled if the two circuits differ
    by more than those of two resamples of the documents do, and hollow otherwise. Vertical lines
    are bootstrap intervals. The broad grey line is the overlap of two resamples at one checkpoint,
    which is expected if nothing changes. The dotted line is the overlap expected by chance.

    Args:
        record: the content of evolution.json.

    Raises:
        NotDrawableError: there are fewer than 2 checkpoints, or neither edges nor nodes were
            recorded.
    """
    tracks = {name: record[name] for name in ("edges", "nodes") if name in record}
    steps = record["steps"]
    if len(steps) < 2 or not tracks:
        raise NotDrawableError(
            f"circuit evolution: {len(steps)} checkpoint(s); 2 or more are needed to see change"
        )
    whose = f"'s {next(iter(tracks))}" if len(tracks) == 1 else ""
    return View(
        f"Evolution of the circuit{whose}",
        [
            [_overlaps(name, steps, track) for name, track in tracks.items()],
            [_rates(steps, track) for track in tracks.values()],
        ],
        "Share of edges, or nodes, that two circuits have in common. 'Of two resamples' is what two"
        " samples of the documents would give if nothing had changed: only an overlap clearly"
        " below it is a change. Filled points differ by more than that noise, hollow ones don't.",
        f"Overlap of circuits over {len(steps)} checkpoints.",
        note="filled: differs beyond noise; hollow: within noise",
        columns=(
            *("members", "step", "compared", "jaccard", "low", "high", "chance", "differs"),
            *("within", "change_rate"),
        ),
        rows=[row for name, track in tracks.items() for row in _rows(name, steps, track)],
    )


def _named(steps: Sequence[int]) -> list[str]:
    return ["base" if step < 0 else f"{step:,}" for step in steps]


def _column(track: Mapping[str, Any], key: str, count: int) -> np.ndarray:
    """Return the list `track[key]` as an array; missing or null values become NaN.

    If there is no such list, the array has `count` NaNs.
    """
    column = track.get(key)
    return np.array([None] * count if column is None else column, dtype=np.float64)


def _overlaps(name: str, steps: Sequence[int], track: Mapping[str, Any]) -> Curves:
    count, x = len(steps), _named(steps)
    curves = [
        Curve("of two resamples of the step", x, _column(track, "within", count), look="noise"),
        Curve("chance", x, _column(track["to_first"], "chance", count), look="chance"),
    ]
    for key, label in OVERLAPS.items():
        if key in track:
            found = [_column(track[key], part, count) for part in ("jaccard", "low", "high")]
            itself = {"to_first": 0, "to_last": count - 1}.get(key)
            if itself is not None:
                for values in found:  # a checkpoint can't be compared with itself
                    values[itself] = np.nan
            differs = track[key]["differs"]
            curves.append(Curve(label, x, found[0], found[1], found[2], filled=differs))
    label = "Jaccard index of circuits"
    return Curves("optimizer step", label, curves, "name", False, True, {}, (-0.02, 1.03), name)


def _rates(steps: Sequence[int], track: Mapping[str, Any]) -> Curves:
    rates = _column(track, "change_rate", len(steps))
    total = rates.sum()
    text = f"in all {total:,.0f} %" if np.isfinite(total) else "the first circuit is empty"
    rates[0] = np.nan  # there is none before the first
    label, high = "changed since the\nprevious (% of first)", np.nanmax(rates, initial=0.0)
    limits = (0.0, 1.1 * max(float(high), 1.0))
    curves = [Curve("change since the previous", _named(steps), rates, look="whole")]
    return Curves("optimizer step", label, curves, "name", limits=limits, title=text)


def _rows(name: str, steps: Sequence[int], track: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    count, rows = len(steps), []
    shared = [_column(track, part, count) for part in ("within", "change_rate")]
    for key in OVERLAPS:
        if key not in track:
            continue
        columns = [_column(track[key], c, count) for c in ("jaccard", "low", "high", "chance")]
        for i, step in enumerate(steps):
            values, differs = [column[i] for column in columns], bool(track[key]["differs"][i])
            more = [column[i] for column in shared]
            rows.append((name, step, key.removeprefix("to_"), *values, differs, *more))
    return rows


def said(record: Mapping[str, Any], what: str) -> str:
    """Return a sentence that names the checkpoints whose circuits differ from the base's.

    Args:
        record: the content of evolution.json.
        what: the sets that are compared: `edges` or `nodes`.
    """
    track = record[what]
    pairs = zip(record["steps"], track["to_first"]["differs"], strict=True)
    differing = [step_name(step) for step, differs in pairs if differs]
    rate = track["total_change_rate"]
    moved = "" if rate is None else f" Summed over checkpoints {rate:.0f} % of the {what} changed."
    if not differing:
        return f"At no checkpoint do the {what} differ from the base's beyond noise.{moved}"
    return f"The {what} differ from the base's beyond noise at {', '.join(differing)}.{moved}"


def transition(one: Mapping[str, Any]) -> View:
    """Return a map of the edges that joined or left the circuit between two checkpoints.

    The map shows the number of these edges by layer of the source and layer of the destination.

    Args:
        one: an element of `transitions` in evolution.json.
    """
    added, removed = (np.asarray(one[f"{k}_by_layer"], float) for k in ("added", "removed"))
    changed, layers = added + removed, len(added) - 1
    details = [
        [f"{came:.0f} joined, {left:.0f} left" for came, left in zip(*rows, strict=True)]
        for rows in zip(added, removed, strict=True)
    ]
    panel = Map(
        np.where(changed > 0, changed, np.nan),  # a source never comes after its destination
        "edges that changed",
        "edges",
        marked=changed > np.asarray(one["noise_by_layer"], float),
        rows=["embedding", *map(str, range(layers))],
        columns=[*map(str, range(layers)), "logits"],
        x="layer of the destination",
        y="layer of the source",
        details=details,
    )
    name = f"{step_name(one['step'])} to {step_name(one['next_step'])}"
    return View(
        "Where edges joined and left",
        [[panel]],
        "Edges that joined or left the circuit between two checkpoints, by layer. A dot marks more"
        " change than 95 % of resamples of the documents show with nothing changed; of many cells"
        " 5 % have one by chance.",
        f"Map of source layer by destination layer; {name}: {int(changed.sum())} edges changed.",
        heading=name,
    )
