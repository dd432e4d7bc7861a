"""Settings of training: the model, the optimizer and the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.schema.choices import Choice
from sumcirc.schema.require import at_least, positive, require


class Precision(Choice):
    """Numerical precision in training."""

    auto = "auto"  # bf16 where the device supports it, else fp32
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Quantization(Choice):
    """How the weights of a model's linears are quantized by bitsandbytes when it is loaded."""

    nf4 = "nf4"  # 4-bit normal floats (QLoRA); inputs and products in float32
    int8 = "int8"  # LLM.int8, which also quantizes the linears' inputs


@dataclass
class ModelConfig:
    """A causal language model (conf/model)."""

    name: str = MISSING  # short name, used in run names
    path: str = MISSING  # hub id, folder, or `tiny` (built in)
    revision: Optional[str] = None  # hub revision
    tokenizer: Optional[str] = None  # hub id or folder; null: the model's own tokenizer
    learning_rate: float = 5e-5  # peak learning rate of full fine-tuning
    lora_learning_rate_scale: float = 10.0  # factor for LoRA's peak learning rate
    dropout: Optional[float] = None  # dropout of the model; null: as in its config.json
    # transformers' attn_implementation: eager, sdpa, flash_attention_2, ...; null: its default
    attention: Optional[str] = None
    # quantizes the linears of the blocks when the model is loaded; null: weights as they are
    quantize: Optional[Quantization] = None

    def __post_init__(self) -> None:
        positive(self, "model.", "learning_rate", "lora_learning_rate_scale")
        require(
            self.dropout is None or 0 <= self.dropout < 1,
            f"model.dropout={self.dropout}: must lie in [0, 1), or null for the model's own",
        )


class Extension(Choice):
    """Learning rate of the steps that are added to a finished run."""

    restart = "restart"  # the schedule and its warm-up again, over the added steps
    constant = "constant"  # optimizer.learning_rate, without warm-up or decay
    stretch = "stretch"  # the schedule of a run that has all steps from its start


ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
# Lightning's strategies that start the command again for each device; `ddp_spawn` and the like
# train copies that the run never sees
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp", "fsdp_cpu_offload")


@dataclass(frozen=True)
class Monitor:
    """A metric by which the best checkpoint is kept or training is stopped.

    Attributes:
        metric: the metric's name in metrics.csv.
        mode: `min` or `max`: which values are better.
        watcher: the watcher that measures it; None if it belongs to the validation.
    """

    metric: str
    mode: str
    watcher: Optional[str] = None


ROUGES = ("rouge1", "rouge2", "rougeLsum")
MONITORS = {
    "validation/loss": Monitor("validation/loss", "min"),
    "validation/perplexity": Monitor("validation/perplexity", "min"),
    **{name: Monitor(f"summaries/{name}_f1", "max", "summary_quality") for name in ROUGES},
    "circuit/faithfulness": Monitor("circuit/faithfulness", "max", "circuit_tracker"),
}


@dataclass
class TrainerConfig:
    """Devices, duration, batches and checkpoints of training (conf/trainer)."""

    accelerator: str = "auto"  # cpu, gpu, cuda, mps or auto
    devices: Any = 1  # a number, a list of device indices, or `auto`
    num_nodes: int = 1  # number of machines
    strategy: str = "auto"  # Lightning strategy: auto (ddp on several devices), ddp, fsdp, ...
    precision: Precision = Precision.auto
    max_epochs: int = 3  # passes over data.train
    max_steps: Optional[int] = None  # optimizer steps; null: determined by max_epochs
    # learning rate of the steps that resume=RUN trainer.max_steps=N adds to a finished run
    extension: Optional[Extension] = None
    batch_size: int = 16  # items per device and batch
    accumulate: int = 1  # batches per optimizer step
    buckets: bool = True  # batches of items with similar length; false: random batches
    # optimizer steps between validations; null: once per epoch
    validate_every: Optional[int] = None
    checkpoint_every: int = 100  # optimizer steps between checkpoints, from which runs resume
    keep_checkpoints: int = 1  # number of newest checkpoints to keep; -1 keeps all
    # metric whose best checkpoint is kept as checkpoints/best.ckpt: validation/loss,
    # validation/perplexity, rouge1, rouge2, rougeLsum or circuit/faithfulness
    keep_best: Optional[str] = None
    load_best: bool = False  # save and score the weights of the best checkpoint, not the last ones
    # metric, as for `keep_best`, that stops training when it no longer improves
    early_stopping: Optional[str] = None
    patience: int = 3  # values without improvement after which training stops
    min_delta: float = 0.0  # smallest change of the metric that counts as an improvement
    log_every: int = 10  # optimizer steps between logged values
    gradient_checkpointing: bool = False  # less memory, but another forward pass per step
    compile: bool = False  # use torch.compile
    threads: Optional[int] = None  # CPU threads; null: torch's choice
    # further arguments of Lightning's Trainer by name, such as {limit_val_batches: 10}
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            not self.strategy.startswith("deepspeed"),
            f"trainer.strategy={self.strategy}: DeepSpeed writes checkpoints of its own, from which"
            " runs can't be resumed here; choose fsdp",
        )
        for name, known in (("accelerator", ACCELERATORS), ("strategy", STRATEGIES)):
            value = getattr(self, name)
            choices = ", ".join(known)
            require(value in known, f"trainer.{name}={value}: unknown; choose from {choices}")
        counts = ("num_nodes", "max_epochs", "max_steps", "batch_size", "accumulate")
        every = ("validate_every", "checkpoint_every", "log_every", "threads")
        at_least(self, "trainer.", 1, *counts, *every)
        devices = self.devices
        number = type(devices) is int and (devices == -1 or devices > 0)
        indices = isinstance(devices, list) and all(type(index) is int for index in devices)
        require(
            number or (indices and bool(devices)) or devices == "auto",
            f"trainer.devices={devices}: must be a number, a list of device indices such as [0,1],"
            " or `auto`",
        )
        require(
            self.keep_checkpoints == -1 or self.keep_checkpoints > 0,
            f"trainer.keep_checkpoints={self.keep_checkpoints}: must be 1 or more, or -1 for all",
        )
        self._check_monitors()

    def _check_monitors(self) -> None:
        at_least(self, "trainer.", 1, "patience")
        at_least(self, "trainer.", 0, "min_delta")
        for name in ("keep_best", "early_stopping"):
            value = getattr(self, name)
            require(
                value is None or value in MONITORS,
                f"trainer.{name}={value}: unknown; choose from {', '.join(MONITORS)}",
            )
        require(
            not self.load_best or self.keep_best is not None,
            "trainer.load_best=true: no best checkpoint is kept; give its metric, such as"
            " trainer.keep_best=validation/loss",
        )
        unvalidated = [name for name, one in self.monitors.items() if one.watcher is None]
        require(
            self.extra.get("limit_val_batches") != 0 or not unvalidated,
            f"trainer.extra.limit_val_batches=0: without validation {', '.join(unvalidated)} has no"
            " values; leave one of the two out",
        )

    @property
    def monitors(self) -> dict[str, Monitor]:
        """The metrics that settings of this section name, by the setting's name."""
        names = {name: getattr(self, name) for name in ("keep_best", "early_stopping")}
        return {name: MONITORS[value] for name, value in names.items() if value is not None}
