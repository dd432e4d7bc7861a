"""The tables of a landscape's analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.landscape import LOWER_IS_BETTER, Landscape
from sumcirc.placement.terms import KINDS, LAYERS, crossed
from sumcirc.placement.units import UnitSet
from sumcirc.placement.variance import CHOICE
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import column_form, number_column
from sumcirc.tracking.score_names import SCORES, scale_of

SCALED = "x 100"
PART = {LAYERS: "layer", KINDS: "kind", "modules": "module"}  # one part of a term


def heading(metric: str) -> str:
    """Return the heading of a score, with its sign and factor."""
    name = f"{SCORES.get(metric, metric)} {SCALED}" if scale_of(metric) == 100 else metric
    return f"minus {name}" if metric in LOWER_IS_BETTER else name


def chosen_by(judgements: Sequence[Judgement]) -> dict[UnitSet, str]:
    """Return which selectors chose each set, with how often if one chose several sets."""
    found: dict[UnitSet, list[str]] = {}
    for one in judgements:
        for chosen in dict.fromkeys(one.sets):
            times = one.sets.count(chosen)
            share = f" ({times} of {len(one.sets)})" if times < len(one.sets) else ""
            found.setdefault(chosen, []).append(one.name + share)
    return {chosen: ", ".join(names) for chosen, names in found.items()}


def labels(analysis: Analysis, one: Judgement) -> str:
    """Return the labels of a selector's different choices.

    Args:
        analysis: the analysis of the landscape.
        one: the judged selector.
    """
    label = analysis.measured.landscape.units.label
    return " ".join(map(label, dict.fromkeys(one.sets)))


def tables(analysis: Analysis, judgements: Sequence[Judgement]) -> list[Table]:
    """Return all tables of an analysis.

    Args:
        analysis: the analysis.
        judgements: selectors judged by it.
    """
    found = [sets_table(analysis, judgements)]
    if crossed(analysis.measured.landscape):
        found.append(crossed_table(analysis))
    found.append(variance_table(analysis))
    if analysis.terms:
        found.append(terms_table(analysis))
    found += effects_tables(analysis)
    if analysis.predictions:
        found.append(predictions_table(analysis))
    if judgements:
        found.append(selectors_table(analysis, judgements))
    return found


def sets_table(analysis: Analysis, judgements: Sequence[Judgement]) -> Table:
    """Return the table of all sets, the best first.

    Args:
        analysis: the analysis.
        judgements: selectors, whose choices are marked.
    """
    scale, rows = scale_of(analysis.measured.metric), analysis.sets
    landscape = analysis.measured.landscape
    units, names = landscape.units, chosen_by(judgements)
    form = column_form(scale * one.mean for one in rows)
    columns = [
        [units.label(one.units) for one in rows],
        number_column([scale * one.mean for one in rows], form),
        _intervals([(one.deviation, one.low, one.high) for one in rows], scale),
        [str(one.rank) for one in rows],
        [f"{one.rank_low} to {one.rank_high}" for one in rows],
        ["yes" if one.candidate else "no" for one in rows],
        number_column([scale * one.spread for one in rows]),
    ]
    headings = [
        *(units.words, heading(analysis.measured.metric), "minus mean", "rank"),
        *("ranks it may have", "may be best", "spread of seeds"),
    ]
    if names:
        columns.append([names.get(one.units, "") for one in rows])
        headings.append("chosen by")
    cells = list(zip(*columns, strict=True))
    title = f"all {units.sets(landscape.size)}"
    return Table(title, headings, cells, frozenset({"chosen by"}))


def crossed_table(analysis: Analysis) -> Table:
    """Return the table of the means of single modules by layer and kind.

    Args:
        analysis: the analysis of a landscape of single modules.
    """
    measured, scale = analysis.measured, scale_of(analysis.measured.metric)
    means = scale * measured.means.reshape(measured.landscape.layers, -1)
    values = [*means.T, means.mean(axis=1)]
    lasts = [*means.mean(axis=0), means.mean()]
    form = column_form(means.flat)
    columns = [
        number_column([*column, last], form) for column, last in zip(values, lasts, strict=True)
    ]
    layers = [*map(str, range(len(means))), "all"]
    headings = ("layer", *measured.landscape.modules, "all")
    rows = list(zip(layers, *columns, strict=True))
    return Table(f"{heading(measured.metric)} by layer and kind of module", headings, rows)


def variance_table(analysis: Analysis) -> Table:
    """Return the table of the analysis of variance.

    Args:
        analysis: the analysis.
    """
    scale, landscape = scale_of(analysis.measured.metric), analysis.measured.landscape
    sources = list(analysis.variance.sources.values())
    rows = zip(
        [_source(one.name, landscape) for one in sources],
        [str(one.degrees) for one in sources],
        number_column([scale**2 * one.component for one in sources]),
        number_column([one.f for one in sources], ".2f"),
        [p_text(one.p_value) for one in sources],
        strict=True,
    )
    headings = ("source", "degrees of freedom", "variance", "F", "p")
    return Table("analysis of variance of single summaries' scores", headings, list(rows))


def _source(name: str, landscape: Landscape) -> str:
    """Return a source of variance in the landscape's words: `module x seed` for single modules."""
    if name == CHOICE:
        return landscape.many
    return name.replace("set x", f"{landscape.one} x")


