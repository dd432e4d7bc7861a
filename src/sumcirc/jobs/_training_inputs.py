"""What `sumcirc train` starts from: model, data, texts and adapters; also for a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.schema import Adaptation, TrainConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from pytorch_lightning.loggers import WandbLogger
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sumcirc.data.datamodule import SummarizationData
    from sumcirc.data.encoding import Encoder
    from sumcirc.data.plain_texts import PlainTexts
    from sumcirc.evaluation.results import Scoreboard
    from sumcirc.selection.ranking import Ranking
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import Clock


@dataclass
class Inputs:
    """What training starts from.

    `board` scores summaries. It is None if nothing is scored, and in all processes but the first.
    `texts` are those of `evaluation.retention`, by the name of their corpus.
    """

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    encoder: Encoder
    data: SummarizationData
    board: Scoreboard | None
    texts: Mapping[str, PlainTexts]


def read_inputs(config: TrainConfig, directory: RunDirectory, clock: Clock) -> Inputs:
    """Load tokenizer, model and data, and check that a resumed run has the data it began with.

    Args:
        config: configuration of the job.
        directory: the run directory, in whose status.json the data's hashes are stored.
        clock: measures the time.

    Raises:
        UserError: the model or the data can't be read, or the data has changed.
    """
    from sumcirc.data.datamodule import SummarizationData
    from sumcirc.data.encoding import Encoder
    from sumcirc.evaluation.results import Scoreboard
    from sumcirc.evaluation.summaries import check_room
    from sumcirc.jobs._retention import read_retention
    from sumcirc.models.architectures import context_length
    from sumcirc.models.loading import load_model, load_tokenizer
    from sumcirc.runtime.processes import is_main_process
    from sumcirc.training.machine import device

    cache = Path(config.cache_dir)
    with clock.phase("data"):
        tokenizer = load_tokenizer(config.model)
        model = load_model(config.model)
        encoder = Encoder(tokenizer, config.encoding, context_length(model.config))
        if config.evaluation.scores:
            check_room(encoder, config.generation)
        data = SummarizationData(config.data, config.trainer, encoder, cache, config.seed)
        data.read()
        data.read_texts(config.kl_penalty)
    board = None
    texts: Mapping[str, PlainTexts] = {}
    if config.evaluation.scores and is_main_process():
        place = device(config.trainer)
        board = Scoreboard(config, encoder, cache, data.notices, place)
        board.inspect(data.corpora)
    if is_main_process():
        corpora = {**data.corpora, **({"test": board.corpus} if board else {})}
        corpora |= {f"kl_penalty.{name}": one.corpus for name, one in data.texts.items()}
        directory.require_same_data({name: one.fingerprint for name, one in corpora.items()})
        texts = read_retention(config, encoder, data.notices, data.read_in_training)
    return Inputs(tokenizer, model, encoder, data, board, texts)


def add_adapter(
    config: TrainConfig,
    directory: RunDirectory,
    inputs: Inputs,
    clock: Clock,
    wandb_logger: WandbLogger | None,
) -> tuple[PreTrainedModel | PeftModel, Ranking | None, dict[str, Any]]:
    """Select layers if a selector is configured, and add the adapters to the model.

    Args:
        config: configuration of the job.
        directory: the run directory, which keeps the ranking and the adapter of step 0.
        inputs: the model, which is changed in place, and the data.
        clock: measures the time.
        wandb_logger: W&B's logger; None if it isn't used.

    Returns:
        The model to train, the selector's ranking (None without a selector), and values for
        summary.json.
    """
    from sumcirc.models.adapters import adapt, trainable_parameters
    from sumcirc.selection.choosing import adapter_facts
    from sumcirc.tracking.session import plain
    from sumcirc.tracking.sweep_axes import sweep_axes
    from sumcirc.tracking.wandb import log_settings
    from sumcirc.training.fresh_adapters import start

    model, data = inputs.model, inputs.data
    facts: dict[str, Any] = {"total_parameters": model.num_parameters()}
    ranking: Ranking | None = None
    if config.selector.name is not None:
        with clock.phase("select"):
            ranking = _selected(config, directory, model, inputs.encoder, data)
    if config.adaptation.kind is Adaptation.lora:
        facts |= adapter_facts(config.adaptation, model.config, ranking)
        adapted = start(config, model, data, ranking and ranking.targets, directory)
        # EVA moves ranks between linears of different sizes
        facts["adapter"]["parameters"] = trainable_parameters(adapted)
        if wandb_logger is not None:
            axes = sweep_axes(plain(config), facts["adapter"]["layers"])
            log_settings(wandb_logger, {"adapter": facts["adapter"], "sweep_axes": axes})
    else:
        adapted = adapt(model, config.adaptation)
    facts |= {"trainable_parameters": trainable_parameters(adapted), **data.counts}
    return adapted, ranking, facts


def _selected(
    config: TrainConfig,
    directory: RunDirectory,
    model: PreTrainedModel,
    encoder: Encoder,
    data: SummarizationData,
) -> Ranking:
    """Return the selector's ranking. A resumed run reads the ranking that it made before."""
    from sumcirc.runtime.processes import is_main_process
    from sumcirc.selection.choosing import select
    from sumcirc.selection.context import SelectionContext
    from sumcirc.selection.ranking import Ranking
    from sumcirc.training.machine import device

    if directory.ranking_file.exists():
        return Ranking.read(directory.ranking_file)
    model.to(device(config.trainer))  # type: ignore[arg-type]
    ranking = select(SelectionContext(config, model, encoder, data))
    if is_main_process():
        ranking.save(directory.ranking_file)
    return ranking
