"""The page's section on models that `sumcirc compare` compared, with results of patching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sumcirc.reporting.page.blocks import Block, Page, RunBlocks, TableBlock, Words
from sumcirc.reporting.page.measures_section import head_charts, layer_charts, neuron_blocks
from sumcirc.reporting.page.plotly_charts import chart, charts, panel_charts
from sumcirc.reporting.views import compared_models
from sumcirc.reporting.views.lens_curves import COMPARED, lens_of_models
from sumcirc.reporting.views.mask_views import forgetting_view, mask_view
from sumcirc.reporting.views.model_tables import doubtful, metric_table, tables
from sumcirc.reporting.views.path_views import further_views, path_view
from sumcirc.tracking.run_records import RunRecords

LISTED = 12  # number of rows in a table
INTRO = (
    "What differs between two models, and which parts carry the difference: each part of one is"
    " moved into the other (cross-model activation patching). Scores are shares of the gap between"
    " the models: 1 closes it, 0 does nothing."
)


def add(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add the section with a variant for each tuned model that a run compared with its base.

    Args:
        page: page to which the section is added.
        runs: runs to show; runs of other subcommands than `sumcirc compare` are ignored.
    """
    variants = []
    for run in runs:
        for name, found in run.summary.get("after", {}).items():
            label = name if len(runs) == 1 else f"{run.name}: {name}"
            variants.append(RunBlocks(label, _blocks(run, name, found)))
    page.add("models", "Comparison of models", INTRO, variants)


def _blocks(run: RunRecords, name: str, found: Mapping[str, Any]) -> list[Block]:
    unit = run.summary["unit"]
    blocks: list[Block] = [
        Words(
            f"Before: {run.summary['before']}. After: {name}. {run.summary['items']} items,"
            f" measured by {run.summary['metric'].replace('_', ' ')} ({unit})."
        ),
        TableBlock(metric_table(found["metric"], unit)),
    ]
    if doubtful(found):
        blocks.append(
            Words(
                "The models don't differ reliably in the metric. Shares of the gap between them are"
                " left out where its interval includes zero, and say little elsewhere."
            )
        )
    records, before = run.compared(name)
    blocks += [*head_charts(records, before), *layer_charts(records), *neuron_blocks(records)]
    if found.get("logit_lens"):
        rows = found["logit_lens"]
        blocks += charts(*(partial(lens_of_models, rows, unit, [name]) for name in COMPARED))
    for direction, one in found.get("patching", {}).items():
        kinds = compared_models.KINDS
        blocks += charts(
            *(partial(compared_models.patch_map, direction, kind, one["parts"]) for kind in kinds),
            partial(compared_models.output_against_value, direction, one["parts"]),
        )
        if one.get("sets"):
            blocks.append(chart(compared_models.sets_of_parts(direction, one["sets"])))
    if found.get("surgery"):
        blocks += charts(partial(compared_models.scaled_deltas, found["surgery"]))
    if found.get("path"):
        blocks += panel_charts(partial(path_view, found["path"]))
        for _, view in further_views(found["path"]):
            blocks += panel_charts(view)
    if found.get("masks"):
        blocks += panel_charts(partial(mask_view, found["masks"]))
        if "retention" in found["masks"]:
            blocks += panel_charts(partial(forgetting_view, found["masks"]))
    return blocks + [TableBlock(table, folded=True) for table in tables(found, unit, LISTED)]
