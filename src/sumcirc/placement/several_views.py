"""Tables, words and a picture of landscapes against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.comparable import differing
from sumcirc.placement.several import Several
from sumcirc.placement.tables import heading, labels
from sumcirc.reporting.kinds import Dot, Dots, Table, View
from sumcirc.reporting.tables import markdown_table, number_column
from sumcirc.runtime.quoting import markdown as escape
from sumcirc.tracking.score_names import scale_of


def tables(several: Several) -> list[Table]:
    """Return all tables: the pairs of landscapes, the sets, and the selectors.

    Args:
        several: the landscapes.
    """
    found = [pairs_table(several), sets_table(several)]
    return [*found, selectors_table(several)] if several.judgements else found


def pairs_table(several: Several) -> Table:
    """Return the table of how each pair of landscapes agrees.

    Args:
        several: the landscapes.
    """
    many = several.measured[0].landscape.many
    rows = []
    for pair in several.pairs:
        for what, one in ((many, pair.sets), *pair.effects.items()):
            bounds = "-" if math.isnan(one.low) else f"[{one.low:.2f}, {one.high:.2f}]"
            cells = number_column([one.spearman, one.pearson, one.corrected], ".2f")
            rows.append((f"{pair.first}, {pair.second}", what, f"{cells[0]} {bounds}", *cells[1:]))
    headings = ("landscapes", "of", "rank correlation", "correlation", "corrected")
    return Table("what pays in one landscape and in another", headings, rows)


def sets_table(several: Several) -> Table:
    """Return the table of all sets with mean, rank and whether they may be best in each landscape.

    Args:
        several: the landscapes.
    """
    scale = scale_of(several.measured[0].metric)
    landscape = several.measured[0].landscape
    units = landscape.units
    by_set = [{one.units: one for one in analysis.sets} for analysis in several.analyses]
    order = sorted(several.sets, key=lambda chosen: sum(found[chosen].rank for found in by_set))
    columns, headings = [[units.label(chosen) for chosen in order]], [units.words]
    for name, found in zip(several.names, by_set, strict=True):
        columns.append(number_column([scale * found[chosen].mean for chosen in order]))
        columns.append(
            [f"{found[chosen].rank}{' *' if found[chosen].candidate else ''}" for chosen in order]
        )
        headings += [name, "rank"]
    score = heading(several.measured[0].metric)
    title = f"{score} by {landscape.one} (*: can't be told from the best)"
    return Table(title, headings, list(zip(*columns, strict=True)))


def selectors_table(several: Several) -> Table:
    """Return the table of the selectors' choices, ranks and skills in each landscape and overall.

    Args:
        several: the landscapes.
    """
    names = [*several.overall, *(n for n in several.judgements if n not in several.overall)]
    rows = []
    for name in names:
        cells = [name]
        for analysis, one in zip(several.analyses, several.judgements[name], strict=True):
            cells += ["-"] * 3 if one is None else _judged(analysis, one)
        found = several.overall.get(name)
        cells += (
            ["-"] * 3
            if found is None
            else [f"{found.skill:.2f}", _p(found.p_value), _p(found.corrected)]
        )
        rows.append(tuple(cells))
    words = several.measured[0].landscape.units.words
    headings = ["selector"]
    for name in several.names:
        headings += [f"{name}: {words}", "rank", "skill"]
    prose = frozenset(f"{name}: {words}" for name in several.names)
    return Table("selectors", [*headings, "mean skill", "p", "p (Holm)"], rows, prose)


def _judged(analysis: Analysis, one: Judgement) -> list[str]:
    return [
        labels(analysis, one),
        f"{one.rank:.4g}",
        "-" if math.isnan(one.skill.skill) else f"{one.skill.skill:.2f}",
    ]


def in_words(several: Several) -> list[str]:
    """Return what the landscapes say together, as sentences.

    Args:
        several: the landscapes.
    """
    first = several.measured[0].landscape
    lines = []
    for name, one in zip(several.names, several.measured, strict=True):
        seeds = one.scores.shape[1]
        told = f"{name}: {seeds} seed{'s' * (seeds != 1)}, {len(one.documents)} documents"
        apart = differing(first, one.landscape)
        shown = [f"{key} ({_shown(a)}, {_shown(b)})" for key, (a, b) in apart.items()]
        lines.append(
            f"{told}; differs from {several.names[0]} in {', '.join(shown)}" if shown else told
        )
    for pair in several.pairs:
        same = "the same" if pair.same_documents else "different"
        told = f"{pair.first} and {pair.second}: {same} documents"
        if pair.one_seed:
            verb = "have" if len(pair.one_seed) > 1 else "has"
            told += (
                f"; {' and '.join(pair.one_seed)} {verb} one seed, so what differs between seeds is"
                " in no interval and in no corrected correlation: they hold for that seed only"
            )
        lines.append(told)
    best = ", ".join(f"[{first.units.label(chosen)}]" for chosen in several.candidates)
    lines.append(
        f"{len(several.candidates)} of {len(several.sets)} {first.many} may be the best in every"
        " landscape"
        f"{f': {best}' if best else ''}"
    )
    missing = [name for name in several.judgements if name not in several.overall]
    if missing:
        lines.append(f"no choice in every landscape, so no mean skill: {', '.join(missing)}")
    if several.overall:
        least = min(one.least for one in several.overall.values())
        alpha = 1 - several.analyses[0].confidence
        shown = [name for name, one in several.overall.items() if one.corrected < alpha]
        verdict = (
            f"better than a random choice: {', '.join(shown)}"
            if shown
            else ("that a selector is better than a random choice was not shown")
        )
        lines.append(
            f"{verdict} (p below {alpha:.2g} after Holm's correction over {len(several.overall)}"
            f" selectors; p can't be below {least:.2g} here)"
        )
    return lines


def markdown(several: Several, notes: Sequence[str]) -> str:
    """Return the comparison in Markdown: findings, notes and tables.

    Args:
        several: the landscapes.
        notes: what was left out of a landscape or may surprise.
    """
    lines = [escape(line) for line in (*in_words(several), *notes)]
    parts = [
        f"# Landscapes {escape(', '.join(several.names))}",
        "\n".join(f"- {line}" for line in lines),
        *(f"**{escape(one.title)}**\n\n{markdown_table(one)}" for one in tables(several)),
    ]
    return "\n\n".join(parts) + "\n"


def against(several: Several, first: int, second: int) -> View:
    """Return a view of two landscapes against each other, a point for each set.

    Args:
        several: the landscapes.
        first, second: index of the landscape on the x axis, and of that on the y axis.
    """
    scale = scale_of(several.measured[0].metric)
    landscape = several.measured[0].landscape
    units, word, many = landscape.units, landscape.one, landscape.many
    of_units = f"set of {units.words}" if landscape.size > 1 else f"single {units.word}"
    both = [{one.units: one for one in several.analyses[i].sets} for i in (first, second)]
    by_set = {
        chosen: [
            name
            for name, found in several.judgements.items()
            if any(found[i] and chosen in found[i].sets for i in (first, second))  # type: ignore[union-attr]
        ]
        for chosen in several.sets
    }
    dots = []
    for chosen in several.sets:
        x, y = (found[chosen] for found in both)
        dots.append(
            Dot(
                units.label(chosen),
                scale * x.mean,
                scale * y.mean,
                scale * (y.mean - y.deviation + y.low),
                scale * (y.mean - y.deviation + y.high),
                filled=x.candidate and y.candidate,
                left=scale * (x.mean - x.deviation + x.low),
                right=scale * (x.mean - x.deviation + x.high),
            )
        )
    label = heading(several.measured[0].metric)
    titles = [f"{label}, {several.names[i]}" for i in (first, second)]
    highest = sorted(several.sets, key=lambda chosen: -both[1][chosen].mean)
    key = [(units.label(one), ", ".join(by_set[one])) for one in highest if by_set[one]]
    if key:
        key = [(word, "chosen in either by"), *key]
    confidence = f"{100 * several.analyses[0].confidence:g} %"
    columns = (units.words, "x", "x_low", "x_high", "y", "y_low", "y_high")
    rows = [(dot.name, dot.x, dot.left, dot.right, dot.y, dot.low, dot.high) for dot in dots]
    return View(
        f"{several.names[first]} and {several.names[second]}",
        [[Dots(titles[0], titles[1], dots, named=frozenset(map(units.label, both[0])), key=key)]],
        f"A point is a {of_units}, with the intervals of its mean beside the mean of all {many}."
        f" Filled points can't be told from the best in both. Beside the plot are the {many} that a"
        " selector chose in either, the highest first.",
        f"{len(dots)} {many} in two landscapes.",
        note=f"{confidence} intervals of one {word} at a time; filled: may be the best in both",
        columns=columns,
        rows=rows,
    )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
