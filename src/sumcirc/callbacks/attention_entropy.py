"""Which heads focus or spread: attention entropy and where attention goes, beside the base."""

from __future__ import annotations

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.statistics import MIN_DOCUMENTS, share_below_zero, significantly_different
from sumcirc.tracking.measure_records import ProbeRecord
from sumcirc.tracking.metric_names import WATCHED
from sumcirc.training.module import SummarizationModule

ENTROPY = "attention/entropy"
LOGGED = WATCHED["attention_entropy"]


class AttentionEntropy(Watcher):
    """Logs attention entropy, masses and salience alignment."""

    def observe(self, trainer: pl.Trainer, module: SummarizationModule) -> None:
        """Log the means, and the share of heads whose entropy fell."""
        record = self.probing.record(trainer, module)
        if record is None:
            return
        base = self.probing.base_record
        module.record(
            {
                **overall(record, *LOGGED.overall),
                **by_layer(record, *LOGGED.by_layer),
                **fallen_heads(record, base),
            }
        )
        change = record.values[ENTROPY] - base.values[ENTROPY]
        rows = by_head(record, ENTROPY)
        rows += by_head(record, ENTROPY, change, "attention/entropy_difference")
        self.log_table(trainer, "probes/attention_entropy", HEAD_COLUMNS, rows)


def fallen_heads(record: ProbeRecord, base: ProbeRecord) -> dict[str, float]:
    """The share of heads whose entropy is below the base's, and the share significantly so.

    Significance: Wilcoxon signed-rank over documents, false discovery rate 5 %.
    """
    differences = record.values[ENTROPY] - base.values[ENTROPY]
    share = share_below_zero(differences)
    significant = significantly_different(differences) & (differences.mean(-1) < 0)
    found = {"attention/heads_fell": share.mean}
    if share.n >= MIN_DOCUMENTS:
        found |= {"attention/heads_fell/low": share.low, "attention/heads_fell/high": share.high}
    if len(record.documents) > 1:
        found["attention/heads_fell_significantly"] = float(significant.mean())
    return found
