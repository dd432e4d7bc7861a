"""The map from the normed residual stream to logits, with a model's own scaling and cap."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.models.architectures import multipliers


class ScaledUnembedding(nn.Module):
    """An unembedding whose output is divided by a constant, soft-capped, or both.

    Args:
        linear: the model's unembedding.
        scaling: the constant (Granite).
        cap: c in c * tanh(logit / c), applied last (Gemma 2); None without a cap.
    """

    def __init__(self, linear: nn.Module, scaling: float, cap: float | None) -> None:
        super().__init__()
        self.linear, self.scaling, self.cap = linear, scaling, cap

    def forward(self, normed: Tensor) -> Tensor:
        """Return the logits [..., vocabulary] of normed streams [..., width]."""
        return self.finish(self.linear(normed))

    def finish(self, output: Tensor) -> Tensor:
        """Return the logits that belong to outputs of `linear`."""
        return scaled_logits(output, self.scaling, self.cap)


def scaled_logits(output: Tensor, scaling: float, cap: float | None) -> Tensor:
    """Return logits from the output of the unembedding.

    Args:
        output: [..., vocabulary].
        scaling: number by which it is divided.
        cap: c in c * tanh(logit / c), applied last; None without a cap.
    """
    if scaling != 1.0:
        output = output / scaling
    return output if cap is None else torch.tanh(output / cap) * cap


def unembedding_of(model: PreTrainedModel) -> nn.Module:
    """Return the module that maps the output of the final norm to the model's logits.

    This is the model's own output layer, or a `ScaledUnembedding` around it.

    Args:
        model: the transformers model, inside the adapter.
    """
    found = model.get_output_embeddings()
    assert isinstance(found, nn.Module)
    by = multipliers(model.config)
    if by.logits_scaling == 1.0 and by.logit_cap is None:
        return found
    return ScaledUnembedding(found, by.logits_scaling, by.logit_cap)
