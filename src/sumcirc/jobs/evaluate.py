"""`sumcirc evaluate checkpoint=...`: scores the summaries of any model on the test documents.

The checkpoint is a run directory, an adapter, a model folder or a hub id. The baselines lead,
random and oracle are scored on the same documents.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sumcirc.schema import EvaluateConfig

if TYPE_CHECKING:
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
    from sumcirc.models.restoring import check_reference, reference_of
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.trainer import check_machine

    check_writable("cache_dir", config.cache_dir)
    check_machine(config.trainer)
    check_files(config.data, ("test",))
    check_reference(reference_of(config))
    check_encoding(config.model, config.encoding)
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
    from sumcirc.models.architectures import context_length
    from sumcirc.models.gguf_files import dequantization
    from sumcirc.models.loading import load_tokenizer
    from sumcirc.models.peft_adapters import virtual_tokens
    from sumcirc.models.restoring import load_reference, reference_of
    from sumcirc.tracking.score_names import BASE, TRAINED
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import wandb_job
    from sumcirc.training.trainer import device, set_threads

    clock = Clock()
    set_threads(config.trainer)
    model = load_reference(reference_of(config))
    tokenizer = load_tokenizer(config.model)
    context = context_length(model.config) - virtual_tokens(model)
    encoder = Encoder(tokenizer, config.encoding, context)
    check_room(encoder, config.generation)
    place = device(config.trainer)
    board = Scoreboard(config, encoder, Path(config.cache_dir), device=place)
    board.inspect({})
    with wandb_job(config, directory, "evaluate", config.data.name) as wandb_logger:
        with clock.phase("evaluate"):
            board.add_baselines()
            model.to(place)  # type: ignore[arg-type]
            board.add(TRAINED if config.checkpoint else BASE, model)
        facts = {"seconds": clock.seconds, "notices": board.notices.as_json()}
        facts |= dequantization(model.config)
        conclude(directory, config, board, facts, wandb_logger)
