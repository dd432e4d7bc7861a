"""Settings of callbacks that analyse the model during training, and of logging."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from sumcirc.schema.choices import Choice, renamed
from sumcirc.schema.circuits import CircuitMetric, CircuitOptions
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require


class ProbeRows(Choice):
    """Query positions that are measured."""

    summary = "summary"  # positions that predict the summary and EOS
    document = "document"  # positions of the document
    all = "all"


WATCHERS = (
    *("attention_entropy", "base_divergence", "activation_drift"),
    *("logit_lens", "salient_attention"),
    *("summary_quality", "circuit_tracker"),
)


def _tracked() -> CircuitOptions:
    """Return cheaper settings than those of `sumcirc circuit`, paid at each scheduled step."""
    return CircuitOptions(
        documents=16, held_out=0.0, sizes=[0.01, 0.05, 0.2, 1.0], random_circuits=1
    )


@dataclass
class ProbesConfig:
    """Fixed documents on which every model state is measured."""

    documents: int = 32  # documents of data.validation, the same in every run of a sweep
    rows: ProbeRows = ProbeRows.summary
    batch_size: int = 8  # documents processed at once

    def __post_init__(self) -> None:
        at_least(self, "callbacks.probes.", 1, "documents", "batch_size")


@dataclass
class ProbeScheduleConfig:
    """Steps at which watchers measure the model, besides step 0 and the last step."""

    points: int = 4  # number of log-spaced steps between the first and the last
    every: Optional[int] = None  # also every so many optimizer steps
    # largest fraction of training time for measuring; a step that would exceed it is skipped (so
    # the recorded steps depend on the clock). null: no limit
    budget: Optional[float] = None

    def __post_init__(self) -> None:
        at_least(self, "callbacks.schedule.", 0, "points")
        at_least(self, "callbacks.schedule.", 1, "every")
        positive(self, "callbacks.schedule.", "budget")


@dataclass
class CallbacksConfig:
    """Callbacks: analyses during training (watchers), progress and others (conf/callbacks)."""

    progress: bool = True  # show a progress bar
    watch: list[str] = field(default_factory=list)  # of WATCHERS
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    schedule: ProbeScheduleConfig = field(default_factory=ProbeScheduleConfig)
    circuit: CircuitOptions = field(default_factory=_tracked)  # circuit settings of circuit_tracker
    # further Lightning callbacks by name, each with `_target_` and its arguments
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lists_of_one(self)
        require(
            self.circuit.metric is not CircuitMetric.auto,
            "callbacks.circuit.metric=auto: is for `sumcirc circuit`; choose a metric",
        )
        require(
            not self.circuit.held_out,
            f"callbacks.circuit.held_out={self.circuit.held_out}: circuits are judged in-sample"
            " while a model trains; leave it out, and run `sumcirc circuit checkpoint=RUN`"
            " afterwards",
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


class WandbMode(Choice):
    """Logging mode of Weights & Biases."""

    auto = "auto"  # online if the user is logged in, else offline
    online = "online"
    offline = "offline"  # into the run directory; `make sync` uploads it


class LoggerKind(Choice):
    """Values of `logger.kind`, from when a run had at most one logger."""

    wandb = "wandb"
    none = "none"  # only the run directory


TAG_LENGTH = 64  # characters that Weights & Biases accepts
CURVES = ("csv", "tensorboard", "mlflow")  # loggers of Lightning, for training runs


@dataclass
class LoggerConfig:
    """Loggers in addition to the run directory's own files (conf/logger)."""

    wandb: Optional[bool] = None  # Weights & Biases; null: if no other logger is chosen
    csv: bool = False  # csv/metrics.csv in the run directory, with a column for each metric
    tensorboard: bool = False  # event files in tensorboard/ of the run directory
    mlflow: bool = False  # MLflow
    # further Lightning loggers by name, each with `_target_` and its arguments
    extra: dict[str, Any] = field(default_factory=dict)
    kind: Optional[LoggerKind] = None  # old name of logger=wandb and logger=none
    # MLflow's server or database; null: MLFLOW_TRACKING_URI, else mlflow.db in runs_dir
    tracking_uri: Optional[str] = None
    mode: WandbMode = WandbMode.auto
    project: str = "sumcirc"  # W&B project, MLflow experiment
    entity: Optional[str] = None  # W&B user or team; null: your default
    tags: list[str] = field(default_factory=list)  # W&B tags of the run
    artifact: Optional[bool] = None  # log the trained weights; null: only when online
    samples: int = 16  # rows in the table of sample summaries

    def __post_init__(self) -> None:
        lists_of_one(self)
        for tag in self.tags:
            require(
                0 < len(tag) <= TAG_LENGTH,
                f"logger.tags={self.tags}: a tag must have 1 to {TAG_LENGTH} characters",
            )
        at_least(self, "logger.", 0, "samples")
        if self.kind is not None:
            renamed("logger.kind", {"logger.kind": f"logger={self.kind}"})
            self.wandb, self.kind = self.kind is LoggerKind.wandb, None
        if self.wandb is None:
            self.wandb = not self.curves
        require(
            self.mlflow or self.tracking_uri is None,
            f"logger.tracking_uri={self.tracking_uri}: is for logger=mlflow",
        )

    @property
    def curves(self) -> list[str]:
        """The chosen loggers of training runs other than W&B, as they are typed."""
        chosen = [f"logger={name}" for name in CURVES if getattr(self, name)]
        return [*chosen, *(f"logger.extra.{name}" for name in self.extra)]
