"""How far attention and predictions are from the frozen base's, in nats."""

from __future__ import annotations

import pytorch_lightning as pl

from sumcirc.callbacks.probing import Watcher
from sumcirc.callbacks.values import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.modeling.module import SummarizationModule

OVERALL = (
    "attention/kl_tuned_base",
    "attention/kl_base_tuned",
    "attention/js",
    "output/kl_tuned_base",
    "output/kl_base_tuned",
    "output/js",
    "output/top1_agreement",
)
BY_LAYER = ("attention/kl_tuned_base", "attention/js")


class BaseDivergence(Watcher):
    """Logs KL both ways and Jensen-Shannon divergence of attention and of next tokens."""

    def observe(self, trainer: pl.Trainer, module: SummarizationModule) -> None:
        """Log the means, overall and by layer."""
        record = self.probing.record(trainer, module)
        if record is None:
            return
        module.record({**overall(record, *OVERALL), **by_layer(record, *BY_LAYER)})
        rows = [row for name in BY_LAYER for row in by_head(record, name)]
        self.log_table(trainer, "probes/base_divergence", HEAD_COLUMNS, rows)
