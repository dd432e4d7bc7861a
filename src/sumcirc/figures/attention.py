"""Figures of attention beside the base's: by head and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.differences import draw_layer_curves
from sumcirc.figures.drawing import (
    NotDrawableError,
    documents_of,
    draw_grid,
    labelled,
    largest,
    mark_cells,
    measured,
    percent,
    record_name,
    save,
)
from sumcirc.statistics import (
    MIN_DOCUMENTS,
    bootstrap_means,
    mean_over,
    share_below_zero,
    significantly_different,
)
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord

KL = "attention/kl_tuned_base"
ENTROPY = "attention/entropy"
ALPHA = 0.05  # false discovery rate of marked heads


def draw_attention_divergence(record: ProbeRecord, target: Path) -> None:
    """Map of each head's attention KL(tuned || base), nats.

    Raises:
        NotDrawableError: the record lacks the measure.
        UserError: the files can't be written.
    """
    means = mean_over(measured(record, KL), axis=-1)
    highest = float(np.max(means, initial=0.0, where=np.isfinite(means)))
    figure, _ = draw_grid(means, "viridis", (0.0, highest or 1.0), labelled(KL))
    figure.suptitle(f"{record_name(record)}, mean of {documents_of(record)}", fontsize=10)
    save(figure, target, ("layer", "head", "kl_tuned_base"), _cells(means))


def draw_entropy_difference(record: ProbeRecord, base_record: ProbeRecord, target: Path) -> None:
    """Map of each head's attention entropy, tuned minus base, nats.

    A dot marks heads that differ from zero (`statistics.significantly_different`, false discovery
    rate 5 %); the title tells the share of heads that fell, its bootstrap interval of 95 %, and the
    share that fell significantly. One document gives neither interval nor test.

    Raises:
        NotDrawableError: a record lacks the measure, or their documents, layers or heads differ.
        UserError: the files can't be written.
    """
    tuned, base = measured(record, ENTROPY), measured(base_record, ENTROPY)
    if record.documents != base_record.documents or tuned.shape != base.shape:
        raise NotDrawableError(
            f"{record_name(record)} and {record_name(base_record)}: their probe records are of"
            " different documents or models; probe both on the same documents"
        )
    differences = np.where(np.isfinite(tuned - base), tuned - base, np.nan)
    means = mean_over(differences, axis=-1)
    marked = significantly_different(differences, ALPHA)
    limit = largest(means)
    label = f"{MEASURES[ENTROPY].label}, tuned − base ({MEASURES[ENTROPY].unit})"
    figure, axes = draw_grid(means, "RdBu_r", (-limit, limit), label)
    mark_cells(axes, marked)
    title = _fallen(differences, marked & (means < 0), documents_of(record))
    figure.suptitle(f"{record_name(record)}: {title}", fontsize=9)
    columns = ("layer", "head", "tuned_minus_base", "significant")
    save(figure, target, columns, _cells(means, marked))


def draw_layer_divergence(curves: Mapping[str, ProbeRecord], target: Path) -> None:
    """Attention KL(tuned || base) over layers, a curve for each pair of models.

    A point is the mean over heads and documents, the band its bootstrap interval of 95 % over
    documents (none with one document).

    Args:
        curves: records by the name of the pair, such as `base-LoRA`.

    Raises:
        NotDrawableError: no curve, or a record lacks the measure.
        UserError: the files can't be written.
    """
    found = {
        label: bootstrap_means(mean_over(measured(record, KL), axis=1))
        for label, record in curves.items()
    }
    label = f"{labelled(KL)}\nmean over heads"
    draw_layer_curves(found, target, label, column="kl_tuned_base", from_zero=True)


def _fallen(
    differences: NDArray[np.float64], significant: NDArray[np.bool_], documents: str
) -> str:
    """How many heads fell, for a title of two lines."""
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


def _cells(*grids: NDArray[Any]) -> list[tuple[Any, ...]]:
    layers, heads = grids[0].shape
    return [
        (layer, head, *(grid[layer, head] for grid in grids))
        for layer in range(layers)
        for head in range(heads)
    ]
