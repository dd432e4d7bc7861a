"""Makes all views of a run's measure records. The values shown are means over documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sumcirc.errors import UserError
from sumcirc.reporting.kinds import View
from sumcirc.reporting.measured import labelled, measured, record_name
from sumcirc.reporting.views.head_maps import divergence, entropy, salient_attention
from sumcirc.reporting.views.layer_profiles import by_layer, drift, magnitude
from sumcirc.reporting.views.lens_curves import lens_in_training
from sumcirc.reporting.views.neuron_changes import of_layer
from sumcirc.statistics import bootstrap_means, mean_over
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    LENS_KL,
    TO_SALIENT,
    ProbeRecord,
    record_file,
    record_files,
)

MOST_CURVES = 4  # number of steps compared by layer


def measure_views(folder: Path) -> tuple[list[tuple[str, Callable[[], View]]], list[str]]:
    """Return functions that make the views of the measure records in a run's `probes/` folder.

    Views of heads and neurons show the last measured step; the view of neurons shows the layer that
    contains the most changed neuron.

    Args:
        folder: the `probes/` folder.

    Returns:
        (name, function) of each view, and one message for each file that can't be used.
    """
    skipped: list[str] = []
    base = next(iter(_read([record_file(folder, -1)], skipped)), None)
    tuned = sorted(_read(record_files(folder), skipped), key=lambda record: record.step)
    if not tuned:
        return [], [*skipped, f"{folder}: no record of an optimizer step, so no figure"]
    last = tuned[-1]
    # at step 0 nothing has changed
    moved = [record for record in tuned if record.step > 0] or tuned
    places = {*np.linspace(0, len(moved) - 1, MOST_CURVES).round().astype(int).tolist()}
    lens, salient = ([one for one in tuned if name in one.values] for name in (LENS_KL, TO_SALIENT))
    views: list[tuple[str, Callable[[], View]]] = [
        ("attention_divergence", partial(divergence, last)),
        ("entropy_difference", partial(entropy, last, base)),
        ("layer_divergence", partial(layer_divergence, [moved[i] for i in sorted(places)])),
        ("neurons", partial(of_layer, last)),
        ("magnitude", partial(magnitude, [*([base] if base else []), *tuned])),
        ("drift", partial(drift, tuned)),
    ]
    if lens:
        views.append(("logit_lens", partial(lens_in_training, lens)))
    if salient:
        views.append(("salient_attention", partial(salient_attention, salient)))
    return views, skipped


def layer_divergence(records: Sequence[ProbeRecord]) -> View:
    """Return a view of attention KL(tuned || base) over layers, with one curve for each record.

    Values are means over heads and documents, with bootstrap intervals over documents.

    Args:
        records: records of several checkpoints.

    Raises:
        NotDrawableError: there are no records, or a record lacks the measure.
    """
    curves = {
        record_name(record): bootstrap_means(mean_over(measured(record, ATTENTION_KL), axis=1))
        for record in records
    }
    label = f"{labelled(ATTENTION_KL)}\nmean over heads"
    return by_layer(curves, label, column="kl_tuned_base", from_zero=True)


def _read(files: Sequence[Path], skipped: list[str]) -> list[ProbeRecord]:
    """Return the readable records, and append a message to `skipped` for each unreadable file."""
    records = []
    for file in files:
        try:
            records.append(ProbeRecord.read(file))
        except UserError as error:
            skipped.append(str(error))
    return records
