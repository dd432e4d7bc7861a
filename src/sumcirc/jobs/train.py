"""`sumcirc train`: fine-tunes a model to summarize and scores it.

The job first checks what can be checked without weights and reads the data. It scores the
untrained base model, selects the layers that get adapters, trains, saves the model, and scores it.
All results are written to a run directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import say
from sumcirc.schema import TrainConfig

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import WandbLogger
    from torch import nn

    from sumcirc.jobs._training_inputs import Inputs
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import Clock
    from sumcirc.training.extension import Extended
    from sumcirc.training.module import SummarizationModule


def check(config: TrainConfig) -> None:
    """Check the files, the model, the adapter's targets and the devices before the job starts.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    if config.resume:
        _extension_of(config)  # the run's own configuration is used instead
        return
    if config.trainer.extension is not None:
        raise UserError(
            f"trainer.extension={config.trainer.extension.name}: is for adding steps to a finished"
            " run with resume=RUN trainer.max_steps=N; leave it out"
        )
    _check_settings(config)


def check_together(configs: Sequence[TrainConfig]) -> None:
    """Check what the jobs of a sweep have to have in common, before the first one starts.

    Args:
        configs: configurations of all jobs.

    Raises:
        UserError: `sweep.same_budget` is set, and a job can't use the budget.
    """
    if not configs or not configs[0].sweep.same_budget or configs[0].resume:
        return
    from sumcirc.models.architectures import architecture
    from sumcirc.models.loading import check_model, read_model_config
    from sumcirc.selection.same_budget import check_same_budget

    models = {config.model.path: config.model for config in configs}
    for path, model in models.items():
        check_model(model)
        model_config = read_model_config(model)
        architecture(model_config)
        check_same_budget([one for one in configs if one.model.path == path], model_config)


def _check_settings(config: TrainConfig) -> None:
    from sumcirc.data.documents import SPLITS, check_files
    from sumcirc.data.plain_texts import TextFiles, check_texts
    from sumcirc.evaluation.model_scores import check_model_scores
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.jobs._export import check_export
    from sumcirc.models.architectures import architecture
    from sumcirc.models.loading import check_model, read_model_config
    from sumcirc.selection.choosing import check_selection
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.fresh_adapters import check_start
    from sumcirc.training.trainer import check_trainer

    check_writable("cache_dir", config.cache_dir)
    check_trainer(config)
    check_files(config.data, SPLITS if config.evaluation.scores else SPLITS[:2])
    check_texts(TextFiles.of_retention(config.evaluation))
    if config.kl_penalty.is_on:
        check_texts(TextFiles.of_kl_penalty(config.kl_penalty))
    if "circuit_tracker" in config.callbacks.watch:
        config.callbacks.circuit.corruption_of(config.data.source, "callbacks.circuit.")
    check_model(config.model)
    check_encoding(config.model, config.encoding)
    model_config = read_model_config(config.model)
    architecture(model_config)
    check_selection(config, model_config)
    check_start(config)
    check_export(config)
    if config.evaluation.scores:
        check_model_scores(config.evaluation)


def run(config: TrainConfig, folder: Path) -> None:
    """Train in a new run directory, or continue the run that `config.resume` names.

    Args:
        config: configuration of the job.
        folder: the new run directory.
    """
    from sumcirc.runtime.processes import is_main_process
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import plain, running, stored_config

    directory = RunDirectory(folder)
    resumed, added = config.resume is not None, None
    if config.resume:
        directory, added = RunDirectory.open(config.resume), _extension_of(config)
        config = stored_config(directory, TrainConfig)
    if not is_main_process():
        _train(config, directory)
        return
    if not resumed:
        RunDirectory.create(folder, "train", plain(config))
    elif directory.status()["state"] == "done" and added is None:
        say(f"{directory.path}: is done, so there is nothing to resume")
        return
    with running(directory):
        if resumed:
            if others := directory.other_versions():
                say(f"{directory.path}: continues with {', '.join(others)}; results may differ")
            directory.set_status("running", resumed=directory.status().get("resumed", 0) + 1)
        if added is not None:
            config = _extend(config, directory, added)
        _check_settings(config)
        _train(config, directory)


def _extension_of(config: TrainConfig) -> Extended | None:
    """Return the steps that a command adds to a finished run, or None if it only resumes the run.

    The result is None in all processes but the first, which find the extended configuration.
    """
    from sumcirc.runtime.processes import is_main_process
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import stored_config
    from sumcirc.training.extension import planned

    assert config.resume is not None
    if not is_main_process():
        return None
    directory = RunDirectory.open(config.resume)
    return planned(directory, stored_config(directory, TrainConfig), config.trainer)


def _extend(config: TrainConfig, directory: RunDirectory, added: Extended) -> TrainConfig:
    """Record added steps, say what the result can be compared with, and return the settings."""
    from sumcirc.training.extension import equals_uninterrupted, record

    same = equals_uninterrupted(config, added)
    say(
        f"{directory.path}: goes on from step {added.start} to {added.end}, learning rate"
        f" {added.kind.name}; {'as' if same else 'not the same as'} an uninterrupted run of"
        f" {added.end} steps"
    )
    return record(directory, config, added)


