"""A penalty on how far training moves a model from its base on texts that it isn't trained on.

With q of the base and p of the model that is trained, and a text x_1 .. x_n,

    KL(x) = 1/(n-1) sum_t KL(q(. | x_<t) || p(. | x_<t))        t = 2 .. n, in nats a token

and the penalty is `weight` times the mean of KL(x) over the texts of an optimizer step. This is
what `evaluation.retention` reports as `kl`. The direction KL(q || p) is that of distillation
(Hinton et al. 2015, 1503.02531; Li and Hoiem 2016, 1606.09282, for old tasks while a new one is
learned): p has to cover what the base predicts.

The base runs without dropout and without gradients, the model as in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sumcirc.data.text_batches import TextBatch
from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.modes import inference
from sumcirc.models.unembedding import unembedding_of
from sumcirc.models.unwrapping import base_model

ELEMENTS = 2**24  # logits of which the KL is computed at once


class KLPenalty:
    """KL(base || model) on plain texts, as a term of the loss.

    Args:
        base: the model before training, on the device of the training.
        weight: factor of the KL.
    """

    def __init__(self, base: BaseBeside, weight: float) -> None:
        self.base = base
        self.weight = weight

    def divergence(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Return the mean KL(base || model) over the texts of a batch, a scalar in nats a token.

        Args:
            model: the model that is trained; gradients flow to its parameters.
            batch: the texts.
        """
        # the base first: switching an adapter off and on must not happen inside the graph
        with self.base.active() as base, inference(base):
            states = _states(base, batch)
            unembed = unembedding_of(base_model(base))
            size = max(1, ELEMENTS // base_model(base).config.get_text_config().vocab_size)
            expected = [unembed(part) for part in states.split(size)]
        own, unembed = _states(model, batch), unembedding_of(base_model(model))

        def divergences(part: Tensor, logits: Tensor) -> Tensor:
            log_p = torch.log_softmax(unembed(part), -1, dtype=torch.float32)
            log_q = torch.log_softmax(logits, -1, dtype=torch.float32)
            return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)

        # computed again in the backward pass, so that only one part's logits are kept
        found = torch.cat(
            [
                checkpoint(divergences, part, logits, use_reentrant=False)  # type: ignore[misc]
                for part, logits in zip(own.split(size), expected, strict=True)
            ]
        )
        return (found / batch.counts[batch.rows]).sum() / len(batch.counts)

    def share(self, batch: TextBatch, batches: int) -> float:
        """Return the factor of a batch's divergence in the loss.

        Lightning divides losses by the number of batches of a step and averages gradients over
        processes. With this factor the result is `weight` times the mean over the step's texts.

        Args:
            batch: the texts.
            batches: number of batches of an optimizer step, in all processes.
        """
        return self.weight * batch.texts * batches / batch.step_texts


def _states(model: nn.Module, batch: TextBatch) -> Tensor:
    """Return the residual stream after the final norm where a token is predicted, [targets, D]."""
    hidden = base_model(model).base_model(batch.input_ids, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, batch.positions)
