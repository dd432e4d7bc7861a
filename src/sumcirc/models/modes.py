"""Context managers for evaluation mode, with or without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation mode in a `with` block; on exit, restore each module's mode.

    Args:
        model: the model.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation mode and disable gradients in a `with` block.

    Args:
        model: the model, whose modules' modes are restored on exit.
    """
    with evaluating(model), torch.no_grad():
        yield


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation mode and freeze its parameters in a `with` block.

    Gradients are enabled, so that activations can be differentiated. Modes and parameters are
    restored on exit.

    Args:
        model: the model.
    """
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
