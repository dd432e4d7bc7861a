"""`sumcirc compare`: finds what fine-tuning changed, and whether patching it changes behaviour.

The base model and the tuned models can be hub ids, folders, adapters or run directories. Only one
model is in memory at a time. Activations of the other model are on disk.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say
from sumcirc.schema import Analysis, CompareConfig

if TYPE_CHECKING:
    from sumcirc.compare.findings import Findings
    from sumcirc.compare.result_files import ResultFiles
    from sumcirc.models.model_reference import ModelReference
    from sumcirc.tracking.measure_records import ProbeRecord
    from sumcirc.tracking.run_directory import RunDirectory


log = logging.getLogger(__name__)


def check(config: CompareConfig) -> None:
    """Check the settings before the job starts, so that it doesn't fail later.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    from sumcirc.compare.config_check import check_settings, scales
    from sumcirc.compare.deltas.adapter_deltas import check_delta_scaling, check_path
    from sumcirc.compare.inputs import check_places, check_texts
    from sumcirc.compare.items.prompts import read_prompts
    from sumcirc.compare.masks.learned_masks import check_counts
    from sumcirc.compare.patching.components import Component
    from sumcirc.data.documents import check_files
    from sumcirc.data.encoding import Encoder
    from sumcirc.errors import UserError
    from sumcirc.jobs._checkpoints import check_trajectory
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.models.architectures import context_length, shape
    from sumcirc.models.loading import load_tokenizer, read_model_config
    from sumcirc.models.model_pairs import check_pair
    from sumcirc.schema import FACTS, REPHRASE, Source
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.machine import check_machine

    check_writable("cache_dir", config.cache_dir)
    check_machine(config.trainer)
    before, afters = _sides(config)
    check_pair(before, afters)
    check_encoding(config.model, config.encoding)
    if Analysis.masks in config.compare.analyses:
        check_counts(config.compare.items)
    for side in afters:
        if scales(config.compare.analyses):
            scaled = Analysis.delta_scaling in config.compare.analyses
            check_delta_scaling(before, side, config.compare.lambdas if scaled else ())
        if not {Analysis.path, Analysis.masks}.isdisjoint(config.compare.analyses):
            check_path(side)
        if config.compare.follows:
            check_trajectory(before, side)
        check_settings(before, side, config.compare.analyses)
    model_config = read_model_config(config.model)
    for one in config.compare.sets:
        for name in one:
            Component.parse(name, shape(model_config), "compare.sets")
    if config.compare.text is not None:
        check_texts(config.compare.text)
    if config.prompts == FACTS and config.data.source is not Source.wire:
        raise UserError(
            "prompts=facts: is made from the built-in wire, whose facts are known; use data=wire or"
            " prompts=FILE.jsonl"
        )
    own = []
    if config.prompts is None or config.prompts == FACTS:
        check_files(config.data, ("test",))
    elif config.prompts != REPHRASE:
        tokenizer = load_tokenizer(config.model)
        encoder = Encoder(tokenizer, config.encoding, context_length(model_config))
        own = read_prompts(config.prompts, encoder)
    check_places(config, own)


def run(config: CompareConfig, folder: Path) -> None:
    """Compare the models and write the results to the run directory.

    Args:
        config: configuration of the job.
        folder: the run directory.
    """
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "compare", check, _compare)


def _sides(config: CompareConfig) -> tuple[ModelReference, list[ModelReference]]:
    from sumcirc.models.model_reference import reference
    from sumcirc.models.restoring import before_of

    before = before_of(config)
    # all models are run with one implementation of attention
    afters = [
        replace(side, model=replace(side.model, attention=config.model.attention))
        for side in (reference(name, "after") for name in config.afters)
    ]
    names = [before.name, *(side.name for side in afters)]
    if len(set(names)) < len(names):
        # run directories of two sweeps may have the same name
        afters = [replace(side, name=f"{side.name}-{i + 1}") for i, side in enumerate(afters)]
    return before, afters


