"""Settings of the optimizer and of the schedule of its learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional

from sumcirc.schema.choices import Choice, renamed
from sumcirc.schema.require import at_least, positive, require


class OptimizerKind(Choice):
    """Optimizer."""

    adamw = "adamw"  # AdamW (torch)
    adafactor = "adafactor"  # Adafactor (torch): factored second moments, which take little memory
    sgd = "sgd"  # stochastic gradient descent with momentum (torch)
    muon = "muon"  # Muon (torch) for hidden matrices, AdamW for embeddings, biases and norms
    schedulefree = "schedulefree"  # AdamW of the package schedulefree, which needs no schedule
    loraplus = "loraplus"  # LoRA+ (PEFT): AdamW with a higher learning rate for lora_B
    other = "other"  # the class that `optimizer._target_` names


ADAM = tuple(OptimizerKind[name] for name in ("adamw", "muon", "schedulefree", "loraplus"))
# the optimizers that have a setting; all of them have the settings that are not listed
OWNERS = {
    "beta1": ADAM,
    "beta2": ADAM,
    "epsilon": ADAM,
    "momentum": (OptimizerKind.sgd, OptimizerKind.muon),
    "ratio": (OptimizerKind.loraplus,),
}
MOMENTUM = {OptimizerKind.sgd: 0.9, OptimizerKind.muon: 0.95}
RATIO = 16.0  # the value that the authors of LoRA+ recommend


class Schedule(Choice):
    """Learning rate schedule after warm-up, as transformers defines it."""

    linear = "linear"  # to 0 at the last step
    cosine = "cosine"  # to 0 at the last step
    constant = "constant"
    cosine_with_restarts = "cosine_with_restarts"  # `arguments.num_cycles` hard restarts
    cosine_with_min_lr = "cosine_with_min_lr"  # to `arguments.min_lr_rate` of the peak
    polynomial = "polynomial"  # with `arguments.power`
    inverse_sqrt = "inverse_sqrt"
    warmup_stable_decay = "warmup_stable_decay"  # decays over the last `num_decay_steps`
    other = "other"  # the class that `scheduler._target_` names


@dataclass
class OptimizerConfig:
    """The optimizer; biases and norms have no weight decay (conf/optimizer)."""

    kind: OptimizerKind = OptimizerKind.adamw
    learning_rate: float = 5e-5  # peak learning rate
    weight_decay: float = 0.01  # weight decay of matrices
    # decay rate of the mean of gradients; of adamw, muon (for what AdamW updates), schedulefree and
    # loraplus
    beta1: float = 0.9
    beta2: float = 0.999  # decay rate of the mean of squared gradients; of the same optimizers
    epsilon: float = 1e-8  # added to the denominator, for stability; of the same optimizers
    momentum: Optional[float] = None  # of sgd (null: 0.9) and muon (null: 0.95)
    ratio: Optional[float] = None  # of loraplus: learning rate of lora_B over lora_A's; null: 16
    warmup: Optional[float] = None  # old name of scheduler.warmup
    schedule: Optional[Schedule] = None  # old name of scheduler.kind
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    _target_: Optional[str] = None  # class of any other optimizer, e.g. torch.optim.RMSprop
    # further arguments of the optimizer's class, e.g. {amsgrad: true}
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._target_ is not None:
            require(
                self.kind in (OptimizerKind.adamw, OptimizerKind.other),
                f"optimizer._target_={self._target_}: replaces optimizer={self.kind}; leave one of"
                " the two out",
            )
            self.kind = OptimizerKind.other
        require(
            self.kind is not OptimizerKind.other or self._target_ is not None,
            "optimizer.kind=other: needs the class, as optimizer._target_=torch.optim.RMSprop",
        )
        self._check_owners()
        at_least(self, "optimizer.", 0, "weight_decay", "clip")
        at_least(self, "optimizer.", 1, "ratio")
        positive(self, "optimizer.", "learning_rate", "epsilon")
        for name in ("beta1", "beta2", "warmup", "momentum"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, f"optimizer.{name}={value}: must be in [0, 1)")
        if self.momentum is None:
            self.momentum = MOMENTUM.get(self.kind)
        if self.ratio is None and self.kind is OptimizerKind.loraplus:
            self.ratio = RATIO
        _plain_arguments("optimizer.arguments", self.arguments)

    def _check_owners(self) -> None:
        defaults = {one.name: one.default for one in fields(self)}
        for name, owners in OWNERS.items():
            value = getattr(self, name)
            require(
                self.kind in owners or value == defaults[name],
                f"optimizer.{name}={value}: is for optimizer={'|'.join(map(str, owners))}, not for"
                f" {self.shown}",
            )

    @property
    def shown(self) -> str:
        """The optimizer as it is typed, such as `optimizer=muon`."""
        if self.kind is OptimizerKind.other:
            return f"optimizer._target_={self._target_}"
        return f"optimizer={self.kind}"


@dataclass
class SchedulerConfig:
    """The schedule of the learning rate (conf/scheduler)."""

    kind: Schedule = Schedule.linear
    # fraction of all steps over which the learning rate rises from 0; of every kind but `other`
    warmup: float = 0.05
    # class of any other schedule, e.g. torch.optim.lr_scheduler.ExponentialLR
    _target_: Optional[str] = None
    # further arguments of the schedule, e.g. {num_cycles: 3}; the text `total_steps` stands for the
    # number of optimizer steps of the run
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, f"scheduler.warmup={self.warmup}: must lie in [0, 1)")
        if self._target_ is not None:
            require(
                self.kind in (Schedule.linear, Schedule.other),
                f"scheduler._target_={self._target_}: replaces scheduler={self.kind}; leave one of"
                " the two out",
            )
            default = next(one.default for one in fields(self) if one.name == "warmup")
            require(
                self.warmup in (0, default),
                f"scheduler.warmup={self.warmup}: is for the schedules of conf/scheduler;"
                f" {self._target_} has no warm-up",
            )
            self.kind, self.warmup = Schedule.other, 0.0
        require(
            self.kind is not Schedule.other or self._target_ is not None,
            "scheduler.kind=other: needs the class, as"
            " scheduler._target_=torch.optim.lr_scheduler.ExponentialLR",
        )
        _plain_arguments("scheduler.arguments", self.arguments)

    @property
    def shown(self) -> str:
        """The schedule as it is typed, such as `scheduler=cosine`."""
        if self.kind is Schedule.other:
            return f"scheduler._target_={self._target_}"
        return f"scheduler={self.kind}"


def scheduler_of(optimizer: OptimizerConfig, scheduler: SchedulerConfig) -> SchedulerConfig:
    """Return the settings of the schedule, with `optimizer.schedule` and `.warmup` if they are set.

    Args:
        optimizer: settings of the optimizer; the two old names take precedence over `scheduler`.
        scheduler: settings of the schedule.
    """
    old = {"kind": optimizer.schedule, "warmup": optimizer.warmup}
    given = {name: value for name, value in old.items() if value is not None}
    for name in given:
        word = "schedule" if name == "kind" else name
        renamed(f"optimizer.{word}", {f"optimizer.{word}": f"scheduler.{name}"})
    return replace(scheduler, **given) if given else scheduler


def check_fit(
    optimizer: OptimizerConfig, scheduler: SchedulerConfig, strategy: str, lora: bool
) -> None:
    """Refuse an optimizer that doesn't go with the schedule, the strategy or what is trained.

    Args:
        optimizer: settings of the optimizer.
        scheduler: settings of the schedule.
        strategy: Lightning's strategy.
        lora: whether adapters are trained.

    Raises:
        UserError: they don't go together.
    """
    old = optimizer.schedule
    typed = scheduler.shown if old is None else f"optimizer.schedule={old}"
    require(
        lora or optimizer.kind is not OptimizerKind.loraplus,
        "optimizer=loraplus: is for adaptation=lora, since it treats lora_A and lora_B differently",
    )
    require(
        optimizer.kind is not OptimizerKind.schedulefree or scheduler.kind is Schedule.constant,
        f"{typed}: optimizer=schedulefree takes the place of a schedule; leave it out, or use"
        " scheduler=constant",
    )
    require(
        not strategy.startswith("fsdp")
        or optimizer.kind in (OptimizerKind.adamw, OptimizerKind.sgd, OptimizerKind.other),
        f"{optimizer.shown}: needs the shapes and names of parameters, which"
        f" trainer.strategy={strategy} flattens; use optimizer=adamw or sgd",
    )


def _plain_arguments(setting: str, arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        require(
            name.isidentifier() and not name.startswith("_"),
            f"{setting}={dict(arguments)}: {name!r} is not the name of an argument",
        )
