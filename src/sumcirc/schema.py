"""Typed configuration behind conf/: Hydra refuses keys and types that are not here.

Every dataclass mirrors one configuration group or section. `__post_init__` refuses contradictions
when `OmegaConf.to_object` builds it, before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.errors import UserError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


class Source(Enum):
    """Where documents come from."""

    wire = "wire"  # the built-in generator
    hub = "hub"  # a Hugging Face hub data set
    files = "files"  # the user's own JSONL, CSV or Parquet files


class Precision(Enum):
    """Arithmetic of training: `auto` is bf16 where the device has it, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass
class ModelConfig:
    """conf/model: a causal language model."""

    name: str = MISSING  # short name, used in run names
    path: str = MISSING  # hub id, folder, or `tiny` (built in)
    revision: Optional[str] = None  # hub revision
    tokenizer: Optional[str] = None  # hub id or folder; null: the model's own
    learning_rate: float = 5e-5  # peak learning rate of full fine-tuning
    lora_learning_rate_scale: float = 10.0  # LoRA's peak learning rate over it


@dataclass
class SizesConfig:
    """How many items to draw, at random by `data.seed`; null takes all."""

    train: Optional[int] = None
    validation: Optional[int] = None
    test: Optional[int] = None

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            value = getattr(self, split)
            _require(
                value is None or value > 0,
                f"data.sizes.{split}={value}: must be positive, or null for all items",
            )


@dataclass
class DataConfig:
    """conf/data: pairs of documents and summaries."""

    name: str = MISSING  # short name, used in run names
    source: Source = MISSING
    path: Optional[str] = None  # hub id (source hub)
    subset: Optional[str] = None  # hub configuration name
    revision: Optional[str] = None  # hub revision
    train: Optional[str] = None  # split name (hub) or file or glob pattern (files)
    validation: Optional[str] = None
    test: Optional[str] = None
    document_column: str = "document"
    summary_column: str = "summary"  # a string, or a list of references
    references_column: Optional[str] = None  # further references, a list; missing column: refused
    id_column: Optional[str] = None  # null: `split-index`
    sizes: SizesConfig = field(default_factory=SizesConfig)
    seed: int = 0  # draws subsets; apart from the training seed, so all runs see the same items


class Adaptation(Enum):
    """What trains."""

    full = "full"  # every parameter
    lora = "lora"  # low-rank adapters on chosen layers and modules


MODULES = ("qkv", "attn_out", "mlp_in", "mlp_out")  # module names of the anatomy


@dataclass
class AdaptationConfig:
    """conf/adaptation: full fine-tuning, or LoRA on chosen targets."""

    kind: Adaptation = MISSING
    learning_rate_scale: float = 1.0  # times model.learning_rate
    layers: Any = "all"  # `all`, or a list of layer indices, counted from 0
    modules: list[str] = field(default_factory=lambda: list(MODULES))
    rank: Optional[int] = None  # LoRA rank; null where `budget` solves it
    budget: Optional[int] = None  # trainable parameters; solves the rank
    alpha: Optional[float] = None  # LoRA alpha; null: twice the rank
    rslora: bool = False  # scale by alpha / sqrt(rank) instead of alpha / rank
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind is Adaptation.full:
            _require(
                self.layers == "all"
                and self.rank is None
                and self.budget is None
                and self.modules == list(MODULES),
                "adaptation=full trains every parameter: adaptation.layers, modules, rank and"
                " budget are for adaptation=lora",
            )
            return
        self._check_layers()
        unknown = [name for name in self.modules if name not in MODULES]
        _require(
            not unknown,
            f"adaptation.modules={unknown}: unknown; choose from {', '.join(MODULES)}",
        )
        _require(bool(self.modules), "adaptation.modules=[]: name at least one module")
        _require(
            len(set(self.modules)) == len(self.modules),
            f"adaptation.modules={self.modules}: a module is named twice",
        )
        _require(
            (self.rank is None) != (self.budget is None),
            "adaptation.rank and adaptation.budget: set exactly one of them"
            " (adaptation.rank=null with a budget)",
        )
        _require(
            self.rank is None or self.rank > 0, f"adaptation.rank={self.rank}: must be 1 or more"
        )
        _require(
            self.budget is None or self.budget > 0,
            f"adaptation.budget={self.budget}: must be a positive number of parameters",
        )
        _require(
            self.alpha is None or self.alpha > 0,
            f"adaptation.alpha={self.alpha}: must be positive, or null for twice the rank",
        )
        _require(0 <= self.dropout < 1, f"adaptation.dropout={self.dropout}: must lie in [0, 1)")

    def _check_layers(self) -> None:
        layers = self.layers
        if layers == "all":
            return
        shown = f"adaptation.layers={layers}"
        _require(
            isinstance(layers, list)
            and all(isinstance(i, int) and not isinstance(i, bool) for i in layers),
            f"{shown}: must be `all` or a list of layer indices such as [2,3,5]",
        )
        _require(bool(layers), f"{shown}: the list is empty; name a layer, or use `all`")
        _require(min(layers) >= 0, f"{shown}: negative indices are not taken; layers count from 0")
        _require(len(set(layers)) == len(layers), f"{shown}: a layer is named twice")


