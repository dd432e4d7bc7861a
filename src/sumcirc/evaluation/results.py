"""Results of a run: every system scored on the same documents; summary.json and documents.parquet.

A system is anything that writes summaries: a baseline, the base model, the trained model. Reading
results needs neither torch nor transformers: tables and figures are views of the files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.data.documents import Corpus, read_corpus
from sumcirc.data.inspection import seen_before
from sumcirc.data.word_tokenizers import ASCII
from sumcirc.evaluation.baselines import tokenizer_of
from sumcirc.evaluation.score_table import Row, print_table
from sumcirc.evaluation.scoring import (
    Evaluation,
    evaluate_baselines,
    evaluate_summaries,
    unscorable,
    whole_documents,
)
from sumcirc.runtime.notices import Notice, Notices, few, lines_of_runs, print_lines
from sumcirc.runtime.progress import counted
from sumcirc.runtime.quoting import command
from sumcirc.runtime.terminal import say
from sumcirc.schema import JobConfig, Source
from sumcirc.statistics import Interval, bootstrap_mean
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import write_json, write_table
from sumcirc.tracking.measure_records import MEASURES, ProbeRecord, record_files
from sumcirc.tracking.run_directory import RunDirectory, runs_inside
from sumcirc.tracking.run_records import RunRecords

if TYPE_CHECKING:
    from sumcirc.data.encoding import Encoder

log = logging.getLogger(__name__)

FACTS = ("facts", "fact_who", "fact_where", "fact_when", "fact_how_many")
BASE = "base"  # the model before training
TRAINED = "trained"  # the system trained by this run; its table row carries the run's name


class Scoreboard:
    """Scores of all systems (baselines, base model, trained model) on a run's test documents.

    Args:
        config: configuration of the run.
        encoder: encodes prompts for the models.
        cache: `cache_dir`, where summaries of a base model are kept.
        notices: collects notices about the test documents and summaries.

    Raises:
        UserError: as in `read_corpus`.
    """

    def __init__(
        self, config: JobConfig, encoder: Encoder, cache: Path, notices: Notices | None = None
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.cache = cache
        self.notices = Notices() if notices is None else notices
        self.corpus = read_corpus(config.data, "test")
        self.notices.tell(*self.corpus.notices)
        self.tokenizer = tokenizer_of(self.corpus.documents, config.evaluation)
        self.systems: dict[str, Evaluation] = {}

    def inspect(self, corpora: Mapping[str, Corpus]) -> None:
        """Add notices about test documents that other splits contain, that are cut or too short.

        Args:
            corpora: the other splits by name.
        """
        from sumcirc.evaluation.summaries import prompts_of

        documents, generation = self.corpus.documents, self.config.generation
        for split, corpus in corpora.items():
            self.notices.tell(seen_before("data.test", documents, corpus, f"data.{split}"))
        cut = sum(prompt.cut for prompt in prompts_of(self.encoder, documents, generation))
        words = (
            "documents are cut to what generation.max_new_tokens="
            f"{generation.max_new_tokens} leaves of the context of {self.encoder.max_length}"
            " tokens; lead, random and oracle read all of them"
        )
        self.notices.tell(
            Notice("data.test", "cut", cut, len(documents), words),
            self.encoder.special_notice("data.test", documents),
            whole_documents(documents, self.config.evaluation),
            unscorable(documents, self.tokenizer),
            few("data.test", "documents", len(documents)),
        )

    def add_baselines(self) -> None:
        """Score the lead, random and oracle baselines."""
        documents, config = self.corpus.documents, self.config.evaluation
        for name, evaluation in evaluate_baselines(
            documents, config, self.config.data.seed
        ).items():
            self.systems[name] = self._with_facts(evaluation)

    def add(self, name: str, model: Any, once: bool = False) -> None:
        """Score a model's summaries of the test documents.

        Args:
            name: name of the system.
            model: a transformers decoder or a PEFT model around one.
            once: keep the summaries in the cache for later runs.
        """
        from sumcirc.evaluation.summaries import summarize, summarize_once

        documents, generation = self.corpus.documents, self.config.generation
        with counted(f"summarize with {name}", len(documents)) as advance:
            if once:
                predictions = summarize_once(
                    model, self.encoder, documents, generation, self.cache, advance
                )
            else:
                predictions = summarize(model, self.encoder, documents, generation, advance)
        empty = sum(not prediction for prediction in predictions)
        self.notices.tell(
            Notice(f"summaries of {name}", "empty", empty, len(documents), "are empty")
        )
        evaluation = evaluate_summaries(documents, predictions, self.config.evaluation, name)
        self.systems[name] = self._with_facts(evaluation)

    def _with_facts(self, evaluation: Evaluation) -> Evaluation:
        """Add the share of key facts found in each summary, where the data knows the facts."""
        if self.config.data.source is not Source.wire:
            return evaluation
        from sumcirc.wire import article_of, facts_found

        for record in evaluation.records:
            found = facts_found(
                article_of(record["id"], self.config.data.seed), record["prediction"]
            )
            record |= {f"fact_{role}": float(is_there) for role, is_there in found.items()}
            record["facts"] = sum(found.values()) / len(found)
        return replace(evaluation, measures=(*evaluation.measures, *FACTS))

    def samples(self, count: int) -> list[dict[str, str]]:
        """Return the first `count` test documents with their reference and model summaries."""
        models = [name for name in self.systems if name in (BASE, TRAINED)]
        return [
            {
                "id": item.id,
                "document": item.document,
                "reference": item.references[0],
                **{name: self.systems[name].records[i]["prediction"] for name in models},
            }
            for i, item in enumerate(self.corpus.documents[:count])
        ]


def conclude(
    directory: RunDirectory,
    config: JobConfig,
    board: Scoreboard | None,
    facts: Mapping[str, Any],
    wandb_logger: Any,
    trained: Path | None = None,
) -> None:
    """Write records, summary and figures, log them, and print the table.

    Args:
        directory: of the run.
        config: configuration of the run.
        board: the scores; None where nothing was scored.
        facts: final values of the run, merged into summary.json.
        wandb_logger: None without Weights & Biases.
        trained: folder of the trained model or adapter, logged as an artifact.
    """
    from sumcirc.figures.probes import draw_all
    from sumcirc.figures.training import draw_loss, draw_scores
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
    if board and systems:
        records = (record for evaluation in systems.values() for record in evaluation.records)
        write_table(directory.documents_file, records)
        # documents.parquet has no texts of documents, which may be many and long
        write_json(directory.samples_file, board.samples(config.logger.samples))
        draw_scores(scores, directory.figures / "scores.png")
    if directory.metrics.path.exists():
        draw_loss(directory.metrics.path, directory.figures / "loss.png")
    if record_files(directory.probes):
        summary["probes"] = last_probe(directory, config)
        for reason in draw_all(directory.probes, directory.figures):
            log.info("figures: %s", reason)
    directory.write_summary(summary)
    if wandb_logger is not None:
        wandb.log_results(
            wandb_logger, summary, board.samples(config.logger.samples) if board else []
        )
        wandb.log_figures(wandb_logger, directory.figures)
        if wandb.wants_artifact(config.logger):
            if trained is not None:
                wandb.log_folder(wandb_logger, config.run.name, "model", trained)
            if directory.circuits.is_dir():
                name = f"{config.run.name}-circuits"
                wandb.log_folder(wandb_logger, name, "circuit", directory.circuits)
    if systems:
        print_table(rows(summary, config.run.name))
    print_lines(summary.get("notices", []))
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")
    say(f"to write a page of this run: {command('report', str(directory.path))}")


def last_probe(directory: RunDirectory, config: JobConfig) -> dict[str, Any]:
    """Return the mean of every measure at the last measured step, with an interval over documents.

    Args:
        directory: of the run.
        config: number of resamples and confidence of the intervals.

    Returns:
        `step`, `documents` (their number), and mean, low, high and n by measure.
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


