"""The page's sections on measures: attention by head, measures by layer, neurons and tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from sumcirc.reporting.kinds import NotDrawableError, View
from sumcirc.reporting.measured import record_name
from sumcirc.reporting.page.blocks import Block, Gap, Page, TableBlock, each
from sumcirc.reporting.page.plotly_charts import chart, charts
from sumcirc.reporting.page.runs_section import again
from sumcirc.reporting.views.head_maps import divergence, entropy, to_salient
from sumcirc.reporting.views.layer_profiles import profile
from sumcirc.reporting.views.neuron_changes import most_changed, neuron_table, token_table
from sumcirc.tracking.measure_records import (
    ATTENTION_KL,
    CKA,
    LENS_AGREEMENT,
    LENS_KL,
    LENS_LOG_PROBABILITY,
    TO_SALIENT,
    ProbeRecord,
)
from sumcirc.tracking.run_records import RunRecords

READINGS = {
    CKA: "1: the layer represents the documents as the base does; lower: differently.",
    "residual/centered_cosine": "1: the same direction as the base's; lower: turned away.",
    "residual/relative_change": "How far the residual stream moved, as a share of its length.",
    ATTENTION_KL: "0: the layer's heads attend as the base's do.",
    "attention/mass_sink": "Attention that rests on the first position.",
    TO_SALIENT: "Attention to the tokens of the document's facts, or to its salient sentences.",
    LENS_LOG_PROBABILITY: "What each depth predicts under the final norm and the unembedding.",
    LENS_KL: "0: the depth already predicts what the model will.",
    LENS_AGREEMENT: "1: the depth's most likely token is that of the model.",
    "attention/salience_alignment": "Whether heads look at the words that the reference repeats.",
}
HEADS = (
    "Each square is a head: layers from bottom to top (0 first), heads from left to right. The base"
    " is the model before training. Move the slider through the checkpoints; point at a square for"
    " its value. These are differences between models, not causes."
)
LAYERS = (
    "What each depth of the model does on fixed documents, and how it differs from the base: a line"
    " for each checkpoint, from magenta (early) to orange (late). Bars are 95 % bootstrap intervals"
    " over documents, at the last checkpoint. Click a name in a legend to hide its line."
)
NEURONS = (
    "MLP neurons whose mean activation changed most from the base, ten of each layer, and the"
    " tokens that the mean change of the residual stream makes more likely."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add sections with the measures of the runs that recorded any.

    Training runs without measures are added to the page's gaps.

    Args:
        page: page to which the sections are added.
        runs: runs to show.
    """
    heads = each(runs, lambda run: head_charts(run.probes, run.base_probe))
    page.add("heads", "Attention by head", HEADS, heads)
    for run in runs:
        if run.trains and not any(ATTENTION_KL in record.values for record in run.probes):
            words = again(run, "callbacks=default", f"sweep.name={run.path.parent.name}-watched")
            what = f"{run.name}: attention, drift and neurons were not measured"
            page.gaps.append(Gap(what, words))
    page.add("layers", "Layers", LAYERS, each(runs, lambda run: layer_charts(run.probes)))
    page.add("neurons", "Neurons", NEURONS, each(runs, lambda run: neuron_blocks(run.probes)))


def head_charts(records: Sequence[ProbeRecord], base: ProbeRecord | None) -> list[Block]:
    """Return maps of attention by layer and head, each with a slider over checkpoints.

    The maps show KL(tuned || base), the change of entropy, and attention to the facts. Maps without
    data are left out.

    Args:
        records: records of the tuned model, one for each checkpoint.
        base: record of the untrained base model; None if there is none.
    """
    views = (divergence, partial(entropy, base=base), to_salient)
    return [block for view in views for block in _over(records, view)]


def layer_charts(records: Sequence[ProbeRecord]) -> list[Block]:
    """Return a chart over layers for each measure in the records, with a curve per checkpoint.

    Args:
        records: records of the tuned model, one for each checkpoint.
    """
    having = {name: [one for one in records if name in one.values] for name in READINGS}
    return charts(
        *(partial(profile, name, reading, having[name]) for name, reading in READINGS.items())
    )


def neuron_blocks(records: Sequence[ProbeRecord]) -> list[Block]:
    """Return a chart and tables of the most changed MLP neurons, and a table of tokens.

    The chart has a slider over checkpoints, and the tables show the last checkpoint. The tokens are
    those that the change of the residual stream makes more or less likely.

    Args:
        records: records of the tuned model, one for each checkpoint.
    """
    found = _over(records, most_changed)
    if found:
        last = [record for record in records if record.found.get("neurons")][-1]
        found.append(TableBlock(neuron_table(last), folded=True))
    lenses = [record for record in records if record.found.get("lens")]
    return found + ([TableBlock(token_table(lenses[-1]))] if lenses else [])


def _over(records: Sequence[ProbeRecord], make: Callable[[ProbeRecord], View]) -> list[Block]:
    """Return a chart with a slider over the records from which `make` can make a view.

    The list is empty if there is no such record.
    """
    views, names = [], []
    for record in records:
        with suppress(NotDrawableError):
            views.append(make(record))
            names.append(record_name(record))
    return [chart(views[-1], views[:-1], names)] if views else []
