"""Lightning's logger of Weights & Biases, with the names and units of docs/wandb.md.

It is apart from `tracking.wandb` because it imports Lightning, which the latter's other users don't
need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from sumcirc.tracking.metric_names import STEP
from sumcirc.tracking.wandb_values import times_100

# curves of a layer or of an interval's end: too many for a run's summary and the table of runs
DETAIL = re.compile(r".+/(layer_\d+|embedding|low|high)")


class RunLogger(WandbLogger):
    """A `WandbLogger` that also logs ROUGE times 100, and keeps details out of the run's summary.

    W&B copies the last value of each curve to the summary. With a curve for each layer these are
    hundreds of values, so those curves have no summary value.

    Args:
        experiment: the W&B run.
    """

    def __init__(self, experiment: Any) -> None:
        super().__init__(experiment=experiment)
        self._defined: set[str] = set()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at an optimizer step.

        Args:
            metrics: value of each curve, by its name in metrics.csv.
            step: the optimizer step.
        """
        for name in metrics:
            if DETAIL.fullmatch(name) and name not in self._defined:
                self._defined.add(name)
                # of two patterns that match a name W&B takes either, so the name itself is defined
                self.experiment.define_metric(name, step_metric=STEP, summary="none")
        super().log_metrics(times_100(metrics), step)
