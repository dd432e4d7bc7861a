"""What trains: every parameter, or LoRA (Hu et al. 2021) on chosen layers and modules.

An adapter of rank r on a linear of shape in x out has r * (in + out) parameters and adds
`scale * B A x` with scale alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023). A budget
is solved for the largest rank whose parameters stay within it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.hub import one_line
from sumcirc.modeling.anatomy import anatomy
from sumcirc.schema import Adaptation, AdaptationConfig


@dataclass(frozen=True)
class Targets:
    """Where adapters go.

    Attributes:
        layers: block indices.
        names: full names of the adapted linears.
        rank: LoRA rank, solved where a budget was given.
        parameters: trainable parameters at that rank.
        total: parameters of the model without adapters; tied ones count once.
        fan_in_fan_out: the linears hold their weight as in x out (GPT-2).
    """

    layers: tuple[int, ...]
    names: tuple[str, ...]
    rank: int
    parameters: int
    total: int
    fan_in_fan_out: bool

    @property
    def share(self) -> float:
        """Trainable parameters over all, as PEFT prints it."""
        return self.parameters / (self.total + self.parameters)


def skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """The model with shapes only, no weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def resolve_targets(config: AdaptationConfig, model_config: PretrainedConfig) -> Targets:
    """Layers, linears and rank of a LoRA configuration, from shapes alone.

    Raises:
        UserError: a layer is out of range, the architecture is not known, or the budget is too
            small for rank 1.
    """
    names_of = anatomy(model_config)
    count = model_config.num_hidden_layers
    layers = list(range(count)) if config.layers == "all" else sorted(config.layers)
    beyond = [layer for layer in layers if layer >= count]
    if beyond:
        raise UserError(
            f"adaptation.layers={config.layers}: layer {beyond[0]} is out of range; the model"
            f" has {count} layers, 0 to {count - 1}"
        )
    model = skeleton(model_config)
    names = [
        name
        for layer in layers
        for module in config.modules
        for name in names_of.linears(layer, module)
    ]
    linears = [model.get_submodule(name) for name in names]
    shapes = [linear.get_parameter("weight").shape for linear in linears]
    per_rank = sum(sum(shape) for shape in shapes)
    rank = config.rank
    if rank is None:
        assert config.budget is not None
        rank = config.budget // per_rank
        if rank < 1:
            raise UserError(
                f"adaptation.budget={config.budget}: rank 1 on these {len(names)} linears takes"
                f" {per_rank} parameters; raise the budget, or name fewer layers or modules"
            )
    total = sum(parameter.numel() for parameter in model.parameters())
    conv = any(isinstance(linear, Conv1D) for linear in linears)
    return Targets(tuple(layers), tuple(names), rank, rank * per_rank, total, conv)


def lora_config(config: AdaptationConfig, targets: Targets, base: str | None = None) -> LoraConfig:
    """PEFT's configuration for the targets; `base` is the model path written into it."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=targets.rank,
        lora_alpha=config.alpha or 2 * targets.rank,  # type: ignore[arg-type]
        use_rslora=config.rslora,
        lora_dropout=config.dropout,
        target_modules=list(targets.names),
        fan_in_fan_out=targets.fan_in_fan_out,
    )


def adapt(model: PreTrainedModel, config: AdaptationConfig) -> PreTrainedModel | PeftModel:
    """Make `model` trainable as `config` says.

    Raises:
        UserError: see `resolve_targets`.
    """
    if config.kind is Adaptation.full:
        model.requires_grad_(True)
        return model
    targets = resolve_targets(config, model.config)
    with _without_old_names():
        adapted = get_peft_model(model, lora_config(config, targets))
    found = trainable_parameters(adapted)
    if found != targets.parameters:
        raise RuntimeError(f"PEFT made {found} parameters trainable, not {targets.parameters}")
    return adapted


@contextmanager
def _without_old_names() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 by an old name: nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def trainable_parameters(model: nn.Module) -> int:
    """How many parameters have a gradient."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def checkpoint_activations(model: nn.Module) -> None:
    """Keep a block's input only, and compute the rest again in the backward pass."""
    found: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    # transformers renamed it in 5.23
    name = "activation_checkpointing_enable"
    enable = getattr(found, name, None) or found.gradient_checkpointing_enable
    # the re-entrant kind gives no gradient to adapters on a frozen base
    enable({"use_reentrant": False})


def load_adapter(model: PreTrainedModel, folder: str) -> PeftModel:
    """Put a saved PEFT adapter on its base, for inference.

    Raises:
        UserError: the adapter does not fit the model.
    """
    refused = f"checkpoint={folder}: the adapter does not fit the model"
    try:
        with _without_old_names():
            # PEFT only warns of tensors that are not there; they are compared below
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, folder, use_safetensors=True)
        with safe_open(Path(folder) / "adapter_model.safetensors", framework="pt") as file:
            stored = set(file.keys())
    except (ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(f"{refused} ({one_line(error)})") from None
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if stored != wanted:
        raise UserError(f"{refused} (only one of them has {min(stored ^ wanted)})")
    return adapted
