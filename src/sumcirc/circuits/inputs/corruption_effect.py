"""What corruption does to a model's loss, pair by pair: two plain passes, no circuit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.circuits.inputs.example import Pair, pair_metric, token_pairs
from sumcirc.models.hooked_model import HookedModel
from sumcirc.models.modes import inference
from sumcirc.schema import CircuitMetric


def losses(
    model: PreTrainedModel | PeftModel,
    pairs: Sequence[Pair],
    metric: CircuitMetric | str,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Each pair's loss with the clean and with the corrupted input, [pairs] each.

    Args:
        metric: see `pair_metric`.
        progress: called with the number of pairs that are newly done.

    Raises:
        UserError: the metric is unknown, or does not fit the pairs.
    """
    parts = HookedModel(model)
    device = next(parts.unembedding.parameters()).device
    found = np.zeros((2, len(pairs)))
    # those of like length together: less padding
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].clean))
    with inference(parts.model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [pairs[i] for i in chosen]
            tokens = token_pairs(batch)
            loss = pair_metric(metric, batch, tokens)
            positions = loss.positions.to(device)

            def logits(ids: Tensor, mask: Tensor, where: Tensor) -> Tensor:
                hidden = parts.hidden(mask.to(device), input_ids=ids.to(device))
                return parts.unembedding(hidden[where])

            clean, corrupted = (
                logits(ids, tokens.attention_mask, positions)
                for ids in (tokens.clean_ids, tokens.corrupted_ids)
            )
            reference = loss.reference(clean) if loss.against_clean else None
            items = torch.arange(len(batch))
            for row, values in zip(found, (clean, corrupted), strict=True):
                row[chosen] = loss.values(values, items, reference).double().cpu().numpy()
            if progress is not None:
                progress(len(batch))
    return found[0], found[1]
