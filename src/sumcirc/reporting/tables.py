"""A comparison as tables of text, for the terminal and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sumcirc.evaluation.score_table import format_seconds
from sumcirc.reporting.comparison import ArmResult, Comparison, Difference
from sumcirc.reporting.runs import MEASURES, SHARES
from sumcirc.statistics import Estimate, bracketed

SCORES = ("rouge1_f1", "rouge2_f1", "rougeLsum_f1", "facts", "length")
COPYING = ("coverage", "density", "novel_ngrams_1", "novel_ngrams_2", "novel_ngrams_3")


@dataclass(frozen=True)
class TextTable:
    """Headings and rows of text; the first column is a name, those in `words` are prose."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[str] = frozenset()


def tables(comparison: Comparison) -> list[TextTable]:
    """Scores, cost and copying, and one table of differences for each control."""
    found = [score_table(comparison), cost_table(comparison)]
    for against in comparison.options.against:
        differences = comparison.of(against, comparison.options.metric)
        if differences:
            found.append(difference_table(comparison, against, differences))
    return found


def score_table(comparison: Comparison) -> TextTable:
    """Every arm's scores with intervals; below them the base and the baselines."""
    shown = _columns(comparison, SCORES)
    rows = [
        [
            _marked(result, i),
            ",".join(result.arm.seeds),
            *(_cell(result, measure) for measure in shown),
        ]
        for i, result in enumerate(comparison.arms, start=1)
    ]
    for name, scores in comparison.baselines.items():
        values = [_stored(scores.get(measure), measure) for measure in shown]
        rows.append([f"({name})", "-", *values])
    confidence = f"{100 * comparison.options.confidence:g} % intervals"
    return TextTable(
        f"{comparison.documents} documents; {confidence} over seeds and documents",
        ["arm", "seeds", *(MEASURES[measure] for measure in shown)],
        rows,
    )


def cost_table(comparison: Comparison) -> TextTable:
    """What each arm cost, when it reached the common loss, how much its summaries copy."""
    shown = _columns(comparison, COPYING)
    loss = "the loss" if comparison.loss is None else f"loss {comparison.loss:.3f}"
    rates = len({result.arm.learning_rate for result in comparison.arms}) > 1
    rows = []
    for i, result in enumerate(comparison.arms, start=1):
        reach, total = result.reach, len(result.arm.runs)
        part = "" if reach.runs in (0, total) else f" ({reach.runs} of {total})"
        rows.append(
            [
                _marked(result, i),
                f"{result.arm.trainable_parameters:,.0f}",
                *([f"{result.arm.learning_rate:g}"] if rates else []),
                ",".join(map(str, result.arm.steps)),
                _duration(result.seconds),
                f"{result.loss:.3f}",
                f"{reach.steps:.0f}{part}" if reach.runs else "never",
                _duration(reach.seconds) if reach.runs else "-",
                *(_mean(result, measure) for measure in shown),
            ]
        )
    headings = [
        "arm",
        "trainable",
        *(["learning rate"] if rates else []),
        "steps",
        "time",
        "validation loss",
    ]
    headings += [f"steps to {loss}", f"time to {loss}"]
    return TextTable(
        "cost, and how much is copied",
        [*headings, *(MEASURES[measure] for measure in shown)],
        rows,
    )


def difference_table(
    comparison: Comparison, against: str, differences: Sequence[Difference]
) -> TextTable:
    """Every arm minus its control."""
    metric, alpha = comparison.options.metric, comparison.alpha
    rows = [
        [
            found.arm.label,
            found.control.label,
            _signed(found.estimate, metric),
            _p_value(found.estimate.p_value),
            _p_value(found.corrected),
            "same seeds" if found.paired else "other seeds",
            found.verdict(alpha),
        ]
        for found in _ordered(comparison, differences)
    ]
    heading = f"{MEASURES[metric]} difference"
    family = sum(found.corrected is not None for found in differences)
    return TextTable(
        f"against {against}: the same documents, Holm over {family} arm{'s' * (family != 1)}",
        ["arm", "control", heading, "p", "p (Holm)", "paired by", "in words"],
        rows,
        frozenset({"control", "paired by", "in words"}),
    )


def remarks(comparison: Comparison) -> list[str]:
    """What sets arms apart beside their layers, numbered as in the tables."""
    return [
        f"[{i}] {result.arm.label}: {'; '.join(result.remarks)}"
        for i, result in enumerate(comparison.arms, start=1)
        if result.remarks
    ]


def in_words(comparison: Comparison) -> list[str]:
    """One sentence for each control, as far as the data allow."""
    found = []
    for against in comparison.options.against:
        differences = comparison.of(against, comparison.options.metric)
        if not differences:
            continue
        differences = _ordered(comparison, differences)
        heading = MEASURES[comparison.options.metric]
        shown = [item for item in differences if item.shown(comparison.alpha)]
        few = [item for item in differences if item.corrected is None]
        rest = [item for item in differences if item not in shown and item not in few]
        parts = []
        for item in shown:
            parts.append(
                f"{item.arm.label} {item.verdict(comparison.alpha)}"
                f" ({_signed(item.estimate, comparison.options.metric)},"
                f" p {_compared(_p_value(item.corrected))})"
            )
        if rest:
            parts.append(f"no difference was shown for {_listed(rest)}")
        for seeds in dict.fromkeys(item.seeds for item in few):
            alike = [item for item in few if item.seeds == seeds]
            parts.append(f"no claim for {_listed(alike)}, {seeds}")
        found.append(f"{heading} against {against}: {'; '.join(parts)}.")
    return found


def _listed(differences: Sequence[Difference]) -> str:
    return ", ".join(item.arm.label for item in differences)


def _ordered(comparison: Comparison, differences: Sequence[Difference]) -> list[Difference]:
    order = [result.arm.label for result in comparison.arms]
    return sorted(differences, key=lambda found: order.index(found.arm.label))


def _columns(comparison: Comparison, wanted: Sequence[str]) -> list[str]:
    chosen = {*wanted, comparison.options.metric} if "rouge1_f1" in wanted else {*wanted}
    return [measure for measure in comparison.measures if measure in chosen]


def _marked(result: ArmResult, number: int) -> str:
    """The label; with the number of its remark where there is one."""
    return f"{result.arm.label} [{number}]" if result.remarks else result.arm.label


def _cell(result: ArmResult, measure: str) -> str:
    if measure not in result.scores:
        return "-"
    found = result.scores[measure]
    return _interval(found.mean, found.low, found.high, measure)


def _stored(interval: dict[str, float] | None, measure: str) -> str:
    if interval is None:
        return "-"
    return _interval(interval["mean"], interval["low"], interval["high"], measure)


def _interval(mean: float, low: float, high: float, measure: str) -> str:
    scale = _scale(measure)
    return bracketed(scale * mean, scale * low, scale * high, ".1f")


def _signed(found: Estimate, measure: str) -> str:
    scale = _scale(measure)
    return bracketed(scale * found.mean, scale * found.low, scale * found.high, "+.1f")


def _mean(result: ArmResult, measure: str) -> str:
    return f"{result.scores[measure].mean:.2f}" if measure in result.scores else "-"


def _scale(measure: str) -> float:
    return 100.0 if measure in SHARES else 1.0


def _p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def _compared(p: str) -> str:
    return p.replace("<", "< ") if p.startswith("<") else f"= {p}"


def _duration(seconds: float) -> str:
    return format_seconds(seconds) if math.isfinite(seconds) else "-"
