"""Settings of `sumcirc report` and `sumcirc dashboard`, which read finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import positive, require
from sumcirc.schema.watching import LoggerConfig

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "facts")


@dataclass
class ReportConfig:
    """Comparison of the arms of a sweep with controls."""

    paths: list[str] = field(default_factory=list)  # runs and sweeps: the words without `=`
    out: Optional[str] = None  # folder; null: comparison/ in the sweep's folder
    metric: str = "rougeLsum"  # score that is tested: of METRICS, F1
    # controls: `random` (the random selector), `all` (LoRA on all layers), or an arm's label
    against: list[str] = field(default_factory=lambda: ["random", "all"])
    loss: Optional[float] = None  # validation loss to reach; null: the lowest that all runs reach
    confidence: float = 0.95  # level of the intervals
    logger: LoggerConfig = MISSING

    def __post_init__(self) -> None:
        lists_of_one(self)
        require(
            self.metric in METRICS,
            f"metric={self.metric}: unknown; choose from {', '.join(METRICS)}",
        )
        require(
            bool(self.against) and len(set(self.against)) == len(self.against),
            f"against={self.against}: name one control or more, each once",
        )
        positive(self, "", "loss")
        require(
            0 < self.confidence < 1,
            f"confidence={self.confidence}: must lie between 0 and 1",
        )


@dataclass
class DashboardConfig:
    """A saved W&B workspace and a report of a sweep."""

    paths: list[str] = field(default_factory=list)  # runs and sweeps: the words without `=`
    out: Optional[str] = None  # folder; null: dashboard/ in the sweep's folder
    metric: str = "rougeLsum"  # score that runs are compared by: of METRICS, F1
    push: bool = False  # upload to W&B; otherwise write files, without network
    entity: Optional[str] = None  # null: the entity of the runs, or the user's default
    project: Optional[str] = None  # null: the project of the runs

    def __post_init__(self) -> None:
        lists_of_one(self)
        require(
            self.metric in METRICS,
            f"metric={self.metric}: unknown; choose from {', '.join(METRICS)}",
        )
