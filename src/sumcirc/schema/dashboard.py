"""Settings of `sumcirc dashboard` (conf/dashboard.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from sumcirc.schema.lists import lists_of_one
from sumcirc.schema.report import METRICS
from sumcirc.schema.require import require


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
