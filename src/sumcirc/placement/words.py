"""What a landscape's analysis says in words, and all of it as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sumcirc.placement.analysis import ALIKE, Analysis, Judgement
from sumcirc.placement.selectors import best_by_luck
from sumcirc.placement.tables import heading, labels, p_text, skill_text, tables
from sumcirc.placement.terms import crossed
from sumcirc.reporting.tables import markdown_table
from sumcirc.runtime.quoting import markdown as escape
from sumcirc.tracking.score_names import scale_of


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


def judged_in_words(analysis: Analysis, one: Judgement) -> list[str]:
    """Return what a landscape says about one choice, as sentences.

    Args:
        analysis: the analysis.
        one: the judged choice.
    """
    measured, landscape = analysis.measured, analysis.measured.landscape
    sets, seeds, _ = measured.scores.shape
    word, words = landscape.one, landscape.units.words
    chosen, scale = labels(analysis, one), scale_of(measured.metric)
    lines = [
        f"{one.name} chooses {words} {chosen}: rank {one.rank:.4g} of {sets}, skill"
        f" {skill_text(one)} (0: a random draw, 1: the best {word})",
        f"its {heading(measured.metric)} is {scale * one.mean:.3g}; a random {word} is at least as"
        f" good with probability {p_text(one.p_value)}, which can't be below {1 / sets:.2g} in one"
        " landscape",
    ]
    if math.isnan(one.skill.skill):
        lines[0] = (
            f"{one.name} chooses {words} {chosen}; no {word} differs from another, so it has no"
            " skill"
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
    landscape = measured.landscape
    word, words = landscape.one, landscape.many
    sets, seeds, documents = measured.scores.shape
    lines = [
        f"{sets} {landscape.units.counted(landscape.size)}, {seeds}"
        f" seed{'s' * (seeds != 1)}, {documents} documents; {heading(measured.metric)}, mean"
        f" {scale * measured.means.mean():.3g}"
    ]
    if measured.dropped:
        lines.append(f"{measured.dropped} documents are left out: some run defines no score there")
    if seeds == 1:
        lines.append(
            "one seed: everything here holds for this seed only, another may have another best"
            f" {word}"
        )
    lines.append(_of_variance(analysis.variance.shares))
    count = sum(one.candidate for one in analysis.sets)
    lines.append(
        f"{count} of {sets} {words} can't be told from the best; two {words} differ if they are"
        f" {scale * analysis.ranks.margin:.3g} apart"
    )
    lines += _of_terms(analysis)
    if analysis.spread[1] < ALIKE:
        lines.append(
            f"the runs of some {word} vary more than others' ({_p(analysis.spread[1])}),"
            f" and the intervals assume that all vary alike: be careful with that {word}"
        )
    lines += _of_others(analysis)
    if len(judgements) > 1:
        luck = 100 * best_by_luck(len(judgements), sets)
        lines.append(
            f"of {len(judgements)} selectors that chose at random, one would pick the best {word}"
            f" in {luck:.0f} % of landscapes: no selector is the best by one landscape"
        )
    return lines


def _p(value: float) -> str:
    """Return a p-value with its sign: `p = 0.012` or `p < 0.0001`."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


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


def _of_terms(analysis: Analysis) -> list[str]:
    """Return whether layers, or layer and kind of module, add up."""
    beyond, landscape = analysis.beyond, analysis.measured.landscape
    if beyond is None or math.isnan(beyond.p_value):
        return []
    shown = beyond.p_value < 1 - analysis.confidence
    p = f"({_p(beyond.p_value)})"
    if not crossed(landscape):
        added = landscape.units.words
        more = " or ".join(t.name for t in analysis.terms[1:] if t is not beyond)
        found = []
    else:
        added, more = "layer and kind of module", "single modules differ from the sum"
        found = [_of_shares(analysis)]
    if not shown:
        return [*found, f"that {added} don't simply add up was not shown {p}"]
    verb = "" if crossed(landscape) else " contribute"
    return [*found, f"{added} don't simply add up: {more}{verb} {p}"]


def _of_shares(analysis: Analysis) -> str:
    """Return how the variance of single modules splits into layer, kind and the rest."""
    parts = {term.name: max(0.0, term.variance) for term in analysis.terms}
    whole = sum(parts.values())
    if whole <= 0:
        return "modules don't differ by more than noise"
    shown = ", ".join(f"{100 * value / whole:.0f} % {name}" for name, value in parts.items())
    return f"variance between modules, noise removed: {shown}"


def _of_others(analysis: Analysis) -> list[str]:
    many = analysis.measured.landscape.many
    scale = scale_of(analysis.measured.metric)
    found = []
    for label, one in analysis.others.items():
        mean, low, high = (scale * value for value in (one.mean, one.low, one.high))
        found.append(f"{label} minus the mean of all {many}: {mean:+.3g} [{low:.3g}, {high:.3g}]")
    return found
