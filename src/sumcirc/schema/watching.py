"""What watches a run, and where it is logged."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from sumcirc.schema.circuits import CircuitMetric, CircuitOptions
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class ProbeRows(Enum):
    """Which query positions are measured."""

    summary = "summary"  # those that predict the summary and EOS
    document = "document"  # those of the document
    all = "all"


WATCHERS = (
    *("attention_entropy", "base_divergence", "activation_drift"),
    *("summary_quality", "circuit_tracker"),
)


def _tracked() -> CircuitOptions:
    """Smaller than those of `sumcirc circuit`, since they are paid at every scheduled step."""
    return CircuitOptions(documents=16, sizes=[0.01, 0.05, 0.2, 1.0], random_circuits=1)


@dataclass
class ProbesConfig:
    """The fixed documents that every model state is probed on."""

    documents: int = 32  # of data.validation, the same in every run of a sweep
    rows: ProbeRows = ProbeRows.summary
    batch_size: int = 8  # documents at once

    def __post_init__(self) -> None:
        at_least(self, "callbacks.probes.", 1, "documents", "batch_size")


@dataclass
class ProbeScheduleConfig:
    """When the model is probed, beside step 0 and the last step; all watchers share it."""

    points: int = 4  # log-spaced steps between the first and the last
    every: Optional[int] = None  # also every so many optimizer steps
    # the most that probing may take, as a share of training time; a step that would pass it is left
    # out (so which steps are recorded then depends on the clock). null: no limit
    budget: Optional[float] = None

    def __post_init__(self) -> None:
        at_least(self, "callbacks.schedule.", 0, "points")
        at_least(self, "callbacks.schedule.", 1, "every")
        positive(self, "callbacks.schedule.", "budget")


@dataclass
class CallbacksConfig:
    """conf/callbacks: what watches a run."""

    progress: bool = True  # rich progress bar
    watch: list[str] = field(default_factory=list)  # of WATCHERS
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    schedule: ProbeScheduleConfig = field(default_factory=ProbeScheduleConfig)
    circuit: CircuitOptions = field(default_factory=_tracked)  # of circuit_tracker
    # further Lightning callbacks by name, each with `_target_` and its arguments
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lists_of_one(self)
        require(
            self.circuit.metric is not CircuitMetric.auto,
            "callbacks.circuit.metric=auto: is for `sumcirc circuit`; choose a metric",
        )
        unknown = [name for name in self.watch if name not in WATCHERS]
        require(
            not unknown,
            f"callbacks.watch={self.watch}: unknown {unknown}; choose from {', '.join(WATCHERS)}",
        )
        require(
            len(set(self.watch)) == len(self.watch),
            f"callbacks.watch={self.watch}: a watcher is named twice",
        )


class WandbMode(Enum):
    """Where Weights & Biases logs."""

    auto = "auto"  # online where the user is logged in, else offline
    online = "online"
    offline = "offline"  # into the run directory; `make sync` uploads it


class LoggerKind(Enum):
    """Trackers beside the run directory."""

    wandb = "wandb"
    none = "none"  # the run directory alone


TAG_LENGTH = 64  # characters that Weights & Biases takes


@dataclass
class LoggerConfig:
    """conf/logger: Weights & Biases, or the run directory alone."""

    kind: LoggerKind = LoggerKind.wandb
    mode: WandbMode = WandbMode.auto
    project: str = "sumcirc"  # of Weights & Biases
    entity: Optional[str] = None  # user or team; null: yours
    tags: list[str] = field(default_factory=list)  # of the run
    artifact: Optional[bool] = None  # log what was trained; null: only when online
    samples: int = 16  # rows of the sample summary table

    def __post_init__(self) -> None:
        lists_of_one(self)
        for tag in self.tags:
            require(
                0 < len(tag) <= TAG_LENGTH,
                f"logger.tags={self.tags}: a tag must have 1 to {TAG_LENGTH} characters",
            )
        at_least(self, "logger.", 0, "samples")
