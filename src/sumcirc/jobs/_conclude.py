"""Ends training and evaluation: writes records, summary and figures, and prints the scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.reporting.tables import print_tables
from sumcirc.reporting.views.all_measures import measure_views
from sumcirc.reporting.views.other_texts import retention_table
from sumcirc.reporting.views.system_scores import print_scores, run_rows, score_bars
from sumcirc.reporting.views.training_curves import LOSS, over_steps
from sumcirc.runtime.notices import print_lines
from sumcirc.runtime.quoting import command
from sumcirc.runtime.terminal import say
from sumcirc.schema import JobConfig
from sumcirc.statistics import bootstrap_mean
from sumcirc.storage.writing import write_json, write_table
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord, record_files
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.run_records import RunRecords

if TYPE_CHECKING:
    from sumcirc.evaluation.results import Scoreboard
    from sumcirc.reporting.kinds import View

log = logging.getLogger(__name__)


def conclude(
    directory: RunDirectory,
    config: JobConfig,
    board: Scoreboard | None,
    facts: Mapping[str, Any],
    wandb_logger: Any,
    trained: Path | None = None,
) -> None:
    """Write records, summary and figures, log them, and print the table of scores.

    Args:
        directory: the run directory.
        config: configuration of the run.
        board: scores of all systems; None if nothing was scored.
        facts: additional values for summary.json.
        wandb_logger: the run's W&B logger; None if nothing is logged.
        trained: folder of the trained model, which is logged as a W&B artifact; None to log none.
    """
    from sumcirc.figures.views import draw_all
    from sumcirc.tracking import wandb

    systems = board.systems if board else {}
    scores = {
        name: {measure: asdict(interval) for measure, interval in evaluation.summary().items()}
        for name, evaluation in systems.items()
    }
    items = board.corpus.fingerprint if board else None
    summary = {**facts, "model": config.model.name, "items": items, "systems": scores}
    if board:
        summary["rouge"] = {"tokenizer": board.tokenizer.name, "words": board.tokenizer.label}
        if board.model_scores:
            summary["scoring_models"] = {
                name: one.record for name, one in board.model_scores.items()
            }
    if board and systems:
        records = (record for evaluation in systems.values() for record in evaluation.records)
        write_table(directory.documents_file, records)
        # documents.parquet has no document texts, which may be many and long
        write_json(directory.samples_file, board.samples(config.logger.samples))
    found = run_rows(summary, config.run.name)
    views: list[tuple[str, Callable[[], View]]] = []
    views += [("scores", partial(score_bars, found))] if found else []
    metrics = RunRecords(directory.path).metrics
    views += [("loss", partial(over_steps, metrics, LOSS))] if metrics else []
    if record_files(directory.probes):
        summary["probes"] = last_probe(directory, config)
        makers, skipped = measure_views(directory.probes)
        views += makers
        for reason in skipped:
            log.info("figures: %s", reason)
    for reason in draw_all(views, directory.figures):
        log.info("figures: %s", reason)
    directory.write_summary(summary)
    if wandb_logger is not None:
        wandb.log_results(
            wandb_logger, summary, board.samples(config.logger.samples) if board else []
        )
        wandb.log_figures(wandb_logger, directory.figures, summary.get("steps"))
        if wandb.wants_artifact(config.logger):
            if trained is not None:
                wandb.log_folder(wandb_logger, config.run.name, "model", trained)
            if directory.circuits.is_dir():
                name = f"{config.run.name}-circuits"
                wandb.log_folder(wandb_logger, name, "circuit", directory.circuits)
    if found:
        print_scores(found)
    forgotten = retention_table(summary, config.run.name, "other texts: what the model forgets")
    if forgotten is not None:
        print_tables(forgotten)
    print_lines(summary.get("notices", []))
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")
    say(f"for a page about this run: {command('report', str(directory.path))}")


def last_probe(directory: RunDirectory, config: JobConfig) -> dict[str, Any]:
    """Return the mean over documents of each measure at the last measured step, with an interval.

    Args:
        directory: the run directory.
        config: configuration of the run, of which the settings of the bootstrap are used.
    """
    record = ProbeRecord.read(record_files(directory.probes)[-1])
    found: dict[str, Any] = {"step": record.step, "documents": len(record.documents)}
    options = config.evaluation
    for name, values in sorted(record.values.items()):
        if MEASURES[name].axes[-1] != "document":
            continue
        by_document = values.reshape(-1, values.shape[-1]).mean(0, dtype=np.float64)
        defined = by_document[np.isfinite(by_document)]
        if len(defined):
            interval = bootstrap_mean(defined, options.bootstrap, options.confidence)
            found[name] = asdict(interval)
    return found
