"""Comparison of checkpoints: one row for each, from runs of evaluate, circuit and compare.

Runs are compared within groups that measured the same: the same items for scores, the same metric
and data for circuits. Differences are taken from the first run of a group, document by document, so
that only documents on which both runs have a value count; their intervals resample documents and
say nothing about seeds. Nothing here imports torch; overlaps of circuits are passed in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.reporting.inside import INSIDE
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.runs import ReportRun
from sumcirc.reporting.tables import interval_of
from sumcirc.reporting.views.system_scores import rouge_words
from sumcirc.statistics import Bootstrap, Interval, bootstrap_difference, bootstrap_mean, bracketed
from sumcirc.tracking.score_names import BASE, ROUGE_LSUM, SCORES, TRAINED, scale_of

SHOWN = ("rouge1_f1", "rouge2_f1", ROUGE_LSUM, "facts", "length")  # columns of the table of scores
OTHER_TEXTS = ("retention_change", "retention_kl")
UNDEFINED = Interval(math.nan, math.nan, math.nan, 0)
COLUMNS = (
    *("group", "checkpoint", "run", "measure", "size", "mean", "low", "high", "documents"),
    *("against", "difference", "difference_low", "difference_high", "shared_documents"),
)


@dataclass(frozen=True)
class Value:
    """One measure of one checkpoint.

    Attributes:
        measure: name of the measure, such as `rouge1_f1` or `faithfulness`.
        mean: its value with its interval.
        difference: its difference from the first checkpoint of the group; None where there is none.
        size: fraction of all edges in the circuit; None for other measures.
        against: what the difference is taken from; empty for the first checkpoint of the group.
    """

    measure: str
    mean: Interval
    difference: Interval | None = None
    size: float | None = None
    against: str = ""


@dataclass(frozen=True)
class Overlaps:
    """Overlap of the circuits of a group, see `circuits.evolution`; lists are by checkpoint.

    Attributes:
        edges: number of edges in the circuit.
        first: Jaccard index with the circuit of the first checkpoint, with bounds over resamples
            of the documents.
        chance: index to expect for random circuits of these sizes.
        within: index of the circuits of two resamples of the checkpoint's own documents.
        differs: whether the circuit differs from the first one's by more than noise.
        pairs: [checkpoints, checkpoints] Jaccard index of each two circuits.
    """

    edges: list[int]
    first: list[Interval]
    chance: list[float]
    within: list[float]
    differs: list[bool]
    pairs: NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Checkpoints that can be compared.

    Attributes:
        name: what was measured, in words.
        verb: the verb of the runs.
        runs: one run for each checkpoint.
        names: name of each checkpoint.
        values: the measures of each checkpoint.
        overlaps: overlap of the circuits; None if it was not computed.
        note: why the overlap was not computed, or empty.
    """

    name: str
    verb: str
    runs: list[ReportRun]
    names: list[str]
    values: list[list[Value]]
    overlaps: Overlaps | None = None
    note: str = ""


def groups_of(
    runs: Sequence[ReportRun],
    overlaps_of: Callable[[Sequence[ReportRun]], Overlaps],
    confidence: float = 0.95,
) -> list[Group]:
    """Return the groups of two checkpoints or more among some runs.

    Args:
        runs: runs of any verb, of which the finished runs of evaluate, circuit and compare count.
        overlaps_of: computes the overlap of the circuits of a group. It raises UserError where
            they can't be compared.
        confidence: level of the intervals of differences.

    Raises:
        RecordError: a record of a run is damaged.
    """
    found: dict[str, list[ReportRun]] = {}
    for run in runs:
        if run.done and run.verb in READERS:
            found.setdefault(json.dumps(_key(run), sort_keys=True), []).append(run)
    groups = []
    for members in found.values():
        if len(members) < 2:
            continue
        verb, names = members[0].verb, _names(members)
        bootstrap = Bootstrap(confidence=confidence)
        values = [READERS[verb](run, members[0], names[0], bootstrap) for run in members]
        overlaps, note = None, ""
        if verb == "circuit":
            try:
                overlaps = overlaps_of(members)
            except UserError as error:
                note = f"The circuits' overlap is not given: {error}"
        groups.append(Group(_title(members[0]), verb, members, names, values, overlaps, note))
    return groups


