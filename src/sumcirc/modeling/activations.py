"""The tanh form of GELU in one operation.

GPT-2's activation, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016),
is written out in transformers as eight elementwise operations with a tensor for each, several of
them kept for the backward pass. torch has the same function as one operation. Values differ by
rounding only.
"""

from __future__ import annotations

from torch import nn
from transformers.activations import GELUTanh, NewGELUActivation


def fuse_gelu(model: nn.Module) -> int:
    """Exchange each written-out GELU of a model for torch's; how many there were.

    The configuration keeps its name for the function, so what is saved loads anywhere.
    """
    found = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is NewGELUActivation:
                setattr(module, name, GELUTanh())
                found += 1
    return found