def _train(config: TrainConfig, directory: RunDirectory) -> None:
    import pytorch_lightning as pl

    from sumcirc.callbacks.factory import make_watchers
    from sumcirc.figures.views import draw
    from sumcirc.jobs._conclude import conclude
    from sumcirc.jobs._export import export, score_rows
    from sumcirc.jobs._training_inputs import add_adapter, read_inputs
    from sumcirc.models.dropout import dropout_probabilities
    from sumcirc.models.gguf_files import dequantization
    from sumcirc.models.model_cards import write_card
    from sumcirc.models.saving import save_trained
    from sumcirc.reporting.views.layer_ranking import ranking as ranking_view
    from sumcirc.runtime.notices import lines
    from sumcirc.runtime.processes import distributed, is_main_process
    from sumcirc.tracking.score_names import BASE
    from sumcirc.tracking.session import Clock
    from sumcirc.training.cost import cost_of
    from sumcirc.training.extra_callbacks import make_extra
    from sumcirc.training.machine import device, set_threads
    from sumcirc.training.rank_allocation import parameters_left
    from sumcirc.training.trainer import fit

    clock = Clock()
    set_threads(config.trainer)
    pl.seed_everything(config.seed, verbose=False)
    inputs = read_inputs(config, directory, clock)
    model, data, board = inputs.model, inputs.data, inputs.board
    with _tracker(config, directory) as wandb_logger:
        if board is not None:
            with clock.phase("base"):
                board.add_baselines()
                if config.evaluation.base:
                    model.to(device(config.trainer))  # type: ignore[arg-type]
                    board.add(BASE, model, once=True)
        with clock.phase("probe base"):
            others = make_extra(config.callbacks.extra)
            if config.callbacks.watch or others:
                model.to(device(config.trainer))  # type: ignore[arg-type]
            watchers = make_watchers(config, model, inputs.encoder, data, directory, others)
            others = [callback for callback in others if callback not in watchers]
        adapted, ranking, facts = add_adapter(config, directory, inputs, clock, wandb_logger)
        with clock.phase("train"), distributed():
            trainer, module = fit(config, adapted, data, directory, wandb_logger, watchers, others)
            facts["cost"] = cost_of(trainer)
        facts |= dequantization(inputs.model.config)
        facts["model_dropout"] = dropout_probabilities(adapted)
        if (left := parameters_left(adapted)) is not None:
            facts["adapter"]["parameters_left"] = left
        if not is_main_process():
            return
        if watchers:
            clock.move("train", "probe", watchers[0].probing.seconds)
        facts |= _best(config, directory, trainer, module)
        notes = lines(data.notices.as_json())
        saved = save_trained(module.model, inputs.tokenizer, config, directory, notes)
        facts |= _scored(config, directory, inputs, module.model, clock)
        scores = score_rows(board)
        write_card(module.model, config, saved, notes, scores, saved.name)
        if ranking is not None:
            draw(ranking_view(asdict(ranking)), directory.figures / "selection.png")
        facts |= {"steps": trainer.global_step, "seconds": clock.seconds}
        facts["notices"] = data.notices.as_json()
        conclude(directory, config, board, facts, wandb_logger, saved)
    export(module.model, inputs.tokenizer, config, directory, notes, scores)


def _scored(
    config: TrainConfig, directory: RunDirectory, inputs: Inputs, model: nn.Module, clock: Clock
) -> dict[str, Any]:
    """Score the trained model's summaries, and measure it on other texts; return those values."""
    from sumcirc.jobs._retention import measure_retention
    from sumcirc.models.loading import load_model
    from sumcirc.tracking.score_names import TRAINED
    from sumcirc.training.machine import device

    place: Any = device(config.trainer)
    if inputs.board is not None or inputs.texts:
        model.to(place)  # Lightning leaves it on the CPU
    if inputs.board is not None:
        with clock.phase("evaluate"):
            inputs.board.add(TRAINED, model)
    if not inputs.texts:
        return {}

    def load() -> nn.Module:
        found: Any = load_model(config.model)
        return found.to(place)

    with clock.phase("retention"):
        return measure_retention(config, directory, inputs.texts, model, load, TRAINED)


def _best(
    config: TrainConfig,
    directory: RunDirectory,
    trainer: pl.Trainer,
    module: SummarizationModule,
) -> dict[str, Any]:
    """Load the best weights if they are asked for; return values for summary.json."""
    from sumcirc.training.best_checkpoint import outcome, restore_best

    facts = outcome(trainer)
    if config.trainer.load_best:
        step = restore_best(module, directory, config.trainer.monitors["keep_best"])
        facts["best"] |= {"step": step, "loaded": True}
        value = f"{facts['best']['metric']} {facts['best']['value']:.4g}"
        say(f"the weights of step {step} ({value}, the best) are saved and scored")
    return facts


def _tracker(
    config: TrainConfig, directory: RunDirectory
) -> AbstractContextManager[WandbLogger | None]:
    """Return a context that gives the run's W&B logger, or None in all processes but the first."""
    from sumcirc.runtime.processes import is_main_process
    from sumcirc.tracking.wandb import wandb_job

    if not is_main_process():
        return nullcontext()
    kind = config.adaptation.kind.value
    return wandb_job(config, directory, "train", config.data.name, kind)