def intervals(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Interval]:
    """Convert the scores of one system in summary.json to intervals by measure."""
    return {measure: interval(value) for measure, value in scores.items()}


def interval(record: Mapping[str, Any]) -> Interval:
    """Convert an interval of summary.json."""
    return Interval(record["mean"], record["low"], record["high"], record["n"])


def rouge_words(summary: Mapping[str, Any]) -> str:
    """Return a description of what ROUGE counted as a word.

    Summaries without this entry were made when rouge-score's own tokenizer was the only choice.
    """
    return summary["rouge"]["words"] if "rouge" in summary else ASCII.label


def rows(summary: Mapping[str, Any], label: str) -> list[Row]:
    """Return the rows of the comparison table: baselines and base first, the trained model last.

    Args:
        summary: contents of summary.json.
        label: name of the trained model's row.
    """
    found = []
    for name, scores in summary["systems"].items():
        trained = name == TRAINED
        found.append(
            Row.from_summary(
                label if trained else name,
                intervals(scores),
                summary.get("trainable_parameters") if trained else None,
                summary.get("seconds", {}).get("train") if trained else None,
                rouge_words(summary),
            )
        )
    return found


def sweep_rows(folder: Path) -> list[list[Row]]:
    """Return the finished runs of a sweep side by side, one table per set of scored documents.

    Systems that several runs share appear once: the baselines, and the base of each model. Where a
    shared system scored differently (because the sweep varies the decoding, for example), its row
    names the run. A run whose summary is damaged is left out; the table of run states lists it.
    """
    found: dict[tuple[str | None, str], list[tuple[str, dict[str, Any]]]] = {}
    for path in runs_inside(folder) if folder.is_dir() else []:
        run = RunRecords(path)
        try:
            if run.systems:
                key = run.summary["items"], rouge_words(run.summary)
                found.setdefault(key, []).append((run.name, run.summary))
        except RecordError:
            continue
    tables = []
    for runs in found.values():
        several = len({summary.get("model") for _, summary in runs}) > 1
        shared: dict[str, Row] = {}
        own: list[Row] = []
        for label, summary in runs:
            for row in rows(summary, label):
                if row.system == label:
                    own.append(row)
                    continue
                if row.system == BASE and several:
                    row = replace(row, system=f"{BASE} {summary['model']}")
                if shared.setdefault(row.system, row).scores != row.scores:
                    name = f"{row.system} of {label}"
                    shared[name] = replace(row, system=name)
        tables.append([*shared.values(), *own])
    return tables


def sweep_notices(folder: Path) -> list[str]:
    """Return the notices of a sweep's finished runs, without repetitions."""
    summaries = []
    for path in runs_inside(folder) if folder.is_dir() else []:
        try:
            summaries.append(RunRecords(path).summary)
        except RecordError:
            continue
    return lines_of_runs([summary for summary in summaries if summary])
