"""Views of attention by layer and head: compared with the base model, and to a text's facts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Curve, Curves, Map, NotDrawableError, View, cells
from sumcirc.reporting.measured import (
    ALPHA,
    ENTROPY,
    capitalized,
    document_means,
    documents_of,
    entropy_difference,
    measured,
    percent,
    record_name,
)
from sumcirc.statistics import (
    MIN_DOCUMENTS,
    bootstrap_means,
    mean_over,
    share_below_zero,
    significantly_different,
)
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    MEASURES,
    TO_DISTRACTOR,
    TO_SALIENT,
    ProbeRecord,
)

FOLLOWED = 4  # number of heads whose attention to the facts is drawn over training


def divergence(record: ProbeRecord) -> View:
    """Return a map, by layer and head, of the attention's KL(tuned || base) in nats.

    Args:
        record: record of the tuned model.

    Raises:
        NotDrawableError: the record lacks the measure.
    """
    label, mean = MEASURES[ATTENTION_KL].label, f"mean of {documents_of(record)}"
    return _single_map(
        record,
        ATTENTION_KL,
        "How far attention is from the base's",
        f"{capitalized(label)} in nats, {mean}: 0 where a head attends as before.",
        "kl_tuned_base",
        "nats",
    )


def entropy(record: ProbeRecord, base: ProbeRecord | None) -> View:
    """Return a map, by layer and head, of the attention entropy's change (tuned - base, in nats).

    A dot marks heads whose change differs from zero (`statistics.significantly_different`, false
    discovery rate 5 %). The heading gives the fraction of heads whose entropy fell, with its
    bootstrap interval of 95 %, and the fraction of heads whose entropy fell significantly. With
    only one document there is neither an interval nor a test.

    Args:
        record: record of the tuned model.
        base: record of the base model; None raises NotDrawableError.

    Raises:
        NotDrawableError: a record lacks the measure, or the records' documents, layers or heads
            differ.
    """
    differences = entropy_difference(record, base)
    means, marked = mean_over(differences, -1), significantly_different(differences, ALPHA)
    panel = Map(means, f"{MEASURES[ENTROPY].label}, tuned − base", "nats", True, marked)
    layer, head = panel.peak
    name, documents = record_name(record), documents_of(record)
    return View(
        "Attention entropy, tuned minus base",
        [[panel]],
        "Blue: attention became more concentrated; red: more spread. A dot marks heads that differ"
        f" over {documents} (Wilcoxon's test, false discovery rate {percent(ALPHA)}). All"
        " checkpoints share one colour scale.",
        f"Map of layer by head; at {name} entropy fell in"
        f" {percent(float(np.mean(means < 0)))} of heads; it changed most in layer {layer}, head"
        f" {head}: {means[layer, head]:+.3g} nats.",
        heading=f"{name}: {_fallen(differences, marked & (means < 0), documents)}",
        columns=("layer", "head", "tuned_minus_base", "significant"),
        rows=cells(means, marked),
    )


def to_salient(record: ProbeRecord) -> View:
    """Return a map, by layer and head, of the attention to the salient span.

    Args:
        record: record of a model.

    Raises:
        NotDrawableError: the record lacks the measure.
    """
    return _single_map(
        record,
        TO_SALIENT,
        "Attention to the facts",
        "Share of its attention that a head pays to the tokens of the document's facts, mean of"
        f" {documents_of(record)}.",
        "share",
    )


def _single_map(
    record: ProbeRecord, measure: str, title: str, legend: str, column: str, unit: str = ""
) -> View:
    """Return a map of a measure's means over documents, by layer and head."""
    panel = Map(mean_over(measured(record, measure), -1), MEASURES[measure].label, unit)
    layer, head = panel.peak
    name = record_name(record)
    largest = f"{panel.values[layer, head]:.3g} {unit}".rstrip()
    return View(
        title,
        [[panel]],
        f"{legend} All checkpoints share one colour scale.",
        f"Map of layer by head; at {name} the largest value is {largest} in layer {layer}, head"
        f" {head}.",
        heading=f"{name}, mean of {documents_of(record)}",
        columns=("layer", "head", column),
        rows=cells(panel.values),
    )