def _key(run: ReportRun) -> list[Any]:
    """Return what runs must have in common to be compared."""
    summary, config = run.summary, run.config
    if run.verb == "evaluate":
        return [run.verb, summary.get("items"), rouge_words(summary)]
    data = [config.get(name) for name in ("data", "encoding", "pairs", "prompts")]
    if run.verb == "circuit":
        how = [summary.get(name) for name in ("method", "metric", "ablation", "nodes", "edges")]
        return [run.verb, *how, *data]
    return [run.verb, summary.get("metric"), summary.get("unit"), *data]


def _title(run: ReportRun) -> str:
    if run.verb == "circuit":
        return f"circuits by {run.summary.get('method')}, metric {run.summary.get('metric')}"
    if run.verb == "compare":
        return f"{run.summary['metric']} ({run.summary['unit']}) of compared models"
    return f"scores on {run.config['data']['name'] if run.systems else 'other texts'}"


def _names(runs: Sequence[ReportRun]) -> list[str]:
    """Return the name of each run's checkpoint; those of the runs if checkpoints repeat."""
    names = []
    for run in runs:
        given = run.config.get("after") if run.verb == "compare" else run.config.get("checkpoint")
        paths = given if isinstance(given, list) else [given] if given else []
        short = "+".join("/".join(Path(str(path)).parts[-2:]) for path in paths)
        names.append(short or f"{run.config['model']['name']} (not fine-tuned)")
    return names if len(set(names)) == len(names) else [run.name for run in runs]


def _scores(run: ReportRun, first: ReportRun, name: str, bootstrap: Bootstrap) -> list[Value]:
    system, other = (
        TRAINED if TRAINED in one.systems else BASE if BASE in one.systems else ""
        for one in (run, first)
    )
    found = []
    scores = run.systems.get(system, {})
    # runs with evaluation.summaries=false have none
    ids, ours = run.scores(system, list(SCORES)) if system else ([], {})
    other_ids, theirs = first.scores(other, list(SCORES)) if other else ([], {})
    for measure in SCORES:
        if measure not in scores or measure not in ours:
            continue
        difference = None
        if run is not first and measure in theirs and ids == other_ids:
            pair = np.stack([ours[measure], theirs[measure]])
            defined = pair[:, np.isfinite(pair).all(axis=0)]
            if defined.shape[1]:
                options = bootstrap.resamples, bootstrap.confidence
                difference = bootstrap_difference(defined[0], defined[1], *options)
        against = "" if run is first else name
        found.append(Value(measure, interval_of(scores[measure]), difference, None, against))
    return found + _other_texts(run, first, name, bootstrap)


def _other_texts(run: ReportRun, first: ReportRun, name: str, bootstrap: Bootstrap) -> list[Value]:
    """Return what a run measured on other texts: change from its base, and KL."""
    found = []
    options = bootstrap.resamples, bootstrap.confidence
    for measure in OTHER_TEXTS:
        ours, theirs = run.inside.get(measure), first.inside.get(measure)
        if ours is None:
            continue
        difference = None
        if run is not first and theirs is not None and ours.documents == theirs.documents:
            difference = bootstrap_difference(ours.values, theirs.values, *options)
        mean = bootstrap_mean(ours.values, *options)
        against = "" if run is first else name
        found.append(Value(measure, mean, difference, None, against))
    return found


