"""Settings of every verb; conf/VERB.yaml is the verb's primary file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.schema.adapting import (
    REWRITING_STARTS,
    REWRITING_VARIANTS,
    Adaptation,
    AdaptationConfig,
    Variant,
)
from sumcirc.schema.cards import CardOptions
from sumcirc.schema.choices import Choice
from sumcirc.schema.circuits import CircuitMetric, CircuitOptions, Corruption
from sumcirc.schema.comparing import CompareOptions, ItemMetric
from sumcirc.schema.data import SPLITS, DataConfig, EncodingConfig
from sumcirc.schema.exporting import ExportConfig
from sumcirc.schema.learning import MONITORS, ModelConfig, Quantization, TrainerConfig
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.optimizing import OptimizerConfig, SchedulerConfig, check_fit, scheduler_of
from sumcirc.schema.penalizing import KLPenaltyConfig
from sumcirc.schema.require import at_least, folder_name, positive, require
from sumcirc.schema.scoring import EvaluationConfig, GenerationConfig
from sumcirc.schema.selecting import SelectorConfig
from sumcirc.schema.watching import CallbacksConfig, LoggerConfig

# the choice of `callbacks` that has a watcher which the default has not
CHOICES_WITH = {"summary_quality": "full", "circuit_tracker": "circuits"}
CIRCUITS = "circuit_tracker"


class Retry(Choice):
    """Runs that a restarted sweep repeats, in addition to unfinished ones."""

    failed = "failed"  # runs that failed


class SweepOrder(Choice):
    """The order in which a sweep starts its jobs."""

    typed = "typed"  # the first setting that the command varies changes last
    seed = "seed"  # all configurations with the first seed first


@dataclass
class SweepConfig:
    """A sweep: its directory runs_dir/sweep.name/run.name, and how its jobs run on this machine."""

    name: str = MISSING  # folder name; by default made from the time
    # jobs that run at the same time; null: one per entry of `gpus`, else one
    jobs: Optional[int] = None
    gpus: Optional[list[str]] = (
        None  # CUDA_VISIBLE_DEVICES of each concurrent job, e.g. [0,1] or ['0,1','2,3']
    )
    retry: Optional[Retry] = None
    # `seed`: a sweep that is cut short has all configurations with the seeds that it reached
    order: SweepOrder = SweepOrder.typed
    # refuse a sweep of adapters, before its first job, if one can't use adaptation.budget to 3 %
    same_budget: bool = False
    # metric of a training run that a search optimizes: validation/loss, validation/perplexity,
    # rouge1, rouge2, rougeLsum or circuit/faithfulness
    objective: Optional[str] = None
    report: bool = False  # compare the runs and write the page at the end of a multirun

    def __post_init__(self) -> None:
        lists_of_one(self)
        folder_name("sweep.name", self.name)
        at_least(self, "sweep.", 1, "jobs")
        require(
            self.objective is None or self.objective in MONITORS,
            f"sweep.objective={self.objective}: no run has it; choose from {', '.join(MONITORS)}",
        )
        require(
            self.gpus != [],
            "sweep.gpus=[]: name a GPU, or leave it out to use those that are visible",
        )

    @property
    def places(self) -> list[Optional[str]]:
        """The GPUs of each job that runs at the same time, one entry per job.

        None means that the job sees the same GPUs as this process.
        """
        gpus: list[Optional[str]] = [*(self.gpus or [None])]
        return [gpus[i % len(gpus)] for i in range(self.jobs or len(gpus))]


@dataclass
class RunConfig:
    """Name of a run."""

    name: str = MISSING  # folder name; by default what distinguishes the run from the others
    varied: list[str] = field(default_factory=list)  # settings that a multirun varies
    axes: dict[str, Any] = field(default_factory=dict)  # the run's value of each varied setting

    def __post_init__(self) -> None:
        lists_of_one(self)
        folder_name("run.name", self.name)


@dataclass
class JobConfig:
    """Settings of every verb that makes a run directory."""

    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = MISSING
    logger: LoggerConfig = MISSING
    sweep: SweepConfig = field(default_factory=SweepConfig)
    run: RunConfig = field(default_factory=RunConfig)
    runs_dir: str = "runs"  # folder of sweeps
    # folder for results that are computed once; $SUMCIRC_CACHE, else ~/.cache/sumcirc
    cache_dir: str = MISSING
    seed: int = 1  # for initialization, batch order and dropout; data.seed draws the documents

    def __post_init__(self) -> None:
        at_least(self, "", 0, "seed")


def check_quantized(model: ModelConfig, adaptation: AdaptationConfig) -> None:
    """Refuse what can't be trained on a quantized base.

    Args:
        model: settings of the model.
        adaptation: what is trained.
    """
    if model.quantize is None:
        return
    given = f"model.quantize={model.quantize.value}"
    require(
        adaptation.kind is Adaptation.lora,
        f"{given}: quantized weights can't be trained, only adapters on them; add adaptation=lora",
    )
    fields = adaptation.peft or {}
    start = str(fields.get("init_lora_weights")).lower()
    rewrites = start.startswith(REWRITING_STARTS) or adaptation.variant in REWRITING_VARIANTS
    shown = f"adaptation={adaptation.variant.value}"
    if start.startswith(REWRITING_STARTS):
        shown = f"adaptation.peft={adaptation.peft}"
    require(
        not rewrites,
        f"{given}: {shown} moves a part of the base's weights into the adapter, which quantized"
        " weights don't allow; use adaptation=lora, rslora or eva",
    )
    dora = adaptation.variant is Variant.dora or bool(fields.get("use_dora"))
    require(
        not (dora and model.quantize is Quantization.int8),
        f"{given}: DoRA needs the weights' norms, which PEFT can't compute for int8; use"
        " model.quantize=nf4, or adaptation=lora",
    )


@dataclass
class TrainConfig(JobConfig):
    """Settings of `sumcirc train` (conf/train.yaml)."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    kl_penalty: KLPenaltyConfig = field(default_factory=KLPenaltyConfig)
    callbacks: CallbacksConfig = MISSING
    export: ExportConfig = field(default_factory=ExportConfig)
    resume: Optional[str] = None  # run directory to continue, with its configuration

    def __post_init__(self) -> None:
        super().__post_init__()
        monitors = {
            f"trainer.{name}={getattr(self.trainer, name)}": monitor
            for name, monitor in self.trainer.monitors.items()
        }
        if self.sweep.objective is not None:
            given = f"sweep.objective={self.sweep.objective}"
            monitors[given] = MONITORS[self.sweep.objective]
        for given, monitor in monitors.items():
            require(
                monitor.watcher in (None, *self.callbacks.watch),
                f"{given}: is measured by the watcher"
                f" {monitor.watcher}, which is not in callbacks.watch={self.callbacks.watch};"
                f" add it there, or choose callbacks={CHOICES_WITH.get(str(monitor.watcher))}",
            )
        require(
            self.evaluation.at_end or not self.evaluation.retention,
            f"evaluation.retention={self.evaluation.retention}: is measured at the end of training,"
            " which evaluation.at_end=false leaves out; leave one of them out",
        )
        require(
            not (self.export.merge and self.adaptation.kind is Adaptation.full),
            "export.merge=true: full fine-tuning makes no adapter to merge; leave it out",
        )
        check_quantized(self.model, self.adaptation)
        quantize = self.model.quantize and self.model.quantize.value
        require(
            not (self.export.merge and quantize),
            "export.merge=true: merged weights would be rounded again by"
            f" model.quantize={quantize}, so they would not be what was trained; leave it out",
        )
        require(
            not (self.model.quantize is Quantization.int8 and CIRCUITS in self.callbacks.watch),
            f"model.quantize=int8: {CIRCUITS} in callbacks.watch needs the linears' effective"
            " weights, which LLM.int8 doesn't have, since it also quantizes their inputs; use"
            " model.quantize=nf4, or callbacks=default",
        )
        strategy = self.trainer.strategy
        self.scheduler = scheduler_of(self.optimizer, self.scheduler)
        lora = self.adaptation.kind is Adaptation.lora
        check_fit(self.optimizer, self.scheduler, strategy, lora)
        sharded = strategy.startswith("fsdp")
        whole = {
            "evaluation.at_end=false": self.evaluation.at_end,
            "callbacks=none": bool(self.callbacks.watch),
            "trainer.load_best=false": self.trainer.load_best,
        }
        remedies = [remedy for remedy, needed in whole.items() if needed]
        require(
            not (sharded and self.kl_penalty.is_on),
            f"trainer.strategy={strategy}: parameters are spread over devices, so the base can't be"
            " run beside the model for kl_penalty.texts; use ddp, or leave kl_penalty out",
        )
        require(
            not (sharded and quantize),
            f"trainer.strategy={strategy}: can't spread weights over devices that"
            f" model.quantize={quantize} stores as integers; leave one of them out",
        )
        require(
            not (sharded and remedies),
            f"trainer.strategy={strategy}: parameters are spread over devices, so a model can't be"
            f" measured, restored or asked for summaries while it trains; add {' '.join(remedies)},"
            " and run `sumcirc evaluate` and `sumcirc compare` on the run directory afterwards",
        )


