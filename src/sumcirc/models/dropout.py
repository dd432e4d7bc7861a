"""Dropout in the model itself: where it is, and training with it.

A family implements it as modules (GPT-2, GPT-NeoX, Phi-3) or as a number that its attention module
passes to the attention function (all but GPT-2). Adapters have separate dropout,
`adaptation.dropout`.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

ATTENTION = "attention_dropout"  # attribute of attention modules
ADAPTERS = ("lora_dropout", "vera_dropout")  # PEFT's names of an adapter's dropout


def start_training(model: nn.Module, dropout: float | None) -> None:
    """Put a model in training mode and set its dropout probability.

    Args:
        model: a model with or without adapters; the dropout of adapters is not changed.
        dropout: the probability; None keeps the model's own probabilities.
    """
    if dropout is not None:
        for module, attribute in _places(model):
            setattr(module, attribute, dropout)
    model.train()


def dropout_probabilities(model: nn.Module) -> list[float]:
    """Return the distinct dropout probabilities of a model in ascending order.

    Args:
        model: a model with or without adapters; the dropout of adapters is not included.
    """
    return sorted({float(getattr(module, attribute)) for module, attribute in _places(model)})


def _places(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for name, module in model.named_modules():
        if any(one in name for one in ADAPTERS):
            continue
        if isinstance(module, nn.Dropout):
            yield module, "p"
        elif isinstance(vars(module).get(ATTENTION), int | float):
            yield module, ATTENTION