@dataclass
class EncodingConfig:
    """How a pair becomes tokens: prompt with the document, then the summary, then EOS."""

    prompt: str = "{document}\nTL;DR:"
    summary: str = " {summary}"
    max_length: Optional[int] = None  # tokens of the whole sequence; null: the model's context
    max_summary_tokens: int = 128  # longer summaries are dropped from training and counted

    def __post_init__(self) -> None:
        _require(
            self.prompt.count("{document}") == 1,
            f"encoding.prompt={self.prompt!r}: must hold {{document}} exactly once",
        )
        _require(
            self.summary.count("{summary}") == 1,
            f"encoding.summary={self.summary!r}: must hold {{summary}} exactly once",
        )
        _require(
            self.max_length is None or self.max_length > 0,
            f"encoding.max_length={self.max_length}: must be positive, or null for the context",
        )
        _require(
            self.max_summary_tokens > 0,
            f"encoding.max_summary_tokens={self.max_summary_tokens}: must be positive",
        )


@dataclass
class GenerationConfig:
    """Decoding of summaries."""

    num_beams: int = 1  # 1 is greedy
    max_new_tokens: int = 128
    min_new_tokens: int = 0
    no_repeat_ngram: int = 3  # blocked among generated tokens only; 0 is off
    length_penalty: float = 1.0  # beam search only
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (
            ("num_beams", 1),
            ("max_new_tokens", 1),
            ("min_new_tokens", 0),
            ("no_repeat_ngram", 0),
            ("batch_size", 1),
        ):
            value = getattr(self, name)
            _require(value >= least, f"generation.{name}={value}: must be {least} or more")
        _require(
            self.min_new_tokens <= self.max_new_tokens,
            f"generation.min_new_tokens={self.min_new_tokens}: more than"
            f" generation.max_new_tokens={self.max_new_tokens}",
        )


@dataclass
class EvaluationConfig:
    """Scoring of summaries."""

    bootstrap: int = 1000  # resamples behind each interval
    confidence: float = 0.95
    min_sentence_words: int = 6  # shorter sentences are passed over by lead, random and oracle
    sentences: int = 3  # sentences of the lead, random and oracle baselines
    at_end: bool = True  # training ends with scoring on data.test
    base: bool = True  # the untrained model is scored on the same items, once per base (cached)

    def __post_init__(self) -> None:
        _require(
            self.bootstrap >= 100, f"evaluation.bootstrap={self.bootstrap}: must be 100 or more"
        )
        _require(
            0 < self.confidence < 1,
            f"evaluation.confidence={self.confidence}: must lie between 0 and 1",
        )
        _require(self.sentences > 0, f"evaluation.sentences={self.sentences}: must be 1 or more")


