"""Logs how far the residual stream and the MLP neurons have moved from the base model, by layer."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import by_layer
from sumcirc.reporting.views.layer_profiles import drift
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.metric_names import WATCHED

LOGGED = WATCHED["activation_drift"]


class ActivationDrift(Watcher):
    """Watcher that logs how the residual stream and MLP neurons differ from the base's, by layer.

    The measures of the residual stream are CKA, RSA, centred cosine, relative change, and ActMag
    (the mean absolute activation).
    """

    concerns = ("drift",)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log all measures by layer, and a picture of their curves so far.

        Args:
            record, trainer, module: as in `Watcher.log_record`.
        """
        self.log_metrics(trainer, module, by_layer(record, *LOGGED.by_layer))
        self.log_picture(trainer, "drift", lambda: drift(self.probing.records_until(record.step)))
