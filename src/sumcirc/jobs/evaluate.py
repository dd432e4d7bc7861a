"""`sumcirc evaluate checkpoint=...`: scores the summaries of any model on the test documents.

The checkpoint is a run directory, an adapter, a model folder or a hub id. The baselines lead,
random and oracle are scored on the same documents. With `evaluation.retention`, the model and the
one it was trained from are also measured on other texts; `evaluation.summaries=false` does only
that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.schema import EvaluateConfig

if TYPE_CHECKING:
    from torch import nn

    from sumcirc.models.model_reference import ModelReference
    from sumcirc.tracking.run_directory import RunDirectory


def check(config: EvaluateConfig) -> None:
    """Check the settings before the job starts, so that it doesn't fail later.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    from sumcirc.data.documents import check_files
    from sumcirc.evaluation.model_scores import check_model_scores
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.jobs._retention import check_retention
    from sumcirc.models.restoring import check_reference, reference_of
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.machine import check_machine

    check_writable("cache_dir", config.cache_dir)
    check_machine(config.trainer)
    if config.evaluation.summaries:
        check_files(config.data, ("test",))
    check_reference(reference_of(config))
    check_retention(config)
    check_encoding(config.model, config.encoding)
    if config.evaluation.summaries:
        check_model_scores(config.evaluation)


def run(config: EvaluateConfig, folder: Path) -> None:
    """Evaluate the model, and write the scores to the run directory.

    Args:
        config: configuration of the job.
        folder: the run directory.
    """
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "evaluate", check, _evaluate)


def _evaluate(config: EvaluateConfig, directory: RunDirectory) -> None:
    from sumcirc.data.encoding import Encoder
    from sumcirc.evaluation.results import Scoreboard
    from sumcirc.evaluation.summaries import check_room
    from sumcirc.jobs._conclude import conclude
    from sumcirc.jobs._retention import measure_retention, read_retention
    from sumcirc.models.architectures import context_length
    from sumcirc.models.gguf_files import dequantization
    from sumcirc.models.loading import load_tokenizer
    from sumcirc.models.peft_adapters import virtual_tokens
    from sumcirc.models.restoring import load_reference, reference_of
    from sumcirc.runtime.notices import Notices
    from sumcirc.tracking.score_names import BASE, TRAINED
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import wandb_job
    from sumcirc.training.machine import device, set_threads

    clock, notices, board = Clock(), Notices(), None
    set_threads(config.trainer)
    reference = reference_of(config)
    model = load_reference(reference)
    tokenizer = load_tokenizer(config.model)
    context = context_length(model.config) - virtual_tokens(model)
    encoder = Encoder(tokenizer, config.encoding, context)
    place: Any = device(config.trainer)
    if config.evaluation.summaries:
        check_room(encoder, config.generation)
        board = Scoreboard(config, encoder, Path(config.cache_dir), notices, place)
        board.inspect({})
    texts = read_retention(config, encoder, notices)
    system = TRAINED if config.checkpoint else BASE
    with wandb_job(config, directory, "evaluate", config.data.name) as wandb_logger:
        model.to(place)
        if board is not None:
            with clock.phase("evaluate"):
                board.add_baselines()
                board.add(system, model)
        load = None if reference.base == reference else _base_of(reference, place)
        measured = {}
        if texts:
            with clock.phase("retention"):
                measured = measure_retention(config, directory, texts, model, load, system)
        facts = {"seconds": clock.seconds, "notices": notices.as_json(), **measured}
        facts |= dequantization(model.config)
        conclude(directory, config, board, facts, wandb_logger)


def _base_of(reference: ModelReference, place: Any) -> Callable[[], nn.Module]:
    from sumcirc.models.restoring import load_reference

    return lambda: load_reference(reference.base).to(place)
