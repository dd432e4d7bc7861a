"""Logs how far attention and predictions are from the frozen base model, in nats."""

from __future__ import annotations

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.tracking.metric_names import WATCHED
from sumcirc.training.module import SummarizationModule

LOGGED = WATCHED["base_divergence"]


class BaseDivergence(Watcher):
    """Log KL in both directions and Jensen-Shannon divergence, of attention and of next tokens."""

    def observe(self, trainer: pl.Trainer, module: SummarizationModule) -> None:
        """Log the means, overall and by layer.

        Args:
            trainer: knows the step and the processes.
            module: its model is measured, and its loggers are used.
        """
        record = self.probing.record(trainer, module)
        if record is None:
            return
        module.record({**overall(record, *LOGGED.overall), **by_layer(record, *LOGGED.by_layer)})
        rows = [row for name in LOGGED.by_layer for row in by_head(record, name)]
        self.log_table(trainer, "probes/base_divergence", HEAD_COLUMNS, rows)
