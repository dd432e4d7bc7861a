"""Settings of the verbs that read finished runs: `report`, `dashboard` and `placement`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.schema.adapting import Granularity
from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.require import at_least, positive, require
from sumcirc.schema.watching import LoggerConfig

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "facts")
# of a landscape; `nll` is there if benchmarks/placement_outcomes.py has added it
LANDSCAPE_METRICS = (*METRICS, "facts_wrong", "nll")


def column_of(metric: str) -> str:
    """Return the column of documents.parquet that has a score.

    Args:
        metric: name of the score, of `METRICS` or `LANDSCAPE_METRICS`.
    """
    return f"{metric}_f1" if metric.startswith("rouge") else metric


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
    # difference in `metric`, as shown in tables, such as 1.0 for a point of ROUGE: the report says
    # how many seeds and documents show it; null: none
    wanted: Optional[float] = None
    # arms that the planned sweep compares with a control, for `wanted`; null: as many as these runs
    arms: Optional[int] = None
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
        positive(self, "", "loss", "wanted")
        at_least(self, "", 1, "arms")
        require(
            self.arms is None or self.wanted is not None,
            f"arms={self.arms}: is for planning; say which difference the planned sweep is to show,"
            " such as wanted=1.0, or leave it out",
        )
        require(
            0 < self.confidence < 1,
            f"confidence={self.confidence}: must lie between 0 and 1",
        )


@dataclass
class PlacementConfig:
    """The landscape of all choices of layers, and what a selector's choice is worth in it."""

    # a sweep of all sets of layers or of all single modules, runs, or a stored landscape: the words
    # without `=`
    paths: list[str] = field(default_factory=list)
    # layers or a module, a selector or a file whose place is asked for: [2,3,5], [0.qkv], page,
    # my_selector.py or my_selector.py:FUNCTION; null: show the whole landscape
    score: Any = None
    # other landscapes with which this one is compared: sweeps or stored landscapes
    against: list[str] = field(default_factory=list)
    metric: str = "facts"  # score that is analysed: of LANDSCAPE_METRICS
    size: Optional[int] = None  # layers of each set; null: if the runs have sets of one size only
    # what is chosen from; null: single modules if the runs have all of them, else layers
    granularity: Optional[Granularity] = None
    confidence: float = 0.95  # level of the intervals
    documents: Optional[int] = None  # documents that a scored selector uses; null: its default
    threads: Optional[int] = None  # CPU threads of a scored selector; null: torch's choice
    out: Optional[str] = None  # folder; null: placement/ in the sweep's folder, with `score` none
    cache_dir: str = MISSING  # folder of results that selectors compute once

    def __post_init__(self) -> None:
        lists_of_one(self)
        require(
            self.metric in LANDSCAPE_METRICS,
            f"metric={self.metric}: unknown; choose from {', '.join(LANDSCAPE_METRICS)}",
        )
        at_least(self, "", 1, "size", "documents", "threads")
        require(
            self.granularity is not Granularity.module or self.size in (None, 1),
            f"size={self.size}: is a number of layers, and single modules are one at a time; leave"
            " it out, or granularity=module",
        )
        require(
            not self.against or self.score is None,
            f"score={self.score}: is judged by one landscape; leave out against=, or score=",
        )
        for name in ("documents", "threads"):
            value = getattr(self, name)
            require(
                value is None or not (self.score is None or isinstance(self.score, list)),
                f"{name}={value}: has no effect without a selector that is scored; add"
                " score=SELECTOR, or leave it out",
            )
        require(
            0.5 < self.confidence < 1,
            f"confidence={self.confidence}: must lie between 0.5 and 1",
        )

    @property
    def column(self) -> str:
        """The column of documents.parquet that has the score."""
        return column_of(self.metric)


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
