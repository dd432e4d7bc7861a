"""Choosing pairs by whether a metric applies to them, and by what corruption does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.data.examples import NONE, by_length
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference
from sumcirc.schema import CircuitMetric


def answerable(pairs: Sequence[ExamplePair], metric: CircuitMetric) -> list[ExamplePair]:
    """Return the pairs for which the metric is defined.

    A logit difference needs two answers that diverge, and `wrong_fact` a wrong fact; the others are
    always defined. If the metric is undefined for all pairs, all pairs are returned, so that
    computing the metric raises an error that says what is missing.

    Args:
        pairs: the pairs to choose from.
        metric: the metric that will be computed.
    """
    defined = {
        CircuitMetric.logit_difference: lambda pair: pair.clean.diverges.any(),
        CircuitMetric.wrong_fact: lambda pair: (pair.clean.wrong != NONE).any(),
    }
    if metric not in defined:
        return list(pairs)
    return list(filter(defined[metric], pairs)) or list(pairs)


def changed_pairs(
    pairs: Sequence[ExamplePair], clean: np.ndarray, corrupted: np.ndarray
) -> tuple[list[ExamplePair], int]:
    """Return the pairs whose loss is higher with the corrupted input, and the number of others.

    Args:
        pairs: the pairs to choose from.
        clean, corrupted: [pairs] the losses of the pairs with the clean and with the corrupted
            input.
    """
    kept = [pair for pair, low, high in zip(pairs, clean, corrupted, strict=True) if high > low]
    return kept, len(pairs) - len(kept)


def losses(
    model: PreTrainedModel | PeftModel,
    pairs: Sequence[ExamplePair],
    metric: CircuitMetric | str,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair's loss with the clean and with the corrupted input, [pairs] each.

    Args:
        model: the model, including its adapter if one is enabled.
        pairs: the pairs, which must have the same span names.
        metric: the metric that is used as the loss, or its name, see `pair_metric`.
        batch_size: number of pairs per pass.
        progress: called with the number of newly computed pairs.

    Raises:
        UserError: the metric is unknown, or does not fit the pairs.
    """
    hooked = HookedModel(model)
    device = hooked.device
    found = np.zeros((2, len(pairs)))
    with inference(hooked.model):
        for chosen in by_length([len(pair.clean) for pair in pairs], batch_size):
            tokens = TokenPairs.of([pairs[i] for i in chosen])
            loss = pair_metric(metric, tokens)
            read = []
            for side in (tokens.clean.to(device), tokens.corrupted.to(device)):
                hidden = hooked.hidden(side.attention_mask, input_ids=side.input_ids)
                read.append(hooked.unembedding(hidden[loss.positions.to(device)]))
            reference = loss.reference(read[0]) if loss.against_clean else None
            items = torch.arange(len(chosen))
            for row, logits in zip(found, read, strict=True):
                row[chosen] = loss.values(logits, items, reference).double().cpu().numpy()
            if progress is not None:
                progress(len(chosen))
    return found[0], found[1]
