"""What every verb takes: conf/train.yaml, evaluate, circuit, select, pretrain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from sumcirc.schema.circuits import CircuitOptions
from sumcirc.schema.data import DataConfig, EncodingConfig
from sumcirc.schema.learning import AdaptationConfig, ModelConfig, OptimizerConfig, TrainerConfig
from sumcirc.schema.require import require
from sumcirc.schema.scoring import EvaluationConfig, GenerationConfig
from sumcirc.schema.selecting import SelectorConfig
from sumcirc.schema.watching import CallbacksConfig, LoggerConfig


@dataclass
class SweepConfig:
    """The directory that groups runs: runs_dir/sweep.name/run.name."""

    name: str = MISSING


@dataclass
class RunConfig:
    """Naming of one run."""

    name: str = MISSING
    varied: list[str] = field(default_factory=list)  # what a multirun sweeps over


@dataclass
class JobConfig:
    """What every verb that makes a run directory has."""

    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    sweep: SweepConfig = field(default_factory=SweepConfig)
    run: RunConfig = field(default_factory=RunConfig)
    runs_dir: str = "runs"
    cache_dir: str = MISSING
    seed: int = 1

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed={self.seed}: must be 0 or more")


@dataclass
class TrainConfig(JobConfig):
    """conf/train.yaml: `sumcirc train`."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    callbacks: CallbacksConfig = MISSING
    resume: Optional[str] = None  # a run directory to continue; takes its configuration


@dataclass
class EvaluateConfig(JobConfig):
    """conf/evaluate.yaml: `sumcirc evaluate`."""

    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model


@dataclass
class CircuitConfig(JobConfig):
    """conf/circuit.yaml: `sumcirc circuit`."""

    circuit: CircuitOptions = field(default_factory=CircuitOptions)
    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model


@dataclass
class SelectConfig(JobConfig):
    """conf/select.yaml: `sumcirc select`."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)


@dataclass
class PretrainConfig:
    """conf/pretrain.yaml: `sumcirc pretrain`, which makes the built-in model."""

    out: str = MISSING  # folder to write
    vocabulary: int = 4096
    layers: int = 6
    heads: int = 4
    width: int = 128
    context: int = 256
    articles: int = 20000
    echo_steps: int = 4000  # at most; the warm-up on repeated random tokens ends when it is learnt
    steps: int = 3000  # articles and bulletins, every fourth step an echo batch
    batch_size: int = 8  # rows of `context` tokens
    echo_learning_rate: float = 1e-3
    learning_rate: float = 6e-4
    threads: Optional[int] = None
    seed: int = 0
