"""All figures of a folder of probe records.

Each figure is a PNG, a PDF and a CSV of what it shows. Values are means over the probe documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sumcirc.errors import UserError
from sumcirc.figures.activations import NEURONS, draw_drift, draw_magnitude, draw_neurons
from sumcirc.figures.attention import (
    draw_attention_divergence,
    draw_entropy_difference,
    draw_layer_divergence,
)
from sumcirc.figures.drawing import NotDrawableError, measured, record_name, sizes
from sumcirc.tracking.measure_records import ProbeRecord, record_file, record_files

MOST_CURVES = 4  # steps compared by layer


def draw_all(probes: Path, target: Path) -> list[str]:
    """Draw every figure that the records of a run's `probes/` allow, into the folder `target`.

    Heads and neurons are those of the last step; the neurons' layer is that of the most changed
    one.

    Returns:
        Why figures are missing and files were left out, one line each.

    Raises:
        UserError: the files can't be written.
    """
    skipped: list[str] = []
    base = _read([record_file(probes, -1)], skipped)
    tuned = sorted(_read(record_files(probes), skipped), key=lambda record: record.step)
    if not tuned:
        return [*skipped, f"{probes}: no record of an optimizer step, so no figure"]
    last = tuned[-1]
    # at step 0 nothing has moved
    moved = [record for record in tuned if record.step > 0] or tuned
    places = {*np.linspace(0, len(moved) - 1, MOST_CURVES).round().astype(int).tolist()}
    curves = {record_name(moved[i]): moved[i] for i in sorted(places)}

    def entropy(path: Path) -> None:
        if not base:
            raise NotDrawableError("there is no record of the base")
        draw_entropy_difference(last, base[0], path)

    def neurons(path: Path) -> None:
        layer = sizes(measured(last, NEURONS)).max(axis=1).argmax()
        draw_neurons(last, int(layer), path)

    figures: dict[str, Callable[[Path], None]] = {
        "attention_divergence": lambda path: draw_attention_divergence(last, path),
        "entropy_difference": entropy,
        "layer_divergence": lambda path: draw_layer_divergence(curves, path),
        "neurons": neurons,
        "magnitude": lambda path: draw_magnitude([*base, *tuned], path),
        "drift": lambda path: draw_drift(tuned, path),
    }
    for name, draw in figures.items():
        try:
            draw(target / f"{name}.png")
        except NotDrawableError as error:
            skipped.append(f"{name}: {error}")
    return skipped


def _read(files: Sequence[Path], skipped: list[str]) -> list[ProbeRecord]:
    """Records of files; why one can't be read goes to `skipped`."""
    records = []
    for file in files:
        try:
            records.append(ProbeRecord.read(file))
        except UserError as error:
            skipped.append(str(error))
    return records
