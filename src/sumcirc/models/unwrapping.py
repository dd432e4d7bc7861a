"""Access to the model that PEFT has wrapped."""

from __future__ import annotations

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model in a PEFT model, or the model itself without PEFT.

    In an adapted model, linears still contain the adapter.

    Args:
        model: a transformers model, or a PEFT model around one.
    """
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(found, PreTrainedModel)
    return found


def has_adapter(model: nn.Module) -> bool:
    """Return whether a model contains an adapter, even if it is not a `PeftModel`.

    Args:
        model: the model.
    """
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return isinstance(model, PeftModel) or any(isinstance(one, kinds) for one in model.modules())