def _faithfulness(run: ReportRun, first: ReportRun, name: str, bootstrap: Bootstrap) -> list[Value]:
    summary, against = run.summary, "" if run is first else name
    found = [Value("circuit_faithfulness", _interval(summary["faithfulness"]), None, None, "")]
    if run.faithfulness is not None and first.faithfulness is not None:
        held_out = "in_sample" in first.faithfulness
        ours, theirs = (_Curve(one["absolute"]) for one in (run.faithfulness, first.faithfulness))
        for fraction, point in ours.points.items():
            difference = None
            # figures in-sample and on held-out pairs are not compared
            if run is not first and ("in_sample" in run.faithfulness) == held_out:
                difference = ours.minus(theirs, fraction, bootstrap)
            mean = _interval(point["faithfulness"])
            found.append(Value("faithfulness", mean, difference, fraction, against))
    for measure in ("cpr", "cmd"):
        found.append(Value(measure, _interval(summary[measure]["value"]), None, None, ""))
    return found


class _Curve:
    """Faithfulness by document of circuits of several sizes, from circuits/faithfulness.json."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.documents: list[str] = record.get("documents", [])
        self.points = {point.get("fraction"): point for point in record["points"]}

    def minus(self, other: _Curve, fraction: float | None, bootstrap: Bootstrap) -> Interval | None:
        """Return the difference of the faithfulness on documents that both curves have."""
        shared = [name for name in self.documents if name in set(other.documents)]
        if not shared or fraction not in other.points:
            return None
        parts = [one._parts(fraction, shared) for one in (self, other)]
        if any(part is None for part in parts):
            return None
        (ours, gap), (theirs, other_gap) = parts  # type: ignore[misc]

        def difference(picks: NDArray[np.int64]) -> Any:
            f = ours[picks].mean(-1) / gap[picks].mean(-1)
            return f - theirs[picks].mean(-1) / other_gap[picks].mean(-1)

        return bootstrap.interval(difference, len(shared))

    def _parts(
        self, fraction: float | None, shared: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return m(C) - m(0) and m(G) - m(0) of each shared document; None if undefined."""
        point = self.points[fraction]
        if "metric" not in point or not point["edges"]:
            return None
        if not math.isfinite(_interval(point["faithfulness"]).mean):
            return None
        place = [self.documents.index(name) for name in shared]
        metric, empty, full = (
            np.array(values, dtype=np.float64)[place]
            for values in (point["metric"], self.record["empty"], self.record["full"])
        )
        return metric - empty, full - empty


def _differences(run: ReportRun, first: ReportRun, name: str, bootstrap: Bootstrap) -> list[Value]:
    found = []
    several = len(run.summary["after"]) > 1
    for after, compared in run.summary["after"].items():
        metric = compared["metric"]
        measure = f"{run.summary['metric']} {after}" if several else run.summary["metric"]
        value, change = _interval(metric["after"]), _interval(metric["difference"])
        found.append(Value(measure, value, change, None, run.summary["before"]))
    return found


READERS = {"evaluate": _scores, "circuit": _faithfulness, "compare": _differences}


def _interval(record: Mapping[str, Any]) -> Interval:
    ends = [record[key] if record[key] is not None else math.nan for key in ("mean", "low", "high")]
    return Interval(ends[0], ends[1], ends[2], record["n"])


# ---- tables and files


def tables(group: Group) -> list[Table]:
    """Return the tables of a group: values, differences, and overlaps of circuits."""
    found = [_table(group, "with intervals over documents", lambda one: one.mean)]
    if any(one.difference is not None for values in group.values for one in values):
        against = next(one.against for values in group.values for one in values if one.against)
        title = f"difference from {against} on the same documents"
        found.append(_table(group, title, lambda one: one.difference, signed=True))
    if group.overlaps is not None:
        found += _overlap_tables(group, group.overlaps)
    return found


def _table(
    group: Group, title: str, part: Callable[[Value], Interval | None], signed: bool = False
) -> Table:
    wanted = [
        one
        for one in {(one.measure, one.size): one for values in group.values for one in values}
        if group.verb != "evaluate" or one[0] in (*SHOWN, *OTHER_TEXTS)
    ]
    by_key = [{(one.measure, one.size): one for one in values} for values in group.values]
    shown = [key for key in wanted if any(key in one and part(one[key]) for one in by_key)]
    rows = [
        [name, *(_cell(part(one[key]) if key in one else None, key[0], signed) for key in shown)]
        for name, one in zip(group.names, by_key, strict=True)
    ]
    if any(scale_of(measure) != 1 for measure, _ in shown):
        title += f"; ROUGE{' and facts' if ('facts', None) in shown else ''} x 100"
    title = f"{group.name}: {title}"
    return Table(title, ["checkpoint", *(_heading(*key) for key in shown)], rows)


