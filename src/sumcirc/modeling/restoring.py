"""The model that a checkpoint stands for: a run's, an adapter on its base, or a folder."""

from __future__ import annotations

from dataclasses import replace

from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.modeling.adaptation import load_adapter
from sumcirc.modeling.loading import is_adapter, load_model
from sumcirc.schema import CircuitConfig, EvaluateConfig, PairsConfig
from sumcirc.tracking.checkpoint_source import weights_of


def load_checkpoint(
    config: EvaluateConfig | CircuitConfig | PairsConfig,
) -> PreTrainedModel | PeftModel:
    """Load `config.checkpoint`, or `config.model` where there is none.

    Raises:
        UserError: a run did not finish, an adapter does not fit, a folder has no weights.
    """
    weights = weights_of(config.checkpoint) if config.checkpoint else None
    if weights is None:
        return load_model(config.model)
    if is_adapter(weights):
        return load_adapter(load_model(config.model), str(weights))
    return load_model(replace(config.model, path=str(weights), revision=None))