def _compare(config: CompareConfig, directory: RunDirectory) -> None:
    from sumcirc.compare.config_check import tell_settings
    from sumcirc.compare.inputs import material
    from sumcirc.compare.result_files import ResultFiles
    from sumcirc.compare.run import ModelComparison, positions_of
    from sumcirc.data.encoding import Encoder
    from sumcirc.jobs._checkpoints import trajectory_of
    from sumcirc.models.architectures import context_length, shape
    from sumcirc.models.loading import load_tokenizer, read_model_config
    from sumcirc.models.model_pairs import Models
    from sumcirc.runtime.notices import Notices, few
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import log_compared, wandb_job
    from sumcirc.training.machine import device, set_threads

    clock = Clock()
    set_threads(config.trainer)
    before, afters = _sides(config)
    model_config = read_model_config(config.model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model_config))
    with clock.phase("data"):
        texts = material(config, encoder)
        notices = Notices()
        notices.tell(*texts.notices, few("compare.items", "items", len(texts.items)))
    for side in afters:
        tell_settings(before, side, config.compare.analyses, len(texts.longest))
    about = {
        "before": before.name,
        "metric": texts.items.metric,
        "unit": texts.items.unit,
        "items": len(texts.items),
        "dropped": texts.dropped,
        "notices": notices.as_json(),
        "positions": positions_of(config.compare, texts.items),
        "seconds": clock.seconds,
    }
    files = ResultFiles(directory, shape(model_config), about)
    what = config.prompts if config.prompts is None else Path(config.prompts).stem
    with (
        wandb_job(config, directory, "compare", what or config.data.name) as wandb_logger,
        TemporaryDirectory(prefix=".states-", dir=directory.path) as scratch,
    ):
        with clock.phase("compare"):
            models = Models(device(config.trainer), texts.longest)
            follows = config.compare.follows
            states = {one.name: trajectory_of(one) for one in afters} if follows else {}
            job = ModelComparison(config, texts, encoder, models, Path(scratch), files, states)
            found, pairs = job.run(before, afters)
        with clock.phase("write"):
            _draw(found, pairs, files, texts.items.unit)
        summary = files.write_summary()
        if wandb_logger is not None:
            log_compared(wandb_logger, summary, directory.figures)
    print_comparison(summary)
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")


def _draw(
    found: dict[str, Findings], pairs: dict[str, ProbeRecord], files: ResultFiles, unit: str
) -> None:
    """Draw the figures of all results that were written."""
    from sumcirc.compare.pair_figures import draw_pair, draw_pairs

    figures = files.directory.figures
    for name, one in found.items():
        folder = figures if len(found) == 1 else figures / name
        for reason in draw_pair(one, files.after[name], files.folder(name), folder, unit):
            log.info("figures: %s", reason)
    if pairs:
        draw_pairs(pairs, figures)


def print_comparison(summary: dict[str, Any]) -> None:
    """Print tables of how each tuned model differs from the base model.

    Args:
        summary: the content of the run's summary.json.
    """
    from sumcirc.reporting.tables import interval_column, print_tables
    from sumcirc.reporting.views.model_tables import SIDES, doubtful, same, tables
    from sumcirc.runtime.notices import print_lines
    from sumcirc.runtime.terminal import paragraph

    for name, one in summary["after"].items():
        before, after, difference = interval_column([one["metric"][key] for key in SIDES])
        paragraph(
            f"\n{summary['before']} and {name}: {summary['metric']} of {summary['items']} items"
            f" ({summary['unit']}): before {before}, after {after}, difference {difference}"
        )
        if same(one["metric"]):
            paragraph(
                "the models give the same results on these items up to rounding, so shares of"
                " their gap are undefined"
            )
        else:
            if doubtful(one):
                paragraph(
                    "the models don't differ reliably in the metric, so shares of their gap say"
                    f" little; effects are given in {summary['unit']}"
                )
            print_tables(*tables(one, summary["unit"]))
        for name in ("path", "masks"):
            if "left_out" in one.get(name, {}):
                paragraph(one[name]["left_out"])
    print_lines(summary["notices"])
