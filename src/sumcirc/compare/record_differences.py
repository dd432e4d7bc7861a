"""Differences between two models by layer and by head, computed from stored measures.

These scores say where the models differ on the same texts, not which component causes the
difference (delta scaling and patching do). Since a change in one layer propagates to all later
layers, the table of layers is ranked by the change that arises within a layer, not by the change
accumulated up to it.

Means are over documents. Their intervals come from the percentile bootstrap over documents, and
both ends are NaN if there is only one document. Only stored records are read; no model is run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.errors import UserError
from sumcirc.statistics import bootstrap_means, mean_over, rank_interval, significantly_different
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    ENTROPY,
    MEASURES,
    RELATIVE_CHANGE,
    STREAM,
    ProbeRecord,
)

ENTROPY_DIFFERENCE = "attention/entropy_difference"
DIVERGENCES = (ATTENTION_KL, "attention/kl_base_tuned", "attention/js")

Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # mean, low, high


@dataclass(frozen=True)
class Estimated:
    """A mean over documents and its 95 % interval, from `low` to `high`."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class HeadChange:
    """How much one attention head differs between the fine-tuned model and the base.

    Attributes:
        layer, head: indices of the head.
        kl: attention KL(tuned || base) in nats, by which heads are ranked.
        entropy: attention entropy in the fine-tuned model minus that in the base, in nats.
        significant: whether `entropy` differs from zero by `statistics.significantly_different`,
            tested among all heads (false discovery rate 5 %).
        rank_low, rank_high: interval of the head's rank over resamples of the documents.
        first: share of the resamples in which the head has the largest KL of all heads.
    """

    layer: int
    head: int
    kl: Estimated
    entropy: Estimated
    significant: bool
    rank_low: float
    rank_high: float
    first: float


@dataclass(frozen=True)
class LayerChange:
    """How much one layer differs between the fine-tuned model and the base.

    Attributes:
        layer: index of the layer.
        gained: drift after the layer minus drift before the layer: the change that arises in this
            layer, by which layers are ranked. It is negative if the residual streams become more
            similar.
        drift: relative change of the residual stream after the layer, |tuned - base| / |base|.
        kl: attention KL(tuned || base) in nats, mean over heads.
        entropy: attention entropy in the fine-tuned model minus that in the base, in nats, mean
            over heads.
        significant: whether `gained` differs from zero, tested among all layers.
        rank_low, rank_high: interval of the layer's rank over resamples of the documents.
        first: share of the resamples in which the layer has the largest `gained`.
    """

    layer: int
    gained: Estimated
    drift: Estimated
    kl: Estimated
    entropy: Estimated
    significant: bool
    rank_low: float
    rank_high: float
    first: float


def layer_curves(record: ProbeRecord, base_record: ProbeRecord | None = None) -> dict[str, Curve]:
    """Return how much attention and the residual stream of two models differ, by layer.

    Args:
        record: measures of the fine-tuned model, compared with the base.
        base_record: measures of the base, with which the difference of the attention entropies is
            computed; None leaves this difference out.

    Returns:
        For each measure, by its name, the mean and the lower and upper ends of the interval:
        [layers] for attention (mean over heads), and [layers + 1] for the residual stream, where
        index 0 is the embedding and l + 1 the stream after layer l.

    Raises:
        UserError: the records are of different documents or models.
    """
    found = {
        name: bootstrap_means(mean_over(_measured(record, name), 1))
        for name in DIVERGENCES
        if name in record.values
    }
    if base_record is not None:
        found[ENTROPY_DIFFERENCE] = bootstrap_means(mean_over(_entropy(record, base_record), 1))
    for name, measure in MEASURES.items():
        if measure.axes == STREAM and name in record.values:
            found[name] = bootstrap_means(_measured(record, name))
    return found


def most_changed_heads(
    record: ProbeRecord, base_record: ProbeRecord, count: int
) -> list[HeadChange]:
    """Return the `count` heads with the largest attention KL, in descending order.

    Among heads with equal values, the lower layer comes first, then the lower head.

    Args:
        record: measures of the fine-tuned model, compared with the base.
        base_record: measures of the base.
        count: number of heads.

    Raises:
        UserError: a record lacks a measure, or the records are of different documents or models.
    """
    kl, entropy = _measured(record, ATTENTION_KL), _entropy(record, base_record)
    heads = kl.shape[1]
    rows = kl.reshape(-1, kl.shape[-1])
    ranks = rank_interval(rows)
    kls, entropies = _estimated(rows), _estimated(entropy.reshape(rows.shape))
    significant = significantly_different(entropy).ravel()
    return [
        HeadChange(
            layer=int(place // heads),
            head=int(place % heads),
            kl=kls[place],
            entropy=entropies[place],
            significant=bool(significant[place]),
            rank_low=float(ranks.low[place]),
            rank_high=float(ranks.high[place]),
            first=float(ranks.first[place]),
        )
        for place in np.argsort(ranks.rank)[:count]
    ]


def most_changed_layers(
    record: ProbeRecord, base_record: ProbeRecord, count: int
) -> list[LayerChange]:
    """Return the `count` layers in which residual streams diverge most, in descending order.

    Args:
        record: measures of the fine-tuned model, compared with the base.
        base_record: measures of the base.
        count: number of layers.

    Raises:
        UserError: a record lacks a measure, or the records are of different documents or models.
    """
    drift = _measured(record, RELATIVE_CHANGE)
    gained = drift[1:] - drift[:-1]
    ranks = rank_interval(gained)
    gains, drifts = _estimated(gained), _estimated(drift[1:])
    kls = _estimated(mean_over(_measured(record, ATTENTION_KL), 1))
    entropies = _estimated(mean_over(_entropy(record, base_record), 1))
    significant = significantly_different(gained)
    return [
        LayerChange(
            layer=int(layer),
            gained=gains[layer],
            drift=drifts[layer],
            kl=kls[layer],
            entropy=entropies[layer],
            significant=bool(significant[layer]),
            rank_low=float(ranks.low[layer]),
            rank_high=float(ranks.high[layer]),
            first=float(ranks.first[layer]),
        )
        for layer in np.argsort(ranks.rank)[:count]
    ]


def _measured(record: ProbeRecord, name: str) -> NDArray[np.float64]:
    """Return values of a measure; values that are not finite become NaN."""
    if name not in record.values:
        raise UserError(
            f"compare: the probe record has no `{name}`; measure the models together, with"
            " all measures"
        )
    values = np.asarray(record.values[name], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _entropy(record: ProbeRecord, base_record: ProbeRecord) -> NDArray[np.float64]:
    """Return attention entropy, tuned - base, [layers, heads, documents]."""
    tuned, base = _measured(record, ENTROPY), _measured(base_record, ENTROPY)
    if record.documents != base_record.documents or tuned.shape != base.shape:
        raise UserError(
            "compare: the probe records are of different documents or models; probe both on the"
            " same documents"
        )
    return tuned - base


def _estimated(rows: NDArray[np.float64]) -> list[Estimated]:
    """Return the estimates of each row of [rows, documents]."""
    return [
        Estimated(float(mean), float(low), float(high))
        for mean, low, high in zip(*bootstrap_means(rows), strict=True)
    ]