def terms_table(analysis: Analysis) -> Table:
    """Return the table of the terms of layers, pairs and triples, or of layers and kinds.

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
        [p_text(term.p_value) for term in analysis.terms],
        strict=True,
    )
    headings = ("term", "degrees of freedom", "variance", "% of choice", "p")
    landscape = analysis.measured.landscape
    asked = "layer and kind" if crossed(landscape) else landscape.units.words
    return Table(f"do {asked} add up? (noise removed)", headings, list(rows))


def effects_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of the effects of layers, and of kinds of module.

    Args:
        analysis: the analysis.
    """
    scale = scale_of(analysis.measured.metric)
    landscape = analysis.measured.landscape
    found = []
    for term in dict.fromkeys(one.term for one in analysis.effects):
        effects = [one for one in analysis.effects if one.term == term]
        rows = zip(
            [one.name for one in effects],
            _intervals([(one.effect, one.low, one.high) for one in effects], scale),
            [p_text(one.p_value) for one in effects],
            strict=True,
        )
        headings = (PART[term], "effect", "p (Holm)")
        title = f"{landscape.many} with a {PART[term]} minus {landscape.many} without it"
        if crossed(landscape):
            title = f"modules of a {PART[term]} minus all others"
        found.append(Table(title, headings, [*rows]))
    return found


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
    landscape = analysis.measured.landscape
    added = "layer + kind" if crossed(landscape) else f"sum over {landscape.units.words}"
    headings = (f"measured {landscape.many}", added, "mean of the measured")
    title = f"root mean squared error for left-out {landscape.many}"
    return Table(title, headings, list(rows))


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
        [labels(analysis, one) for one in found],
        number_column([one.rank for one in found], ".4g"),
        [skill_text(one) for one in found],
        [
            f"{scale * one.regret_low:.{digits}f} to {scale * one.regret_high:.{digits}f}"
            for one in found
        ],
        [f"{one.candidates} of {len(one.sets)}" for one in found],
        [p_text(one.p_value) for one in found],
    ]
    landscape = analysis.measured.landscape
    words = landscape.units.words
    headings = ["selector", words, "rank", "skill", "regret", "may be best", "p"]
    if any(one.agreement for one in found):
        agreements = [one.agreement for one in found]
        columns.append(number_column([a.spearman if a else math.nan for a in agreements], ".2f"))
        columns.append(number_column([a.corrected if a else math.nan for a in agreements], ".2f"))
        other = "effects" if landscape.size > 1 else "means"
        headings += [f"rank correlation with {other}", "corrected correlation"]
    return Table("selectors", headings, list(zip(*columns, strict=True)), frozenset({words}))


def _intervals(rows: Sequence[tuple[float, float, float]], scale: float) -> list[str]:
    form = column_form(scale * value for value, _, _ in rows)
    return [
        "{} [{}, {}]".format(*number_column([scale * value for value in row], form)) for row in rows
    ]


def skill_text(one: Judgement) -> str:
    """Return a selector's skill with its interval, or `-` if it is undefined."""
    if math.isnan(one.skill.skill):
        return "-"
    low = "-inf" if math.isinf(one.skill.low) else f"{one.skill.low:.2f}"
    return f"{one.skill.skill:.2f} [{low}, {one.skill.high:.2f}]"


def p_text(value: float) -> str:
    """Return a p-value as text, or `-` if it is undefined."""
    if math.isnan(value):
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