def _cell(value: Interval | None, measure: str, signed: bool) -> str:
    if value is None:
        return "-"
    scale = scale_of(measure)
    form = f"{'+' * signed}{'.1f' if measure in SCORES else '.3f'}"
    return bracketed(scale * value.mean, scale * value.low, scale * value.high, form)


def _heading(measure: str, size: float | None) -> str:
    if size is not None:
        return f"faithfulness, {100 * size:g} %"
    known = {"circuit_faithfulness": "faithfulness, circuit", "cpr": "CPR", "cmd": "CMD"}
    if measure in OTHER_TEXTS:
        return f"{INSIDE[measure].label}, {INSIDE[measure].unit}"
    return known.get(measure) or SCORES.get(measure, measure)


def _overlap_tables(group: Group, overlaps: Overlaps) -> list[Table]:
    rows = []
    for i, name in enumerate(group.names):
        one = overlaps.first[i]
        verdict = "differs" if overlaps.differs[i] else "within noise"
        rows.append(
            [
                name,
                str(overlaps.edges[i]),
                "-" if i == 0 else bracketed(one.mean, one.low, one.high, ".2f"),
                "-" if i == 0 else bracketed(overlaps.chance[i], None, None, ".3f"),
                bracketed(overlaps.within[i], None, None, ".2f"),
                "-" if i == 0 else verdict,
            ]
        )
    title = f"{group.name}: overlap (Jaccard index) with the circuit of {group.names[0]}"
    headings = ["checkpoint", "edges", "overlap", "by chance", "two resamples", "in words"]
    found = [Table(title, headings, rows, frozenset({"in words"}))]
    if len(group.names) > 2:
        cells = [[bracketed(value, None, None, ".2f") for value in row] for row in overlaps.pairs]
        rows = [[name, *row] for name, row in zip(group.names, cells, strict=True)]
        numbers = [f"[{i}]" for i in range(1, len(group.names) + 1)]
        rows = [[f"{number} {row[0]}", *row[1:]] for number, row in zip(numbers, rows, strict=True)]
        title = f"{group.name}: overlap of each two circuits"
        found.append(Table(title, ["checkpoint", *numbers], rows))
    return found


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the rows of checkpoints.csv: one for each checkpoint, measure and size.

    Scores are not multiplied by 100. Undefined numbers are NaN or None.
    """
    found = []
    for group in groups:
        for i, (run, name) in enumerate(zip(group.runs, group.names, strict=True)):
            values = list(group.values[i])
            if group.overlaps is not None:
                one, first = group.overlaps, "" if i == 0 else group.names[0]
                values.append(Value("overlap_with_first", one.first[i], None, None, first))
                for measure, number in (
                    ("overlap_by_chance", one.chance[i]),
                    ("overlap_of_resamples", one.within[i]),
                ):
                    interval = Interval(number, math.nan, math.nan, one.first[i].n)
                    values.append(Value(measure, interval, None, None, ""))
            found += [_row(group, name, run, value) for value in values]
    return found


def _row(group: Group, name: str, run: ReportRun, value: Value) -> dict[str, Any]:
    gap = value.difference
    return {
        "group": group.name,
        "checkpoint": name,
        "run": run.name,
        "measure": value.measure,
        "size": value.size,
        "mean": value.mean.mean,
        "low": value.mean.low,
        "high": value.mean.high,
        "documents": value.mean.n,
        "against": value.against,
        "difference": gap.mean if gap else None,
        "difference_low": gap.low if gap else None,
        "difference_high": gap.high if gap else None,
        "shared_documents": gap.n if gap else None,
    }
