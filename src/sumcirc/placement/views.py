"""Views of a landscape: all sets ranked with selectors' choices, layers' effects, and modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.tables import PART, chosen_by, heading
from sumcirc.placement.terms import crossed
from sumcirc.reporting.kinds import Bar, Bars, Map, View
from sumcirc.tracking.score_names import scale_of


def views(analysis: Analysis, judgements: Sequence[Judgement]) -> dict[str, Callable[[], View]]:
    """Return what makes each view of a landscape, by the name of its figure.

    Args:
        analysis: the analysis.
        judgements: the selectors whose choices are marked.
    """
    found = {"sets": lambda: ranked_sets(analysis, judgements)}
    if analysis.effects:
        found["layers"] = lambda: effects(analysis)
    if crossed(analysis.measured.landscape):
        found["modules"] = lambda: modules(analysis)
    return found


def ranked_sets(analysis: Analysis, judgements: Sequence[Judgement]) -> View:
    """Return a view of all sets from the best to the worst, with the selectors that chose them.

    Args:
        analysis: the analysis.
        judgements: the selectors whose choices are marked.
    """
    scale, names = scale_of(analysis.measured.metric), chosen_by(judgements)
    landscape = analysis.measured.landscape
    units, word, words = landscape.units, landscape.one, landscape.many
    of_units = f"set of {units.words}" if landscape.size > 1 else f"single {units.word}"
    mean = scale * analysis.measured.means.mean()
    bars = [
        Bar(
            f"{units.label(one.units)}  {names.get(one.units, '')}".rstrip(),
            scale * one.deviation,
            scale * one.low,
            scale * one.high,
            filled=one.candidate,
            note=f"rank {one.rank_low} to {one.rank_high}",
        )
        for one in analysis.sets
    ]
    measured = analysis.measured
    confidence = f"{100 * analysis.confidence:g} %"
    return View(
        f"All {units.sets(landscape.size)}",
        [
            [
                Bars(
                    f"{heading(measured.metric)} minus the mean of all {words} ({mean:.3g})",
                    bars,
                    zero=True,
                )
            ]
        ],
        f"A point is a {of_units}, with its interval beside the mean of all {words}. Filled points"
        f" can't be told from the best {word}. Behind the {units.words} stand the selectors that"
        " chose them.",
        f"{len(bars)} {words} from the best, {units.label(analysis.sets[0].units)}, to the worst.",
        note=f"{confidence} intervals of one {word} at a time; filled: can't be told from the best",
        columns=(units.words, "minus_mean", "low", "high", "rank_low", "rank_high", "may_be_best"),
        rows=[
            (
                units.label(one.units),
                scale * one.deviation,
                scale * one.low,
                scale * one.high,
                one.rank_low,
                one.rank_high,
                one.candidate,
            )
            for one in analysis.sets
        ],
    )


def effects(analysis: Analysis) -> View:
    """Return a view of each layer's effect, or of the effects of layers and of kinds of module.

    Args:
        analysis: the analysis of a landscape whose sets have parts.
    """
    landscape, scale = analysis.measured.landscape, scale_of(analysis.measured.metric)
    alpha, score = 1 - analysis.confidence, heading(analysis.measured.metric)
    terms = list(dict.fromkeys(one.term for one in analysis.effects))
    panels, rows = [], []
    for term in terms:
        found = [
            (one.name, *(scale * value for value in (one.effect, one.low, one.high)), one.p_value)
            for one in analysis.effects
            if one.term == term
        ]
        bars = [Bar(name, mean, low, high, filled=p < alpha) for name, mean, low, high, p in found]
        label = f"{score}: {landscape.many} with the {PART[term]} minus those without it"
        if crossed(landscape):
            label = f"{score}: modules of the {PART[term]} minus all others"
        panels.append([Bars(label, bars[::-1], PART[term], zero=True)])
        rows += [(PART[term], *row) for row in found]
    parts = " and ".join(terms)
    each = " or ".join(PART[term] for term in terms)
    return View(
        f"Effects of {parts}",
        panels,
        f"A point is the mean of all {landscape.many} with a {each} minus the mean of those without"
        f" it. Filled points differ from 0 after Holm's correction over {parts}.",
        f"Effects of {len(rows)} {parts} with intervals.",
        note="filled: differs from 0 after Holm's correction",
        columns=("part", "name", "effect", "low", "high", "p_holm"),
        rows=rows,
    )


def modules(analysis: Analysis) -> View:
    """Return a map of the means of single modules, by layer and kind.

    Args:
        analysis: the analysis of a landscape of single modules.
    """
    measured, scale = analysis.measured, scale_of(analysis.measured.metric)
    landscape = measured.landscape
    shape = landscape.layers, len(landscape.modules)
    best = np.zeros(len(landscape.sets), dtype=bool)
    for one in analysis.sets:
        best[landscape.places[one.units]] = one.candidate
    label, values = heading(measured.metric), scale * measured.means
    x = "module (framed: can't be told from the best)"
    panel = Map(
        (values - values.mean()).reshape(shape),
        f"{label} minus the mean of all modules",
        signed=True,
        framed=best.reshape(shape),
        columns=landscape.modules,
        x=x,
    )
    return View(
        "Single modules by layer and kind",
        [[panel]],
        "A cell is a module, with its score minus the mean of all modules. Framed modules can't be"
        " told from the best.",
        f"{shape[0]} layers by {shape[1]} kinds of module.",
        columns=("module", "mean", "may_be_best"),
        rows=[
            (landscape.units.label(chosen), float(value), bool(kept))
            for chosen, value, kept in zip(landscape.sets, values, best, strict=True)
        ],
    )
