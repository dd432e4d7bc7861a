"""Views of attention by layer and head, in comparison with the base model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Map, View, cells
from sumcirc.reporting.measured import (
    ALPHA,
    ENTROPY,
    capitalized,
    documents_of,
    entropy_difference,
    measured,
    percent,
    record_name,
)
from sumcirc.statistics import (
    MIN_DOCUMENTS,
    mean_over,
    share_below_zero,
    significantly_different,
)
from sumcirc.tracking.measure_records import ATTENTION_KL, MEASURES, ProbeRecord


def divergence(record: ProbeRecord) -> View:
    """Return a map, by layer and head, of the attention's KL(tuned || base) in nats.

    Args:
        record: record of the tuned model.

    Raises:
        NotDrawableError: the record lacks the measure.
    """
    panel = Map(
        mean_over(measured(record, ATTENTION_KL), axis=-1), MEASURES[ATTENTION_KL].label, "nats"
    )
    layer, head = panel.peak
    mean, documents = f"mean of {documents_of(record)}", record_name(record)
    return View(
        "How far attention is from the base's",
        [[panel]],
        f"{capitalized(panel.label)} in nats, {mean}: 0 where a head attends as before."
        " All checkpoints share one colour scale.",
        f"Map of layer by head; at {documents} the largest value is"
        f" {panel.values[layer, head]:.3g} nats in layer {layer}, head {head}.",
        heading=f"{documents}, {mean}",
        columns=("layer", "head", "kl_tuned_base"),
        rows=cells(panel.values),
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