@dataclass
class EvaluateConfig(JobConfig):
    """Settings of `sumcirc evaluate` (conf/evaluate.yaml)."""

    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model


@dataclass
class CircuitConfig(JobConfig):
    """Settings of `sumcirc circuit` (conf/circuit.yaml)."""

    circuit: CircuitOptions = field(default_factory=CircuitOptions)
    card: CardOptions = field(default_factory=CardOptions)  # tests of the circuit that is written
    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model
    # a second model, whose circuit is found on the same pairs and compared; base: the model that
    # `checkpoint` was trained from
    against: Optional[str] = None
    pairs: Optional[str] = None  # JSON lines of clean and corrupted texts, in place of data


@dataclass
class CompareConfig(JobConfig):
    """Settings of `sumcirc compare` (conf/compare.yaml)."""

    compare: CompareOptions = field(default_factory=CompareOptions)
    # run directory, adapter, folder or hub id; null: the model that `after` was trained from
    before: Optional[str] = None
    # the same kinds, or a list of them: each is compared with `before` and with the others
    after: Any = MISSING
    prompts: Optional[str] = None  # `rephrase`, `facts` or JSON lines, in place of documents

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.afters
        require(
            bool(names) and all(isinstance(name, str) and name for name in names),
            f"after={self.after}: name a run directory, an adapter, a folder or a hub id",
        )
        require(
            self.prompts is None or self.compare.metric is not ItemMetric.wrong_fact,
            f"compare.metric=wrong_fact: is for documents, not for prompts={self.prompts}, which"
            " have answers of their own; leave one of them out",
        )
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, f"after={self.after}: names {twice[0] if twice else ''} twice")

    @property
    def afters(self) -> list[str]:
        """The models that are compared with `before`, as a list."""
        return list(self.after) if isinstance(self.after, (list, tuple)) else [self.after]


