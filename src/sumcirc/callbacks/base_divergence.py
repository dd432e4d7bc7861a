"""Logs how far attention and predictions are from the frozen base model, in nats."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.reporting.views.head_maps import divergence
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.metric_names import WATCHED

LOGGED = WATCHED["base_divergence"]


class BaseDivergence(Watcher):
    """Watcher that logs divergences from the base model, in nats.

    These are the KL in both directions and the Jensen-Shannon divergence, for attention and for
    next-token distributions.
    """

    concerns = ("divergence",)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log the mean divergences, overall and by layer, and a heat map of heads.

        Args:
            record, trainer, module: as in `Watcher.log_record`.
        """
        means = {**overall(record, *LOGGED.overall), **by_layer(record, *LOGGED.by_layer)}
        self.log_metrics(trainer, module, means)
        rows = [row for name in LOGGED.by_layer for row in by_head(record, name)]
        self.log_table(trainer, "probes/base_divergence", HEAD_COLUMNS, rows)
        self.log_picture(trainer, "attention_divergence", lambda: divergence(record))