class Schedule(Enum):
    """Learning rate after warm-up."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


@dataclass
class OptimizerConfig:
    """AdamW and its schedule; biases and norms are not decayed."""

    learning_rate: float = 5e-5  # peak
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    warmup: float = 0.05  # share of all steps
    schedule: Schedule = Schedule.linear
    clip: float = 1.0  # gradient norm; 0 is off

    def __post_init__(self) -> None:
        for name in ("weight_decay", "clip"):
            value = getattr(self, name)
            _require(value >= 0, f"optimizer.{name}={value}: must be 0 or more")
        _require(
            self.learning_rate > 0,
            f"optimizer.learning_rate={self.learning_rate}: must be positive",
        )
        _require(0 <= self.warmup < 1, f"optimizer.warmup={self.warmup}: must lie in [0, 1)")


@dataclass
class TrainerConfig:
    """conf/trainer: the machine, and how long and in what portions it trains."""

    accelerator: str = "auto"
    devices: Any = 1  # a number, a list of device indices, or `auto`
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Precision = Precision.auto
    max_epochs: int = 3
    max_steps: Optional[int] = None  # optimizer steps; null: as max_epochs says
    batch_size: int = 16  # items a device takes at once
    accumulate: int = 1  # batches behind one optimizer step
    buckets: bool = True  # batches of similar length; false: order drawn regardless of length
    validate_every: Optional[int] = None  # optimizer steps; null: at each epoch's end
    checkpoint_every: int = 100  # optimizer steps; a resumed run starts from the last checkpoint
    keep_checkpoints: int = 1  # newest ones kept; -1 keeps all
    log_every: int = 10  # optimizer steps
    gradient_checkpointing: bool = False
    compile: bool = False
    threads: Optional[int] = None  # CPU threads; null: torch's choice

    def __post_init__(self) -> None:
        for name in (
            "num_nodes",
            "max_epochs",
            "batch_size",
            "accumulate",
            "checkpoint_every",
            "log_every",
        ):
            value = getattr(self, name)
            _require(value > 0, f"trainer.{name}={value}: must be 1 or more")
        for name in ("max_steps", "validate_every", "threads"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"trainer.{name}={value}: must be 1 or more")
        devices = self.devices
        number = type(devices) is int and (devices == -1 or devices > 0)
        indices = isinstance(devices, list) and all(type(index) is int for index in devices)
        _require(
            number or (indices and bool(devices)) or devices == "auto",
            f"trainer.devices={devices}: must be a number, a list of device indices such as [0,1],"
            " or `auto`",
        )
        _require(
            self.keep_checkpoints == -1 or self.keep_checkpoints > 0,
            f"trainer.keep_checkpoints={self.keep_checkpoints}: must be 1 or more, or -1 for all",
        )


@dataclass
class CallbacksConfig:
    """conf/callbacks: what watches a run."""

    progress: bool = True  # rich progress bar
    # further Lightning callbacks by name, each with `_target_` and its arguments
    extra: dict[str, Any] = field(default_factory=dict)


class WandbMode(Enum):
    """Where Weights & Biases logs."""

    auto = "auto"  # online where the user is logged in, else offline
    online = "online"
    offline = "offline"


class LoggerKind(Enum):
    """Trackers beside the run directory."""

    wandb = "wandb"
    none = "none"


TAG_LENGTH = 64  # characters that Weights & Biases takes


@dataclass
class LoggerConfig:
    """conf/logger: Weights & Biases, or the run directory alone."""

    kind: LoggerKind = LoggerKind.wandb
    mode: WandbMode = WandbMode.auto
    project: str = "sumcirc"
    entity: Optional[str] = None
    tags: list[str] = field(default_factory=list)
    artifact: Optional[bool] = None  # log what was trained; null: only when online
    samples: int = 16  # rows of the sample summary table

    def __post_init__(self) -> None:
        for tag in self.tags:
            _require(
                0 < len(tag) <= TAG_LENGTH,
                f"logger.tags={self.tags}: a tag must have 1 to {TAG_LENGTH} characters",
            )
        _require(self.samples >= 0, f"logger.samples={self.samples}: must be 0 or more")


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
        _require(self.seed >= 0, f"seed={self.seed}: must be 0 or more")


@dataclass
class TrainConfig(JobConfig):
    """conf/train.yaml: `sumcirc train`."""

    adaptation: AdaptationConfig = MISSING
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    callbacks: CallbacksConfig = MISSING
    resume: Optional[str] = None  # a run directory to continue; takes its configuration


@dataclass
class EvaluateConfig(JobConfig):
    """conf/evaluate.yaml: `sumcirc evaluate`."""

    checkpoint: Optional[str] = None  # run directory, adapter, folder or hub id; null: model


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
