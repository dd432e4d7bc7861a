"""Logs how much attention the summary pays to the facts of the document."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.reporting.views.head_maps import salient_attention
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.metric_names import WATCHED

LOGGED = WATCHED["salient_attention"]


class SalientAttention(Watcher):
    """Watcher that logs attention from the measured rows to the tokens of the document's facts.

    On the built-in wire these are the key facts of the summary's event; the facts of the article's
    other event are logged beside them as a control. On other data they are the oracle's sentences
    (`evaluation.salient_spans`).
    """

    concerns = ("spans",)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log means, a table by head, and maps of heads.

        Args:
            record, trainer, module: as in `Watcher.log_record`.
        """
        names = [name for name in LOGGED.overall if name in record.values]
        means = {**overall(record, *names), **by_layer(record, *LOGGED.by_layer)}
        self.log_metrics(trainer, module, means)
        rows = [row for name in names for row in by_head(record, name)]
        self.log_table(trainer, "probes/salient_attention", HEAD_COLUMNS, rows)
        self.log_picture(
            trainer,
            "salient_attention",
            lambda: salient_attention(self.probing.records_until(record.step)),
        )
