"""The model that a checkpoint stands for: a run's, an adapter on its base, or a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.modeling.adaptation import load_adapter
from sumcirc.modeling.loading import is_adapter, load_model
from sumcirc.schema import CircuitConfig, EvaluateConfig, ModelConfig, PairsConfig
from sumcirc.tracking.checkpoint_source import weights_of


def load_checkpoint(
    config: EvaluateConfig | CircuitConfig | PairsConfig,
) -> PreTrainedModel | PeftModel:
    """Load `config.checkpoint`, or `config.model` where there is none.

    Raises:
        UserError: a run did not finish, an adapter does not fit, a folder has no weights.
    """
    # the command line has made a folder or hub id `config.model` itself
    weights = weights_of(config.checkpoint) if config.checkpoint else None
    return load_model(config.model) if weights is None else load_weights(config.model, weights)


def weights_at(checkpoint: str) -> Path | str:
    """The adapter or model folder of a run, or what is none of a run as it stands.

    Raises:
        UserError: a run did not finish.
    """
    return weights_of(checkpoint) or checkpoint


def load_weights(model: ModelConfig, weights: Path | str) -> PreTrainedModel | PeftModel:
    """Load an adapter on `model`, or another whole model in its place.

    Raises:
        UserError: an adapter does not fit, a folder has no weights.
    """
    if is_adapter(weights):
        return load_adapter(load_model(model), str(weights))
    return load_model(replace(model, path=str(weights), revision=None))
