"""The page's sections on summary quality and on training: scores of systems, logged curves."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial

from sumcirc.reporting.page.blocks import Block, Gap, Page, TableBlock, Words, each
from sumcirc.reporting.page.plotly_charts import chart, charts
from sumcirc.reporting.views.other_texts import EXPLANATION, retention_table
from sumcirc.reporting.views.system_scores import (
    faithfulness_table,
    run_rows,
    score_bars,
    score_table,
)
from sumcirc.reporting.views.training_curves import LOSS, OTHERS, over_steps
from sumcirc.tracking.measure_records import VALIDATION_LOSS
from sumcirc.tracking.run_records import RunRecords

SCORES = (
    "ROUGE F1 times 100, with the bootstrap interval over documents in brackets. All systems are"
    " scored on the same documents. Base: the model before training; lead and random: sentences"
    " taken from the document; oracle: the sentences of the document that match the reference best"
    " (what copying sentences could reach). Facts, if the data knows them: the share of a"
    " document's key facts (who, where, when, how many) that the summary has right."
)
FAITHFUL = (
    "Entities supported: the share of a summary's names, numbers and dates that its document"
    " states; entities recalled: the share of the reference's that the summary states. Rules find"
    " them, without a model; documents without any are left out. Not ended: no end token before"
    " generation.max_new_tokens; copied whole: every sentence is in the document as it stands."
    " Wrong facts, if the data knows them: the share of the facts of the article's other event"
    " that the summary states."
)
RETENTION = f"What training made a model forget (`evaluation.retention`). {EXPLANATION}"
TRAINING = "Curves over optimizer steps. Click a name in a legend to hide its curve."


def add_scores(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add the section with a table and a chart of scores for each run whose summaries were scored.

    A second section says how well models predict other texts, for the runs that measured it.
    Trained runs without scores are added to the page's gaps.

    Args:
        page: page to which the section is added.
        runs: runs to show.
    """
    scored = [run for run in runs if run.systems]
    page.add("scores", "Summary quality", SCORES, each(scored, _scores))
    measured = [run for run in runs if run.summary.get("retention")]
    page.add("retention", "Other texts", RETENTION, each(measured, _retention))
    for run in runs:
        if run.trains and run.done and not run.systems:
            command = f"sumcirc evaluate checkpoint={shlex.quote(str(run.path))}"
            page.gaps.append(Gap(f"{run.name}: its summaries were not scored", command))


def _scores(run: RunRecords) -> list[Block]:
    rows = run_rows(run.summary, run.name)
    title = f"F1 x 100 on {rows[0].scores['rouge1_f1'].n} documents"
    words = Words(f"ROUGE counts {rows[0].words}.")
    blocks: list[Block] = [TableBlock(score_table(rows, title)), words, chart(score_bars(rows))]
    faithful = faithfulness_table(rows, "Entities and degenerate summaries, %")
    if faithful is None:
        return blocks
    scorers = [Words(f"{scorer[0].upper()}{scorer[1:]}.") for scorer in rows[0].scorers]
    return [*blocks, TableBlock(faithful), Words(FAITHFUL), *scorers]


def _retention(run: RunRecords) -> list[Block]:
    table = retention_table(run.summary, run.name, "Other texts, before and after training")
    assert table is not None
    return [TableBlock(table)]


def add_training(page: Page, runs: Sequence[RunRecords]) -> None:
    """Add the section with curves of the loss and other metrics that were logged in training.

    Args:
        page: page to which the section is added.
        runs: runs to show; runs that trained nothing are ignored.
    """
    trained = [run for run in runs if run.trains and run.metrics]
    page.add("training", "Training", TRAINING, each(trained, _curves))
    for run in runs:
        if run.trains and run.metrics and VALIDATION_LOSS not in run.metrics:
            why = "it has no validation data, or validated at no step"
            page.gaps.append(Gap(f"{run.name}: no validation loss: {why}"))


def _curves(run: RunRecords) -> list[Block]:
    return charts(*(partial(over_steps, run.metrics, one) for one in (LOSS, *OTHERS)))
