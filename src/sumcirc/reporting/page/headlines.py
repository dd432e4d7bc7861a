"""Section: what was found, in sentences; each is one figure of a record that a section shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.evaluation.results import BASE, TRAINED, interval
from sumcirc.evaluation.score_table import format_score
from sumcirc.figures.drawing import record_name
from sumcirc.reporting.comparison import Comparison
from sumcirc.reporting.page.heads import ALPHA, KL, entropy_change, peak
from sumcirc.reporting.page.models import doubtful
from sumcirc.reporting.page.view import Block, Items, Page, Variant
from sumcirc.reporting.tables import in_words
from sumcirc.runtime.notices import WARNING, lines_of_runs
from sumcirc.statistics import bracketed, mean_over, significantly_different
from sumcirc.tracking.run_records import RunRecords

MOST = 6  # more runs than that are told by their comparison alone
BESIDE = (BASE, "lead-3", "oracle")
CKA = "residual/cka"


def add(page: Page, runs: Sequence[RunRecords], comparison: Comparison | None) -> None:
    """First what holds over runs, then what each run found."""
    blocks: list[Block] = []
    words = in_words(comparison) if comparison is not None else []
    if words:
        blocks.append(Items("Between the runs", words))
    warnings = [
        line for line in lines_of_runs([run.summary for run in runs]) if line.startswith(WARNING)
    ]
    if warnings:
        blocks.append(Items("Before all else", warnings))
    if len(runs) <= MOST:
        found = [(run.name, sentences(run)) for run in runs]
        blocks += [Items(name, lines) for name, lines in found if lines]
    intro = "The figures to begin with; the sections below have them with their pictures."
    page.add("short", "In short", intro, [Variant("", blocks)])


def sentences(run: RunRecords) -> list[str]:
    """What one run's records say, most important first."""
    lines = [*_quality(run.summary.get("systems", {})), *_circuit(run)]
    for name, after in run.summary.get("after", {}).items():
        lines += _compared(name, after, run.summary)
    return lines + _attention(run) + _depth(run)


def _quality(systems: Mapping[str, Any]) -> list[str]:
    if TRAINED not in systems:
        return []
    lines = []
    for key, label in (("rougeLsum_f1", "ROUGE-Lsum"), ("facts", "Key facts that are right")):
        own = systems[TRAINED].get(key)
        if own is None:
            continue
        beside = [
            f"{name} {format_score(interval(systems[name][key]))}"
            for name in BESIDE
            if systems.get(name, {}).get(key)
        ]
        scale = " %" if key == "facts" else ""
        others = f" Beside it: {', '.join(beside)}." if beside else ""
        documents = f" on {own['n']} documents" if key != "facts" else ""
        lines.append(f"{label}: {format_score(interval(own))}{scale}{documents}.{others}")
    return lines


def _attention(run: RunRecords) -> list[str]:
    records = [record for record in run.probes if KL in record.values]
    if not records:
        return []
    last = records[-1]
    means = mean_over(np.asarray(last.values[KL], dtype=np.float64), axis=-1)
    layer, head = peak(means)
    lines = [
        f"Attention is farthest from the base's in layer {layer}, head {head}: KL"
        f" {means[layer, head]:.2f} nats at {record_name(last)} (mean of all heads"
        f" {np.nanmean(means):.2f}). A difference, not a cause."
    ]
    differences = entropy_change(last, run.base_probe)
    if differences is not None:
        sure = significantly_different(differences, ALPHA)
        fell = mean_over(differences, axis=-1) < 0
        lines.append(
            f"Attention became more concentrated in {int((sure & fell).sum())} and more spread in"
            f" {int((sure & ~fell).sum())} of {sure.size} heads, beyond noise (Wilcoxon's test,"
            f" false discovery rate {100 * ALPHA:.0f} %)."
        )
    return lines


def _depth(run: RunRecords) -> list[str]:
    records = [record for record in run.probes if CKA in record.values]
    if not records:
        return []
    means = mean_over(np.asarray(records[-1].values[CKA], dtype=np.float64), axis=-1)
    if not np.isfinite(means).any():
        return []
    lowest = int(np.nanargmin(means))
    place = "the embedding" if lowest == 0 else f"the residual stream after layer {lowest - 1}"
    return [
        f"Least like the base's is {place}: linear CKA {means[lowest]:.2f} (1: represents the"
        " documents alike)."
    ]


def _circuit(run: RunRecords) -> list[str]:
    found = run.summary
    if "circuit_edges" not in found:
        return []
    faithful, area = found["faithfulness"], found["cmd"]
    if math.isnan(faithful["mean"]):
        return [
            f"The circuit has {found['circuit_edges']:,} of {found['edges']:,} edges and no"
            " faithfulness: see the notes of the run."
        ]
    control = [one["mean"] for one in area["random"] if math.isfinite(one["mean"])]
    lines = [
        f"A circuit of {found['circuit_edges']:,} of {found['edges']:,} edges does"
        f" {_interval(faithful)} of what the model does (faithfulness, {found['pairs']} pairs);"
        f" CMD {_interval(area['value'])} (0 is best), of random circuits"
        f" {sum(control) / len(control):.2f}."
    ]
    if "jaccard" in found and math.isfinite(found["jaccard"]["mean"]):
        lines.append(
            f"Found again on other samples of the documents it shares {_interval(found['jaccard'])}"
            f" of its edges (Jaccard; by chance {found['jaccard_chance']:.2f})."
        )
    return lines


def _compared(name: str, found: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    difference = found["metric"]["difference"]
    metric = f"{summary['metric'].replace('_', ' ')} ({summary['unit']})"
    lines = [f"{name} minus {summary['before']}, {metric}: {_interval(difference, '+')}."]
    if doubtful(found):
        return [*lines, "That is not reliably different, so shares of the gap say little."]
    for direction, carried in found.get("patching", {}).items():
        # the residual stream carries all that is below it, so it is no finding
        parts = [row for row in carried["parts"] if row["kind"] in ("output", "mlp")]
        best = max(parts, key=lambda row: row["mean"], default=None)
        if best is not None:
            lines.append(
                f"{direction.capitalize()}: of single heads and MLPs {best['part']} carries most,"
                f" {_interval(best)} of the gap."
            )
    return lines


def _interval(one: Mapping[str, float], sign: str = "") -> str:
    return bracketed(one["mean"], one["low"], one["high"], f"{sign}.2f")
