"""Logs attention entropy and where attention goes, compared with the base model."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from sumcirc.callbacks.measuring import Watcher
from sumcirc.callbacks.scalars import HEAD_COLUMNS, by_head, by_layer, overall
from sumcirc.reporting.views.head_maps import entropy
from sumcirc.statistics import MIN_DOCUMENTS, share_below_zero, significantly_different
from sumcirc.tracking.measure_records import ENTROPY, ProbeRecord
from sumcirc.tracking.metric_names import WATCHED

LOGGED = WATCHED["attention_entropy"]


class AttentionEntropy(Watcher):
    """Watcher that logs attention entropy, attention to spans of the text, and salience alignment.

    Salience alignment is the rank correlation of a head's attention with the salience of tokens.
    """

    concerns = ("attention",)

    def log_record(self, record: ProbeRecord, trainer: pl.Trainer, module: Any) -> None:
        """Log the measures' means, the fraction of heads below the base's entropy, and a heat map.

        Args:
            record, trainer, module: as in `Watcher.log_record`.
        """
        base = self.probing.base_record
        self.log_metrics(
            trainer,
            module,
            {
                **overall(record, *LOGGED.overall),
                **by_layer(record, *LOGGED.by_layer),
                **fallen_heads(record, base),
            },
        )
        change = record.values[ENTROPY] - base.values[ENTROPY]
        rows = by_head(record, ENTROPY)
        rows += by_head(record, ENTROPY, change, "attention/entropy_difference")
        self.log_table(trainer, "probes/attention_entropy", HEAD_COLUMNS, rows)
        self.log_picture(trainer, "entropy_difference", lambda: entropy(record, base))


def fallen_heads(record: ProbeRecord, base: ProbeRecord) -> dict[str, float]:
    """Return the fractions of heads with lower, and significantly lower, entropy than the base.

    Significance is tested with the Wilcoxon signed-rank test over documents, at a false discovery
    rate of 5 %.

    Args:
        record: measures of the model.
        base: measures of the base model on the same documents.

    Returns:
        Fractions by metric name. The ends of the first fraction's bootstrap interval are included
        if there are at least `MIN_DOCUMENTS` documents, and the second fraction if there are at
        least two.
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
