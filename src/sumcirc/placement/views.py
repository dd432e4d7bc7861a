"""Views of a landscape: all sets ranked with the selectors' choices, and the layers' effects."""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.placement.analysis import Analysis, Judgement
from sumcirc.placement.landscape import label_of
from sumcirc.placement.tables import chosen_by, heading
from sumcirc.reporting.kinds import Bar, Bars, View
from sumcirc.tracking.score_names import scale_of


def ranked_sets(analysis: Analysis, judgements: Sequence[Judgement]) -> View:
    """Return a view of all sets from the best to the worst, with the selectors that chose them.

    Args:
        analysis: the analysis.
        judgements: the selectors whose choices are marked.
    """
    scale, names = scale_of(analysis.measured.metric), chosen_by(judgements)
    mean = scale * analysis.measured.means.mean()
    bars = [
        Bar(
            f"{label_of(one.layers)}  {names.get(one.layers, '')}".rstrip(),
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
        f"All sets of {measured.landscape.size} layers",
        [
            [
                Bars(
                    f"{heading(measured.metric)} minus the mean of all sets ({mean:.3g})",
                    bars,
                    zero=True,
                )
            ]
        ],
        "A point is a set of layers, with its interval beside the mean of all sets. Filled points"
        " can't be told from the best set. Behind the layers stand the selectors that chose them.",
        f"{len(bars)} sets from the best, {label_of(analysis.sets[0].layers)}, to the worst.",
        note=f"{confidence} intervals of one set at a time; filled: can't be told from the best",
        columns=("layers", "minus_mean", "low", "high", "rank_low", "rank_high", "may_be_best"),
        rows=[
            (
                label_of(one.layers),
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


def layer_effects(analysis: Analysis) -> View:
    """Return a view of each layer's effect.

    Args:
        analysis: the analysis.
    """
    scale = scale_of(analysis.measured.metric)
    alpha = 1 - analysis.confidence
    rows = [
        (one.layer, *(scale * value for value in (one.effect, one.low, one.high)), one.p_value)
        for one in analysis.effects
    ]
    bars = [
        Bar(str(layer), mean, low, high, filled=p < alpha) for layer, mean, low, high, p in rows
    ]
    label = f"{heading(analysis.measured.metric)}: sets with the layer minus sets without it"
    return View(
        "Effects of layers",
        [[Bars(label, bars[::-1], "layer", zero=True)]],
        "A point is the mean of all sets with a layer minus the mean of those without it. Filled"
        " points differ from 0 after Holm's correction over layers.",
        f"Effects of {len(bars)} layers with intervals.",
        note="filled: differs from 0 after Holm's correction",
        columns=("layer", "effect", "low", "high", "p_holm"),
        rows=rows,
    )
