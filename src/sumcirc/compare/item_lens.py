"""The logit lens of a model on items: what its residual stream predicts at each depth.

`measures.logit_lens` has formulas and source. The metric of an item under the lens is its metric
with the logits of the residual stream at that depth in place of the model's own; at the last depth
it is the item's metric. The logits of one batch and one depth exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sumcirc.compare.items.item_set import ItemBatch, ItemSet
from sumcirc.measures.logit_lens import (
    beside_output,
    check_logit_lens,
    lens_logits,
    log_distribution,
)
from sumcirc.measures.representation import document_means
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference

METRIC = "metric"
NAMES = (METRIC, "kl_model_lens", "top1_agreement")


@dataclass(frozen=True)
class ItemLens:
    """What the residual stream at each depth predicts.

    Attributes:
        values: [streams, items] by the names in NAMES: the metric in its unit, KL(model || lens) in
            nats, and the share of the positions that are read at which the most likely token is
            that of the model. The first stream is the embedding, the last one is read by the final
            norm.
    """

    values: dict[str, np.ndarray]


def item_lens(
    hooked: HookedModel,
    items: ItemSet,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> ItemLens:
    """Measure what a model's residual streams predict, at the positions that are read.

    Args:
        hooked: the model, including its adapters that are switched on.
        items: the items on which the model is run.
        batch_size: number of items in a batch.
        progress: called with the number of newly completed items.

    Raises:
        UserError: the lens of the last stream doesn't give the model's logits.
    """
    check_logit_lens(hooked, torch.from_numpy(items.items[0].ids)[None].long())
    values = {name: np.empty((hooked.shape.layers + 1, len(items))) for name in NAMES}
    with inference(hooked.model):
        for batch in items.batches(batch_size, hooked.device):
            for name, found in _of_batch(hooked, batch).items():
                values[name][:, batch.places] = found.double().cpu().numpy()
            if progress is not None:
                progress(len(batch))
    return ItemLens(values)


def _of_batch(hooked: HookedModel, batch: ItemBatch) -> dict[str, Tensor]:
    """Return [streams, B] values by name."""
    keys = hooked.every(HookPoint.RESIDUAL)
    with hooked.caching(keys, lambda stream: stream[batch.reads]) as cache:
        batch.run(hooked)
    groups = batch.reads.nonzero()[:, 0]
    items = torch.arange(len(batch))
    streams = cache.stacked(HookPoint.RESIDUAL)
    own = log_distribution(lens_logits(hooked, streams[-1]))
    found: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for stream in streams:
        logits = lens_logits(hooked, stream)
        found[METRIC].append(-batch.metric.values(logits, items))
        for name, values in beside_output(log_distribution(logits), own).items():
            found[name].append(document_means(values, groups, len(batch)))
    return {name: torch.stack(rows) for name, rows in found.items()}
