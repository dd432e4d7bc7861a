"""Section: maps of layer x head beside the base, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.drawing import documents_of, largest, record_name
from sumcirc.reporting.page.charts import POSITIVE, SIGNED, figure, grid
from sumcirc.reporting.page.origin import again
from sumcirc.reporting.page.view import Block, Chart, Gap, Page, Slider, each
from sumcirc.statistics import mean_over, significantly_different
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord
from sumcirc.tracking.run_records import RunRecords

KL = "attention/kl_tuned_base"
ENTROPY = "attention/entropy"
ALPHA = 0.05  # false discovery rate of marked heads
INTRO = (
    "Each square is a head: layers from bottom to top (0 first), heads from left to right. Move the"
    " slider through the checkpoints; point at a square for its value. These are differences"
    " between models, not causes."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Attention KL and entropy difference of probed runs."""
    page.add(
        "heads",
        "Attention by head",
        INTRO,
        each(runs, lambda run: charts(run.probes, run.base_probe)),
    )
    for run in runs:
        if run.trains and not any(KL in record.values for record in run.probes):
            page.gaps.append(
                Gap(
                    f"{run.name}: attention, drift and neurons were not watched",
                    again(run, "callbacks=default", f"sweep.name={run.path.parent.name}-watched"),
                )
            )


def charts(records: Sequence[ProbeRecord], base: ProbeRecord | None) -> list[Block]:
    """Maps of what the records have."""
    found: list[Block] = []
    diverged = [record for record in records if KL in record.values]
    if diverged:
        found.append(_divergence(diverged))
    changes = [(record, entropy_change(record, base)) for record in records]
    compared = [(record, change) for record, change in changes if change is not None]
    if compared:
        found.append(_entropy(compared))
    return found


def entropy_change(record: ProbeRecord, base: ProbeRecord | None) -> NDArray[np.float64] | None:
    """Attention entropy less the base's [layers, heads, documents]; None where one is missing."""
    if base is None or record.documents != base.documents:
        return None
    if ENTROPY not in record.values or ENTROPY not in base.values:
        return None
    after, before = (np.asarray(one.values[ENTROPY], dtype=np.float64) for one in (record, base))
    return after - before


def slider_of(records: Sequence[ProbeRecord]) -> Slider | None:
    """Over the records, where there are several."""
    names = [record_name(record) for record in records]
    return Slider("Checkpoint", names) if len(names) > 1 else None


def head_axes(layers: int, heads: int) -> dict[str, object]:
    """Layout of a map, whose height goes with the layers."""
    return {
        "xaxis": {"title": {"text": "head"}, "dtick": 1 if heads <= 16 else 4, "showgrid": False},
        "yaxis": {"title": {"text": "layer"}, "dtick": 1 if layers <= 16 else 4, "showgrid": False},
        "height": int(np.clip(34 * layers + 130, 300, 820)),
    }


def _divergence(records: Sequence[ProbeRecord]) -> Chart:
    means = [
        mean_over(np.asarray(record.values[KL], dtype=np.float64), axis=-1) for record in records
    ]
    highest = max(largest(mean) for mean in means)
    hover = "layer %{y}, head %{x}<br>KL %{z:.3g} nats"
    drawn = figure(
        [grid(means[-1], (0.0, highest), POSITIVE, hover, colorbar={"title": {"text": "nats"}})],
        **head_axes(*means[-1].shape),
    )
    layer, head = peak(means[-1])
    return Chart(
        "How far attention is from the base's",
        f"{MEASURES[KL].label[0].upper()}{MEASURES[KL].label[1:]} in nats, mean of"
        f" {documents_of(records[-1])}: 0 where a head attends as before. One colour scale for all"
        " checkpoints.",
        f"Map of layer by head; at {record_name(records[-1])} the largest value is"
        f" {means[-1][layer, head]:.3g} nats in layer {layer}, head {head}.",
        drawn,
        slider_of(records),
        [[{"z": mean}] for mean in means],
    )


def _entropy(compared: Sequence[tuple[ProbeRecord, NDArray[np.float64]]]) -> Chart:
    records, differences = zip(*compared, strict=True)
    means = [mean_over(one, axis=-1) for one in differences]
    limit = max(largest(mean) for mean in means)
    frames = [
        [{"z": mean, "text": _dots(one)}] for mean, one in zip(means, differences, strict=True)
    ]
    hover = "layer %{y}, head %{x}<br>entropy %{z:+.3g} nats %{text}"
    heat = grid(
        means[-1],
        (-limit, limit),
        SIGNED,
        hover,
        text=frames[-1][0]["text"],
        texttemplate="%{text}",
        colorbar={"title": {"text": "nats"}},
    )
    layer, head = peak(means[-1])
    fell = float(np.mean(means[-1] < 0))
    return Chart(
        "Attention entropy, tuned minus base",
        "Blue: attention became more concentrated; red: more spread. A dot marks heads that differ"
        f" over {documents_of(records[-1])} (Wilcoxon's test, false discovery rate"
        f" {100 * ALPHA:.0f} %). One colour scale for all checkpoints.",
        f"Map of layer by head; at {record_name(records[-1])} entropy fell in {100 * fell:.0f} %"
        f" of heads; it changed most in layer {layer}, head {head}:"
        f" {means[-1][layer, head]:+.3g} nats.",
        figure([heat], **head_axes(*means[-1].shape)),
        slider_of(records),
        frames,
    )


def _dots(differences: NDArray[np.float64]) -> list[list[str]]:
    marked = significantly_different(np.where(np.isfinite(differences), differences, np.nan), ALPHA)
    return [["•" if sure else "" for sure in row] for row in marked]


def peak(means: NDArray[np.float64]) -> tuple[int, int]:
    """Layer and head of the largest value, whatever its sign."""
    sizes = np.where(np.isfinite(means), np.abs(means), 0.0)
    layer, head = np.unravel_index(int(sizes.argmax()), sizes.shape)
    return int(layer), int(head)
