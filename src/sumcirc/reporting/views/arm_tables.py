"""Tables and sentences about the arms of a sweep, for the terminal, Markdown and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sumcirc.reporting.arms import control_title, in_text
from sumcirc.reporting.comparison import ArmComparison, ArmResult, Difference
from sumcirc.reporting.costs import cost_columns
from sumcirc.reporting.draws import Place, places
from sumcirc.reporting.inside import INSIDE
from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import format_seconds
from sumcirc.reporting.views.power_tables import power_tables
from sumcirc.statistics import Estimate, bracketed
from sumcirc.tracking.score_names import FAITHFUL, ROUGE_LSUM, scale_of
from sumcirc.tracking.score_names import SCORES as LABELS

SCORES = ("rouge1_f1", "rouge2_f1", ROUGE_LSUM, "facts", "length")
COPYING = ("coverage", "density", "novel_ngrams_1", "novel_ngrams_2", "novel_ngrams_3")


def tables(comparison: ArmComparison) -> list[Table]:
    """Return tables of scores, costs and faithfulness, and a table of differences per control.

    Args:
        comparison: comparison of the arms.
    """
    found = [score_table(comparison), cost_table(comparison), *faithfulness_table(comparison)]
    if comparison.inside:
        found.append(inside_table(comparison))
    for against in comparison.options.against:
        differences = comparison.of(against, comparison.options.metric)
        if differences:
            found.append(difference_table(comparison, against, differences))
        found += inside_difference_table(comparison, against)
    return [*found, *power_tables(comparison), *draws_tables(comparison)]


def draws_tables(comparison: ArmComparison) -> list[Table]:
    """Return a table of the arms' places among random draws; the list is empty without draws.

    Args:
        comparison: comparison of the arms.
    """
    measure = comparison.options.metric
    arms = [result.arm for result in comparison.arms]
    groups: dict[int, list[Place]] = {}
    for place in places(arms, measure, comparison.options.confidence):
        groups.setdefault(len(place.draws), []).append(place)
    headings = ("arm", "seeds", LABELS[measure], "one further draw", "at least as good", "p")
    scale = scale_of(measure)
    return [
        Table(
            f"place among {count} random draws of layers; p can't be below {found[0].floor:.2g}",
            headings,
            [
                (
                    place.arm.title,
                    ",".join(map(str, place.seeds)),
                    f"{scale * place.mean:.1f}",
                    f"[{scale * place.low:.1f}, {scale * place.high:.1f}]",
                    f"{place.at_least} of {count}",
                    f"{place.p_value:.2g}",
                )
                for place in found
            ],
        )
        for count, found in groups.items()
    ]


def score_table(comparison: ArmComparison) -> Table:
    """Return a table of the scores of arms, base model and baselines, with their intervals.

    Args:
        comparison: comparison of the arms.
    """
    shown = _columns(comparison, SCORES)
    scale = f"ROUGE{' and facts' if 'facts' in shown else ''} x 100"
    return _table_of_scores(comparison, shown, scale)


def faithfulness_table(comparison: ArmComparison) -> list[Table]:
    """Return a table of the arms' faithfulness and of how often summaries are degenerate.

    The list is empty if no arm has these scores, as in runs of version 0.1.

    Args:
        comparison: comparison of the arms.
    """
    shown = [measure for measure in comparison.measures if measure in FAITHFUL]
    title = "entities and degenerate summaries, %"
    return [_table_of_scores(comparison, shown, title)] if shown else []


def _table_of_scores(comparison: ArmComparison, shown: Sequence[str], scale: str) -> Table:
    rows = []
    for i, result in enumerate(comparison.arms, start=1):
        found = [result.scores.get(measure) for measure in shown]
        cells = [
            score_cell(one.mean, one.low, one.high, measure) if one else "-"
            for one, measure in zip(found, shown, strict=True)
        ]
        rows.append([_marked(result, i), ",".join(result.arm.seeds), *cells])
    for name, scores in comparison.baselines.items():
        cells = [
            score_cell(one["mean"], one["low"], one["high"], measure)
            if (one := scores.get(measure))
            else "-"
            for measure in shown
        ]
        rows.append([f"({name})", "-", *cells])
    confidence = f"{100 * comparison.options.confidence:g} % intervals"
    title = f"{comparison.documents} documents; {scale}; {confidence} over seeds and documents"
    return Table(title, ["arm", "seeds", *(LABELS[measure] for measure in shown)], rows)


def cost_table(comparison: ArmComparison) -> Table:
    """Return a table of each arm's cost, and of how much its summaries copy from the documents.

    The cost includes the steps and the time until the validation loss `comparison.loss` was
    reached.

    Args:
        comparison: comparison of the arms.
    """
    shown = _columns(comparison, COPYING)
    loss = "the loss" if comparison.loss is None else f"loss {comparison.loss:.3f}"
    cost_headings, costs = cost_columns([result.cost for result in comparison.arms])
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
                format_seconds(result.seconds),
                *costs[i - 1],
                f"{result.loss:.3f}",
                f"{reach.steps:.0f}{part}" if reach.runs else "never",
                format_seconds(reach.seconds) if reach.runs else "-",
                *(f"{result.scores[m].mean:.2f}" if m in result.scores else "-" for m in shown),
            ]
        )
    headings = ["arm", "trainable", *(["learning rate"] if rates else []), "steps", "time"]
    headings += cost_headings
    headings += ["validation loss", f"steps to {loss}", f"time to {loss}"]
    headings += [LABELS[measure] for measure in shown]
    return Table("cost, and how much is copied", headings, rows)


def inside_table(comparison: ArmComparison) -> Table:
    """Return a table of what happened inside the arms' models, with intervals.

    Args:
        comparison: comparison of the arms.
    """
    rows = [
        [
            _marked(result, i),
            *(_inside_cell(result.inside.get(name)) for name in comparison.inside),
        ]
        for i, result in enumerate(comparison.arms, start=1)
    ]
    headings = [_inside_heading(name) for name in comparison.inside]
    return Table("inside the model, at the last measured step", ["arm", *headings], rows)


def inside_difference_table(comparison: ArmComparison, against: str) -> list[Table]:
    """Return a table of how arms differ inside from a control, or [] if nothing was compared.

    Args:
        comparison: comparison of the arms.
        against: the control's name, see `ComparisonOptions.against`.
    """
    found = {name: comparison.of(against, name) for name in comparison.inside}
    names = [name for name, differences in found.items() if differences]
    rows = []
    for result in comparison.arms:
        cells = []
        for name in names:
            one = next((one for one in found[name] if one.arm is result.arm), None)
            star = " *" if one is not None and one.shown(comparison.alpha) else ""
            cells.append(_inside_cell(one and one.estimate, "+.3g") + star)
        if set(cells) - {"-"}:
            rows.append([result.arm.title, *cells])
    if not rows:
        return []
    title = f"inside, minus {control_title(against)} (*: differs after Holm's correction)"
    return [Table(title, ["arm", *(_inside_heading(name) for name in names)], rows)]


def _inside_heading(name: str) -> str:
    measure = INSIDE[name]
    return f"{measure.label}, {measure.unit}" if measure.unit else measure.label


def _inside_cell(found: Estimate | None, form: str = ".3g") -> str:
    if found is None:
        return "-"
    if not math.isfinite(found.low):
        return format(found.mean, form)
    return bracketed(found.mean, found.low, found.high, form)


def difference_table(
    comparison: ArmComparison, against: str, differences: Sequence[Difference]
) -> Table:
    """Return a table of the score differences between arms and one control.

    Args:
        comparison: comparison of the arms.
        against: the control's name, see `ComparisonOptions.against`.
        differences: differences of the arms from this control.
    """
    metric, alpha = comparison.options.metric, comparison.alpha
    rows = [
        [
            found.arm.title,
            found.control.title,
            _signed(found.estimate, metric),
            # of documents alone with few seeds, which is no test of the arms
            _p_value(None if found.corrected is None else found.estimate.p_value),
            _p_value(found.corrected),
            _could_show(found.detectable, metric),
            "same seeds" if found.paired else "other seeds",
            found.verdict(alpha),
        ]
        for found in _ordered(comparison, differences)
    ]
    heading = f"{LABELS[metric]} difference{' x 100' if scale_of(metric) != 1 else ''}"
    family = sum(found.corrected is not None for found in differences)
    tested = f"Holm over {family} arm{'s' * (family != 1)}" if family else "too few seeds to test"
    return Table(
        f"against {control_title(against)}: the same documents, {tested}",
        ["arm", "control", heading, "p", "p (Holm)", "could show", "paired by", "in words"],
        rows,
        frozenset({"control", "paired by", "in words"}),
    )


def _could_show(difference: float | None, metric: str) -> str:
    return "-" if difference is None else f"{scale_of(metric) * difference:.1f}"


def remarks(comparison: ArmComparison) -> list[str]:
    """Return one line per arm that is not directly comparable, with the reasons.

    The lines are numbered in the same way as the marks after the arms' names in the tables.

    Args:
        comparison: comparison of the arms.
    """
    return [
        f"[{i}] {result.arm.title}: {'; '.join(result.remarks)}"
        for i, result in enumerate(comparison.arms, start=1)
        if result.remarks
    ]


def in_words(comparison: ArmComparison) -> list[str]:
    """Return the conclusions in words, with one sentence for each control that has compared arms.

    Args:
        comparison: comparison of the arms.
    """
    metric, found = comparison.options.metric, []
    for against in comparison.options.against:
        differences = _ordered(comparison, comparison.of(against, metric))
        if not differences:
            continue
        shown = [item for item in differences if item.shown(comparison.alpha)]
        few = [item for item in differences if item.corrected is None]
        rest = [item for item in differences if item not in shown and item not in few]
        parts = [
            f"{in_text(item.arm.title)} {item.verdict(comparison.alpha)}"
            f" ({_signed(item.estimate, metric)}, p {_compared(_p_value(item.corrected))})"
            for item in shown
        ]
        if rest:
            parts.append(f"no difference was shown for {_listed(rest)}")
        for seeds in dict.fromkeys(item.seeds for item in few):
            alike = [item for item in few if item.seeds == seeds]
            parts.append(f"{_listed(alike)} ({seeds}): not tested")
        found.append(
            f"{LABELS[metric]} against {in_text(control_title(against))}: {'; '.join(parts)}."
        )
    return found


def _listed(differences: Sequence[Difference]) -> str:
    return ", ".join(in_text(item.arm.title) for item in differences)


def _ordered(comparison: ArmComparison, differences: Sequence[Difference]) -> list[Difference]:
    order = [result.arm.label for result in comparison.arms]
    return sorted(differences, key=lambda found: order.index(found.arm.label))


def _columns(comparison: ArmComparison, wanted: Sequence[str]) -> list[str]:
    chosen = {*wanted, comparison.options.metric} if "rouge1_f1" in wanted else {*wanted}
    return [measure for measure in comparison.measures if measure in chosen]


def _marked(result: ArmResult, number: int) -> str:
    """Return the arm's title, followed by `[number]` if the arm has remarks."""
    return f"{result.arm.title} [{number}]" if result.remarks else result.arm.title


def score_cell(mean: float, low: float, high: float, measure: str, form: str = ".1f") -> str:
    """Format a score with its interval in brackets. Fractions are multiplied by 100.

    Args:
        mean, low, high: the score and the ends of its interval.
        measure: name of the score, which determines whether it is a fraction.
        form: Python format specification for the numbers.
    """
    scale = scale_of(measure)
    return bracketed(scale * mean, scale * low, scale * high, form)


def _signed(found: Estimate, measure: str) -> str:
    return score_cell(found.mean, found.low, found.high, measure, "+.1f")


def _p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def _compared(p: str) -> str:
    return p.replace("<", "< ") if p.startswith("<") else f"= {p}"
