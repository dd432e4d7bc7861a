"""What a model does when one head can't read one span of a prompt."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.planted.changes import Place
from sumcirc.compare.items.item_set import ItemBatch, ItemSet
from sumcirc.data.examples import READ
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference


def without_reading(
    hooked: HookedModel, items: ItemSet, head: Place, span: str, batch_size: int
) -> NDArray[np.float64]:
    """Return the metric of every item while a head doesn't read a span, [items].

    From the positions at which predictions are read, the head attends to the other tokens alone, in
    the same proportions as before. At other positions it attends as it did.

    Args:
        hooked: the model.
        items: the items.
        head: the head.
        span: name of the span.
        batch_size: number of items in a batch.
    """
    found = np.empty(len(items))
    key = (HookPoint.PATTERN, head.layer)
    with inference(hooked.model):
        for batch in items.batches(batch_size, hooked.device):
            with hooked.hooks([(key, partial(_cut, batch, head.index, span))]):
                normed = batch.run(hooked)
            found[batch.places] = batch.read(hooked, normed).double().cpu().numpy()
    return found


def _cut(batch: ItemBatch, head: int, span: str, pattern: Tensor) -> Tensor:
    """Return attention weights [B, heads, T, S], those of one head to a span moved to the rest."""
    readers, keys = batch.at(READ)[:, :, None], batch.at(span)[:, None]
    left = pattern[:, head].masked_fill(readers & keys, 0.0)
    pattern = pattern.clone()
    pattern[:, head] = left / left.sum(-1, keepdim=True)
    return pattern
