"""The tables of a landscape's analysis, and what they say in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sumcirc.placement.analysis import ALIKE, Analysis, Judgement
from sumcirc.placement.landscape import LOWER_IS_BETTER, Layers, label_of
from sumcirc.placement.selectors import best_by_luck
from sumcirc.placement.variance import CHOICE
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import column_form, markdown_table, number_column
from sumcirc.runtime.quoting import markdown as escape
from sumcirc.tracking.score_names import SCORES, scale_of

SCALED = "x 100"


def heading(metric: str) -> str:
    """Return the heading of a score, with its sign and factor."""
    name = f"{SCORES.get(metric, metric)} {SCALED}" if scale_of(metric) == 100 else metric
    return f"minus {name}" if metric in LOWER_IS_BETTER else name


def chosen_by(judgements: Sequence[Judgement]) -> dict[Layers, str]:
    """Return which selectors chose each set, with how often if one chose several sets."""
    found: dict[Layers, list[str]] = {}
    for one in judgements:
        for layers in dict.fromkeys(one.sets):
            times = one.sets.count(layers)
            share = f" ({times} of {len(one.sets)})" if times < len(one.sets) else ""
            found.setdefault(layers, []).append(one.name + share)
    return {layers: ", ".join(names) for layers, names in found.items()}


def tables(analysis: Analysis, judgements: Sequence[Judgement]) -> list[Table]:
    """Return all tables of an analysis.

    Args:
        analysis: the analysis.
        judgements: selectors judged by it.
    """
    found = [sets_table(analysis, judgements), variance_table(analysis), terms_table(analysis)]
    found.append(effects_table(analysis))
    if analysis.predictions:
        found.append(predictions_table(analysis))
    if judgements:
        found.append(selectors_table(analysis, judgements))
    return found


def markdown(analysis: Analysis, judgements: Sequence[Judgement], notes: Sequence[str]) -> str:
    """Return an analysis in Markdown: findings, notes and tables.

    Args:
        analysis: the analysis.
        judgements: selectors judged by it.
        notes: what was left out of the landscape or may surprise.
    """
    lines = [*in_words(analysis, judgements), *notes]
    return (
        "\n\n".join(
            [
                f"# Landscape of {escape(analysis.measured.landscape.name)}",
                "\n".join(f"- {escape(line)}" for line in lines),
                *(
                    f"**{escape(table.title)}**\n\n{markdown_table(table)}"
                    for table in tables(analysis, judgements)
                ),
            ]
        )
        + "\n"
    )


def sets_table(analysis: Analysis, judgements: Sequence[Judgement]) -> Table:
    """Return the table of all sets, the best first.

    Args:
        analysis: the analysis.
        judgements: selectors, whose choices are marked.
    """
    scale, rows = scale_of(analysis.measured.metric), analysis.sets
    names = chosen_by(judgements)
    form = column_form(scale * one.mean for one in rows)
    columns = [
        [label_of(one.layers) for one in rows],
        number_column([scale * one.mean for one in rows], form),
        _intervals([(one.deviation, one.low, one.high) for one in rows], scale),
        [str(one.rank) for one in rows],
        [f"{one.rank_low} to {one.rank_high}" for one in rows],
        ["yes" if one.candidate else "no" for one in rows],
        number_column([scale * one.spread for one in rows]),
    ]
    headings = [
        *("layers", heading(analysis.measured.metric), "minus mean", "rank", "ranks it may have"),
        *("may be best", "spread of seeds"),
    ]
    if names:
        columns.append([names.get(one.layers, "") for one in rows])
        headings.append("chosen by")
    cells = list(zip(*columns, strict=True))
    title = f"all sets of {analysis.measured.landscape.size} layers"
    return Table(title, headings, cells, frozenset({"chosen by"}))


def variance_table(analysis: Analysis) -> Table:
    """Return the table of the analysis of variance.

    Args:
        analysis: the analysis.
    """
    scale = scale_of(analysis.measured.metric)
    sources = list(analysis.variance.sources.values())
    rows = zip(
        [one.name for one in sources],
        [str(one.degrees) for one in sources],
        number_column([scale**2 * one.component for one in sources]),
        number_column([one.f for one in sources], ".2f"),
        [_p(one.p_value) for one in sources],
        strict=True,
    )
    headings = ("source", "degrees of freedom", "variance", "F", "p")
    return Table("analysis of variance of single summaries' scores", headings, list(rows))


def terms_table(analysis: Analysis) -> Table:
    """Return the table of the terms of layers, pairs and triples.

    Args:
        analysis: the analysis.
    """
    scale = scale_of(analysis.measured.metric)
    whole = analysis.variance.sources[CHOICE].component
    shares = [100 * term.variance / whole if whole > 0 else math.nan for term in analysis.terms]
    rows = zip(
        [term.name for term in analysis.terms],
        [str(term.degrees) for term in analysis.terms],
        number_column([scale**2 * term.variance for term in analysis.terms]),
        number_column(shares, ".0f"),
        [_p(term.p_value) for term in analysis.terms],
        strict=True,
    )
    headings = ("term", "degrees of freedom", "variance", "% of choice", "p")
    return Table("do layers add up? (noise removed)", headings, list(rows))


def effects_table(analysis: Analysis) -> Table:
    """Return the table of the layers' effects.

    Args:
        analysis: the analysis.
    """
    scale = scale_of(analysis.measured.metric)
    effects = analysis.effects
    rows = zip(
        [str(one.layer) for one in effects],
        _intervals([(one.effect, one.low, one.high) for one in effects], scale),
        [_p(one.p_value) for one in effects],
        strict=True,
    )
    return Table(
        "sets with a layer minus sets without it", ("layer", "effect", "p (Holm)"), [*rows]
    )


def predictions_table(analysis: Analysis) -> Table:
    """Return the table of how well left-out sets are predicted.

    Args:
        analysis: the analysis.
    """
    scale, found = scale_of(analysis.measured.metric), analysis.predictions
    form = column_form(scale * value for one in found for value in (one.additive, one.mean))
    rows = zip(
        [str(one.measured) for one in found],
        number_column([scale * one.additive for one in found], form),
        number_column([scale * one.mean for one in found], form),
        strict=True,
    )
    headings = ("measured sets", "sum over layers", "mean of the measured")
    return Table("root mean squared error for left-out sets", headings, list(rows))


def selectors_table(analysis: Analysis, judgements: Sequence[Judgement]) -> Table:
    """Return the table of selectors, the best first.

    Args:
        analysis: the analysis.
        judgements: the selectors.
    """
    scale = scale_of(analysis.measured.metric)
    digits = 2 if scale == 100 else 4
    found = sorted(judgements, key=lambda one: (-one.mean, one.name))
    columns: list[list[str]] = [
        [one.name for one in found],
        [" ".join(map(label_of, dict.fromkeys(one.sets))) for one in found],
        number_column([one.rank for one in found], ".4g"),
        [_skill(one) for one in found],
        [
            f"{scale * one.regret_low:.{digits}f} to {scale * one.regret_high:.{digits}f}"
            for one in found
        ],
        [f"{one.candidates} of {len(one.sets)}" for one in found],
        [_p(one.p_value) for one in found],
    ]
    headings = ["selector", "layers", "rank", "skill", "regret", "may be best", "p"]
    if any(one.agreement for one in found):
        agreements = [one.agreement for one in found]
        columns.append(number_column([a.spearman if a else math.nan for a in agreements], ".2f"))
        columns.append(number_column([a.corrected if a else math.nan for a in agreements], ".2f"))
        headings += ["rank correlation with effects", "corrected correlation"]
    return Table("selectors", headings, list(zip(*columns, strict=True)), frozenset({"layers"}))


def judged_in_words(analysis: Analysis, one: Judgement) -> list[str]:
    """Return what a landscape says about one choice, as sentences.

    Args:
        analysis: the analysis.
        one: the judged choice.
    """
    measured = analysis.measured
    sets, seeds, _ = measured.scores.shape
    chosen = " ".join(map(label_of, dict.fromkeys(one.sets)))
    scale = scale_of(measured.metric)
    lines = [
        f"{one.name} chooses layers {chosen}: rank {one.rank:.4g} of {sets}, skill {_skill(one)}"
        " (0: a random draw, 1: the best set)",
        f"its {heading(measured.metric)} is {scale * one.mean:.3g}; a random set is at least as"
        f" good with probability {_p(one.p_value)}, which can't be below {1 / sets:.2g} in one"
        " landscape",
    ]
    if math.isnan(one.skill.skill):
        lines[0] = (
            f"{one.name} chooses layers {chosen}; no set differs from another, so it has no skill"
        )
    if seeds == 1:
        lines.append("one seed: this holds for this seed only")
    return lines


def in_words(analysis: Analysis, judgements: Sequence[Judgement]) -> list[str]:
    """Return the conclusions of an analysis as sentences.

    Args:
        analysis: the analysis.
        judgements: selectors judged by it.
    """
    measured, scale = analysis.measured, scale_of(analysis.measured.metric)
    sets, seeds, documents = measured.scores.shape
    alpha = 1 - analysis.confidence
    lines = [
        f"{sets} sets of {measured.landscape.size} of {measured.landscape.layers} layers, {seeds}"
        f" seed{'s' * (seeds != 1)}, {documents} documents; {heading(measured.metric)}, mean"
        f" {scale * measured.means.mean():.3g}"
    ]
    if measured.dropped:
        lines.append(f"{measured.dropped} documents are left out: some run defines no score there")
    if seeds == 1:
        lines.append(
            "one seed: everything here holds for this seed only, another may have another best set"
        )
    lines.append(_of_variance(analysis.variance.shares))
    count = sum(one.candidate for one in analysis.sets)
    lines.append(
        f"{count} of {sets} sets can't be told from the best; two sets differ if they are"
        f" {scale * analysis.ranks.margin:.3g} apart"
    )
    beyond = next((term for term in analysis.terms if term.name == "beyond layers"), None)
    if beyond is not None and not math.isnan(beyond.p_value):
        shown = beyond.p_value < alpha
        lines.append(
            f"layers don't simply add up: pairs or triples contribute (p = {_p(beyond.p_value)})"
            if shown
            else f"that layers don't simply add up was not shown (p = {_p(beyond.p_value)})"
        )
    if analysis.spread[1] < ALIKE:
        lines.append(
            f"the runs of some set vary more than others' (p = {_p(analysis.spread[1])}), and the"
            " intervals assume that all vary alike: be careful with that set"
        )
    lines += _of_others(analysis)
    if len(judgements) > 1:
        luck = 100 * best_by_luck(len(judgements), sets)
        lines.append(
            f"of {len(judgements)} selectors that chose at random, one would pick the best set in"
            f" {luck:.0f} % of landscapes: no selector is the best by one landscape"
        )
    return lines


def _of_variance(shares: Mapping[str, float]) -> str:
    whole = sum(value for value in shares.values() if not math.isnan(value))
    if whole <= 0:
        return "the runs' means don't vary"
    parts = [
        f"{100 * value / whole:.0f} % {name}"
        for name, value in shares.items()
        if not math.isnan(value)
    ]
    return f"variance of a run's mean: {', '.join(parts)}"


def _of_others(analysis: Analysis) -> list[str]:
    scale = scale_of(analysis.measured.metric)
    found = []
    for label, one in analysis.others.items():
        mean, low, high = (scale * value for value in (one.mean, one.low, one.high))
        found.append(f"{label} minus the mean of all sets: {mean:+.3g} [{low:.3g}, {high:.3g}]")
    return found


def _intervals(rows: Sequence[tuple[float, float, float]], scale: float) -> list[str]:
    form = column_form(scale * value for value, _, _ in rows)
    return [
        "{} [{}, {}]".format(*number_column([scale * value for value in row], form)) for row in rows
    ]


def _skill(one: Judgement) -> str:
    if math.isnan(one.skill.skill):
        return "-"
    low = "-inf" if math.isinf(one.skill.low) else f"{one.skill.low:.2f}"
    return f"{one.skill.skill:.2f} [{low}, {one.skill.high:.2f}]"


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
