"""The page's first section: the main results in sentences, which later sections show in full."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sumcirc.reporting.comparison import ArmComparison
from sumcirc.reporting.data_counts import data_counts, data_counts_of
from sumcirc.reporting.kinds import NotDrawableError, sizes_of
from sumcirc.reporting.measured import (
    ALPHA,
    document_means,
    entropy_difference,
    percent,
    record_name,
)
from sumcirc.reporting.page.blocks import Block, Bullets, Page, RunBlocks
from sumcirc.reporting.tables import format_interval, format_score, interval_of
from sumcirc.reporting.views.arm_tables import in_words
from sumcirc.reporting.views.circuit_curves import mean_of
from sumcirc.reporting.views.model_tables import doubtful
from sumcirc.runtime.notices import WARNING, lines_of_runs
from sumcirc.statistics import mean_over, significantly_different
from sumcirc.tracking.measure_records import ATTENTION_KL, CKA
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.score_names import BASE, ROUGE_LSUM, TRAINED

MOST = 6  # number of runs above which only their comparison is summarized
BESIDE = (BASE, "lead-3", "oracle")


def add(page: Page, runs: Sequence[RunRecords], comparison: ArmComparison | None) -> None:
    """Add the section with the main results: comparisons of runs, followed by each run's results.

    Args:
        page: page to which the section is added.
        runs: runs to summarize.
        comparison: comparison of the arms, or None.
    """
    blocks: list[Block] = []
    words = in_words(comparison) if comparison is not None else []
    if words:
        blocks.append(Bullets("Between the runs", words))
    warnings = [
        line for line in lines_of_runs([run.summary for run in runs]) if line.startswith(WARNING)
    ]
    if warnings:
        blocks.append(Bullets("Before all else", warnings))
    data = data_counts_of([(run.name, data_counts(run.summary)) for run in runs])
    if data:
        blocks.append(Bullets("The data", data))
    if len(runs) <= MOST:
        found = [(run.name, sentences(run)) for run in runs]
        blocks += [Bullets(name, lines) for name, lines in found if lines]
    intro = "The figures to begin with; the sections below have them with their pictures."
    page.add("short", "In short", intro, [RunBlocks("", blocks)])


def sentences(run: RunRecords) -> list[str]:
    """Return the main results of one run as sentences, the most important first.

    Args:
        run: the run.
    """
    lines = [*_quality(run.summary.get("systems", {})), *_circuit(run)]
    for name, after in run.summary.get("after", {}).items():
        lines += _compared(name, after, run.summary)
    return lines + _attention(run) + _depth(run)


def _quality(systems: Mapping[str, Any]) -> list[str]:
    if TRAINED not in systems:
        return []
    lines = []
    for key, label in ((ROUGE_LSUM, "ROUGE-Lsum"), ("facts", "Key facts that are right")):
        own = systems[TRAINED].get(key)
        if own is None:
            continue
        beside = [
            f"{name} {format_score(interval_of(systems[name][key]))}"
            for name in BESIDE
            if systems.get(name, {}).get(key)
        ]
        scale = " %" if key == "facts" else ""
        others = f" Beside it: {', '.join(beside)}." if beside else ""
        documents = f" on {own['n']} documents" if key != "facts" else ""
        lines.append(f"{label}: {format_score(interval_of(own))}{scale}{documents}.{others}")
    return lines


def _attention(run: RunRecords) -> list[str]:
    records = [record for record in run.probes if ATTENTION_KL in record.values]
    if not records:
        return []
    last = records[-1]
    means = document_means([last], ATTENTION_KL)[0]
    layer, head = np.unravel_index(int(sizes_of(means).argmax()), means.shape)
    lines = [
        f"Attention differs most from the base's in layer {layer}, head {head}: KL"
        f" {means[layer, head]:.2f} nats at {record_name(last)} (mean of all heads"
        f" {np.nanmean(means):.2f}). A difference, not a cause."
    ]
    try:
        differences = entropy_difference(last, run.base_probe)
    except NotDrawableError:
        return lines
    sure = significantly_different(differences, ALPHA)
    fell = mean_over(differences, axis=-1) < 0
    return [
        *lines,
        f"Attention became more concentrated in {int((sure & fell).sum())} and more spread in"
        f" {int((sure & ~fell).sum())} of {sure.size} heads, beyond noise (Wilcoxon's test, false"
        f" discovery rate {percent(ALPHA)}).",
    ]


def _depth(run: RunRecords) -> list[str]:
    records = [record for record in run.probes if CKA in record.values]
    means = document_means(records[-1:], CKA)[0] if records else np.empty(0)
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
    told = ""
    if not math.isnan(area["value"]["mean"]):
        control = mean_of([one["mean"] for one in area["random"]], ".2f")
        told = (
            f"; CMD {format_interval(area['value'], '.2f')} (0 is best), of random circuits"
            f" {control}"
        )
    lines = [
        f"A circuit of {found['circuit_edges']:,} of {found['edges']:,} edges does"
        f" {format_interval(faithful, '.2f')} of what the model does (faithfulness,"
        f" {_judged_on(found)}){told}."
    ]
    if "jaccard" in found and math.isfinite(found["jaccard"]["mean"]):
        lines.append(
            "Found again on other samples of the documents it shares"
            f" {format_interval(found['jaccard'], '.2f')} of its edges (Jaccard; by chance"
            f" {found['jaccard_chance']:.2f})."
        )
    return lines


def _judged_on(found: Mapping[str, Any]) -> str:
    """Return words for the pairs that evaluated a circuit; earlier versions used in-sample."""
    held = found.get("held_out_pairs", 0)
    if not held:
        return f"in-sample: the {found['pairs']} pairs that chose its edges"
    beside = format_interval(found["in_sample"]["faithfulness"], ".2f")
    return f"{held} held-out pairs; in-sample {beside}"


def _compared(name: str, found: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    difference = found["metric"]["difference"]
    metric = f"{summary['metric'].replace('_', ' ')} ({summary['unit']})"
    lines = [f"{name} minus {summary['before']}, {metric}: {format_interval(difference, '+.2f')}."]
    if doubtful(found):
        return [*lines, "That is not reliably different, so shares of the gap say little."]
    for direction, carried in found.get("patching", {}).items():
        # the residual stream contains everything below it, so its effect is no result
        parts = [row for row in carried["parts"] if row["kind"] in ("output", "mlp")]
        best = max(parts, key=lambda row: row["mean"], default=None)
        if best is not None:
            lines.append(
                f"{direction.capitalize()}: of single heads and MLPs {best['part']} carries most,"
                f" {format_interval(best, '.2f')} of the gap."
            )
    return lines