def salient_attention(records: Sequence[ProbeRecord]) -> View:
    """Return a view of attention to the salient span by layer and head, over training.

    Two maps show the last record and its change from the first, in which dots mark heads whose
    change differs from zero (false discovery rate 5 %). Curves follow the heads that changed most
    over the steps, with bootstrap intervals of 95 %. Grey curves show the same heads' attention to
    the other event's facts, where the records have it.

    Args:
        records: records of several checkpoints, in any order.

    Raises:
        NotDrawableError: there are no records, a record lacks the measure, or the records are of
            different documents or models.
    """
    ordered = sorted(records, key=lambda record: record.step)
    means = document_means(ordered, TO_SALIENT)
    first, last = ordered[0], ordered[-1]
    if first.documents != last.documents:
        raise NotDrawableError("attention to the facts: the records are of different documents")
    change = measured(last, TO_SALIENT) - measured(first, TO_SALIENT)
    moved, marked = mean_over(change, -1), significantly_different(change, ALPHA)
    names, label = (record_name(first), record_name(last)), MEASURES[TO_SALIENT].label
    panels: list[Map | Curves] = [Map(means[-1], label, title=names[1])]
    if len(ordered) > 1:
        dots = f"\ndots: differs, FDR {percent(ALPHA)}" if marked.any() else ""
        title = f"{names[1]} − {names[0]}{dots}"
        panels += [
            Map(moved, "change of the share", "", True, marked, title=title),
            _followed(ordered, moved),
        ]
    rows = [
        (record.step, *place, value)
        for record, values in zip(ordered, means, strict=True)
        for place, value in np.ndenumerate(values)
    ]
    mean = f"mean of {documents_of(last)}"
    return View(
        "Attention to the facts",
        [panels],
        f"Share of its attention that a head pays to the tokens of the document's facts, {mean}.",
        f"Maps of layer by head, and curves of the heads that changed most up to {names[1]}.",
        heading=mean,
        columns=("step", "layer", "head", "share"),
        rows=rows,
    )


def _followed(records: Sequence[ProbeRecord], moved: NDArray[np.float64]) -> Curves:
    """Return curves over steps of the heads that changed most, and of their control."""
    sizes = np.where(np.isfinite(moved), np.abs(moved), -1)
    chosen = np.argsort(-sizes, axis=None, kind="stable")[:FOLLOWED]
    heads = [divmod(int(place), moved.shape[1]) for place in chosen]
    steps = [record.step for record in records]
    own = np.stack([measured(record, TO_SALIENT) for record in records])
    curves = [
        Curve(f"head {layer}.{head}", steps, *bootstrap_means(own[:, layer, head]))
        for layer, head in heads
    ]
    if all(TO_DISTRACTOR in record.values for record in records):
        other = document_means(records, TO_DISTRACTOR)
        curves += [
            Curve("other event's facts", steps, other[:, layer, head], look="control", group="c")
            for layer, head in heads
        ]
    return Curves("optimizer step", "share of attention", curves, "step", title="most changed")


def _fallen(
    differences: NDArray[np.float64], significant: NDArray[np.bool_], documents: str
) -> str:
    """Return the fraction of heads whose entropy fell, in words of at most two lines."""
    share = share_below_zero(differences)
    if share.n < 1:
        return f"undefined on {documents}"
    text = f"entropy fell in {percent(share.mean)} of heads"
    if share.n < 2:
        return f"{text}\n{documents}: no interval, no test"
    if share.n >= MIN_DOCUMENTS:
        text += f" (95 % interval {percent(share.low)} to {percent(share.high)})"
    if 2.0 / 2.0**share.n > ALPHA:
        return f"{text}\n{documents}: too few for a test"
    defined = np.isfinite(differences).any(axis=-1)
    fell = percent(float(significant[defined].mean()))
    return f"{text}\nsignificantly in {fell} (dots: differs, FDR {percent(ALPHA)}; {documents})"
