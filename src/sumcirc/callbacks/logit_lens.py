"""Logs what the residual stream predicts after each layer (the logit lens)."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import by_layer
from sumcirc.reporting.views.lens_curves import lens_in_training
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.metric_names import WATCHED

LOGGED = WATCHED["logit_lens"]


class LogitLens(Watcher):
    """Watcher that logs what the model would predict from the residual stream at each depth.

    The measures (`measures.logit_lens`) are the log-probability of the reference's next token, the
    KL of this prediction from the model's own, and the share of equal most likely tokens.
    """

    concerns = ("logit_lens",)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log all measures by layer, and a picture of their curves so far.

        Args:
            record, trainer, module: as in `Watcher.log_record`.
        """
        self.log_metrics(trainer, module, by_layer(record, *LOGGED.by_layer))
        self.log_picture(
            trainer,
            "logit_lens",
            lambda: lens_in_training(self.probing.records_until(record.step)),
        )
