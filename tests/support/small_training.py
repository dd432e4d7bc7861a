"""A training run of a second inside the test's own process, without the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import Encoder
from sumcirc.models.adapters import adapt
from sumcirc.models.architectures import context_length
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import (
    Adaptation,
    AdaptationConfig,
    CallbacksConfig,
    DataConfig,
    EvaluationConfig,
    GenerationConfig,
    LoggerConfig,
    LoggerKind,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    Source,
    SweepConfig,
    TrainConfig,
    TrainerConfig,
)
from sumcirc.tracking.measure_records import read_metrics
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.fresh_adapters import start
from sumcirc.training.module import SummarizationModule
from sumcirc.training.trainer import fit

LORA = AdaptationConfig(kind=Adaptation.lora, rank=4, dropout=0.2)


def small_config(
    model: Path, files: dict[str, Path], folder: Path, **sections: dict[str, Any]
) -> TrainConfig:
    """A run of 6 steps; `sections` replaces single settings, as `trainer={"max_steps": 2}`."""
    trainer: dict[str, Any] = {
        "accelerator": "cpu",
        "max_steps": 6,
        "batch_size": 4,
        "log_every": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
        **sections.get("trainer", {}),
    }
    return TrainConfig(
        model=ModelConfig(name="small", path=str(model)),
        data=DataConfig(
            name="news", source=Source.files, **{name: str(path) for name, path in files.items()}
        ),
        trainer=TrainerConfig(**trainer),
        logger=LoggerConfig(kind=LoggerKind.none),
        adaptation=AdaptationConfig(**{"kind": Adaptation.full, **sections.get("adaptation", {})}),
        optimizer=OptimizerConfig(**{"learning_rate": 1e-3, **sections.get("optimizer", {})}),
        callbacks=CallbacksConfig(**{"progress": False, **sections.get("callbacks", {})}),
        generation=GenerationConfig(max_new_tokens=8, **sections.get("generation", {})),
        evaluation=EvaluationConfig(**{"bootstrap": 100, **sections.get("evaluation", {})}),
        cache_dir=str(folder / "cache"),
        sweep=SweepConfig(name="sweep"),
        run=RunConfig(name="run"),
    )


@dataclass
class Trained:
    """What `train` leaves."""

    config: TrainConfig
    run: RunDirectory
    trainer: pl.Trainer
    module: SummarizationModule
    metrics: list[tuple[int, str, float]] = field(default_factory=list)

    def values(self, metric: str) -> dict[int, float]:
        """Logged values of one metric by step."""
        return {step: value for step, name, value in self.metrics if name == metric}

    def weights(self) -> dict[str, torch.Tensor]:
        """What trained, by name."""
        return self.module.state_dict()


def prepared(config: TrainConfig, run: RunDirectory | None = None) -> tuple[Any, SummarizationData]:
    """Adapted model and read data, as the train job makes them; with a run as it starts there."""
    pl.seed_everything(config.seed, verbose=False)
    model = load_model(config.model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model.config))
    data = SummarizationData(config.data, config.trainer, encoder, None, config.seed)
    data.read()
    if run is not None and config.adaptation.kind is Adaptation.lora:
        return start(config, model, data, None, run), data
    return adapt(model, config.adaptation), data


def train(config: TrainConfig, folder: Path) -> Trained:
    """Train in the run directory `folder`, which may hold a checkpoint to continue from."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(folder)
    model, data = prepared(config, run)
    trainer, module = fit(config, model, data, run, None)
    return Trained(config, run, trainer, module, read_metrics(run.metrics.path))
