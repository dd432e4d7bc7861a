"""What every verb takes; conf/VERB.yaml is its primary file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.schema.circuits import CircuitMetric, CircuitOptions, Corruption
from sumcirc.schema.comparing import CompareOptions
from sumcirc.schema.data import SPLITS, DataConfig, EncodingConfig
from sumcirc.schema.learning import AdaptationConfig, ModelConfig, OptimizerConfig, TrainerConfig
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, folder_name, positive, require
from sumcirc.schema.scoring import EvaluationConfig, GenerationConfig
from sumcirc.schema.selecting import SelectorConfig
from sumcirc.schema.watching import CallbacksConfig, LoggerConfig


class Retry(Enum):
    """What a sweep that is started again repeats, beside what it finishes."""

    failed = "failed"  # runs that failed


@dataclass
class SweepConfig:
    """The directory that groups runs, runs_dir/sweep.name/run.name, and how its jobs run here."""

    name: str = MISSING  # the folder; made up from the time where it is not given
    jobs: Optional[int] = None  # at the same time; null: one for each of `gpus`, else one
    gpus: Optional[list[str]] = (
        None  # CUDA_VISIBLE_DEVICES of each place, e.g. [0,1] or ['0,1','2,3']
    )
    retry: Optional[Retry] = None
    report: bool = False  # a multirun ends by comparing its runs and writing the page

    def __post_init__(self) -> None:
        lists_of_one(self)
        folder_name("sweep.name", self.name)
        at_least(self, "sweep.", 1, "jobs")
        require(
            self.gpus != [],
            "sweep.gpus=[]: name a GPU, or leave it out to use those that are visible",
        )

    @property
    def places(self) -> list[Optional[str]]:
        """GPUs of each place in which a job may run, None where it sees those of the parent."""
        gpus: list[Optional[str]] = [*(self.gpus or [None])]
        return [gpus[i % len(gpus)] for i in range(self.jobs or len(gpus))]


@dataclass
class RunConfig:
    """Naming of one run."""

    name: str = MISSING  # the folder; made up from what tells the run from its neighbours
    varied: list[str] = field(default_factory=list)  # what a multirun sweeps over
    axes: dict[str, Any] = field(default_factory=dict)  # the run's value of each

    def __post_init__(self) -> None:
        lists_of_one(self)
        folder_name("run.name", self.name)


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
    runs_dir: str = "runs"  # where sweeps lie
    cache_dir: str = MISSING  # what is computed once; $SUMCIRC_CACHE, else ~/.cache/sumcirc
    seed: int = 1  # of initialization, order and dropout; documents are drawn by data.seed

    def __post_init__(self) -> None:
        at_least(self, "", 0, "seed")


@dataclass
class TrainConfig(JobConfig):
    """conf/train.yaml: `sumcirc train`."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    callbacks: CallbacksConfig = MISSING
    resume: Optional[str] = None  # a run directory to continue; takes its configuration

    def __post_init__(self) -> None:
        super().__post_init__()
        strategy = self.trainer.strategy
        sharded = strategy.startswith("fsdp")
        require(
            not (sharded and self.evaluation.at_end),
            f"trainer.strategy={strategy}: parameters are spread over devices, so summaries can't"
            " be generated here; set evaluation.at_end=false and run `sumcirc evaluate` afterwards",
        )
        require(
            not (sharded and self.callbacks.watch),
            f"trainer.strategy={strategy}: parameters are spread over devices, so the model can't"
            " be probed here; set callbacks.watch=[] and compare the trained model afterwards",
        )


@dataclass
class EvaluateConfig(JobConfig):
    """conf/evaluate.yaml: `sumcirc evaluate`."""

    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model


@dataclass
class CircuitConfig(JobConfig):
    """conf/circuit.yaml: `sumcirc circuit`."""

    circuit: CircuitOptions = field(default_factory=CircuitOptions)
    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model
    pairs: Optional[str] = None  # JSON lines of clean and corrupted texts, in place of data


@dataclass
class CompareConfig(JobConfig):
    """conf/compare.yaml: `sumcirc compare`."""

    compare: CompareOptions = field(default_factory=CompareOptions)
    # run directory, adapter, folder or hub id; null: what `after` was trained from
    before: Optional[str] = None
    # one of these, or a list: each is compared with `before` and with the others
    after: Any = MISSING
    prompts: Optional[str] = None  # `rephrase`, `facts` or JSON lines, in place of documents

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.afters
        require(
            bool(names) and all(isinstance(name, str) and name for name in names),
            f"after={self.after}: name a run directory, an adapter, a folder or a hub id",
        )
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, f"after={self.after}: names {twice[0] if twice else ''} twice")

    @property
    def afters(self) -> list[str]:
        """All that are compared with `before`."""
        return list(self.after) if isinstance(self.after, (list, tuple)) else [self.after]


@dataclass
class PairsConfig:
    """conf/pairs.yaml: `sumcirc pairs`."""

    out: str = MISSING  # the file to write, NAME.jsonl
    overwrite: bool = False  # write over a file that is there
    model: ModelConfig = MISSING
    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model
    data: DataConfig = MISSING
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    # salient are the `evaluation.sentences` that a greedy oracle takes
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = MISSING
    split: str = "test"  # of train, validation, test
    corruption: Corruption = Corruption.auto
    documents: Optional[int] = None  # at most so many pairs are made; null: of every document
    filter: bool = True  # leave out pairs on which corruption doesn't raise the loss of the model
    metric: CircuitMetric = CircuitMetric.surprise  # that loss
    batch_size: int = 4  # pairs at once

    def __post_init__(self) -> None:
        require(self.split in SPLITS, f"split={self.split}: choose from {', '.join(SPLITS)}")
        at_least(self, "", 1, "documents", "batch_size")
        require(
            self.metric is not CircuitMetric.auto,
            "metric=auto: is for `sumcirc circuit`; choose surprise, kl or logit_difference",
        )


@dataclass
class SelectConfig(JobConfig):
    """conf/select.yaml: `sumcirc select`."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)


@dataclass
class PretrainConfig:
    """conf/pretrain.yaml: `sumcirc pretrain`, which makes the built-in model."""

    out: str = MISSING  # folder to write
    vocabulary: int = 4096  # tokens
    layers: int = 6  # blocks
    heads: int = 4  # of each layer
    width: int = 128  # of the residual stream
    context: int = 256  # tokens
    articles: int = 20000  # generated to be read
    echo_steps: int = 4000  # at most; the warm-up on repeated random tokens ends when it is learnt
    steps: int = 3000  # articles and bulletins, every fourth step an echo batch
    batch_size: int = 8  # rows of `context` tokens
    echo_learning_rate: float = 1e-3  # peak, of the warm-up
    learning_rate: float = 6e-4  # peak
    threads: Optional[int] = None  # CPU threads; null: torch's choice
    seed: int = 0  # of weights and articles

    def __post_init__(self) -> None:
        counts = ("layers", "heads", "width", "context", "articles", "steps", "batch_size")
        at_least(self, "", 1, "vocabulary", *counts, "threads")
        at_least(self, "", 0, "echo_steps", "seed")
        positive(self, "", "echo_learning_rate", "learning_rate")