@dataclass
class PairsConfig:
    """Settings of `sumcirc pairs` (conf/pairs.yaml)."""

    out: str = MISSING  # file to write, NAME.jsonl
    overwrite: bool = False  # replace an existing file
    model: ModelConfig = MISSING
    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model
    data: DataConfig = MISSING
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    # salient sentences are the `evaluation.sentences` that a greedy oracle selects
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = MISSING
    split: str = "test"  # `train`, `validation` or `test`
    corruption: Corruption = Corruption.auto
    documents: Optional[int] = None  # largest number of pairs; null: one per document
    filter: bool = True  # drop pairs whose corruption doesn't raise the model's loss
    metric: CircuitMetric = CircuitMetric.nll  # the loss for `filter`
    batch_size: int = 4  # pairs processed at once

    def __post_init__(self) -> None:
        require(self.split in SPLITS, f"split={self.split}: choose from {', '.join(SPLITS)}")
        at_least(self, "", 1, "documents", "batch_size")
        require(
            self.metric is not CircuitMetric.auto,
            "metric=auto: is for `sumcirc circuit`; choose nll, kl, logit_difference or wrong_fact",
        )


@dataclass
class SelectConfig(JobConfig):
    """Settings of `sumcirc select` (conf/select.yaml)."""

    adaptation: AdaptationConfig = MISSING
    selector: SelectorConfig = field(default_factory=SelectorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_quantized(self.model, self.adaptation)


@dataclass
class PretrainConfig:
    """Settings of `sumcirc pretrain`, which makes the built-in model (conf/pretrain.yaml)."""

    out: str = MISSING  # folder to write
    vocabulary: int = 4096  # number of tokens
    layers: int = 6  # number of blocks
    heads: int = 4  # heads per layer
    width: int = 128  # width of the residual stream
    context: int = 256  # context length in tokens
    articles: int = 20000  # number of generated articles to train on
    # largest number of steps of the warm-up on repeated random tokens, which ends when they are
    # learnt
    echo_steps: int = 4000
    steps: int = 3000  # optimizer steps on articles and bulletins; every fourth is an echo batch
    batch_size: int = 8  # rows of `context` tokens per batch
    echo_learning_rate: float = 1e-3  # peak learning rate of the warm-up
    learning_rate: float = 6e-4  # peak learning rate
    threads: Optional[int] = None  # CPU threads; null: torch's choice
    seed: int = 0  # seed of weights and articles

    def __post_init__(self) -> None:
        counts = ("layers", "heads", "width", "context", "articles", "steps", "batch_size")
        at_least(self, "", 1, "vocabulary", *counts, "threads")
        at_least(self, "", 0, "echo_steps", "seed")
        positive(self, "", "echo_learning_rate", "learning_rate")
