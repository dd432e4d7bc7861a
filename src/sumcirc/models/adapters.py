"""Makes a model trainable: every parameter, or LoRA (Hu et al. 2021) on chosen layers and modules.

A LoRA adapter of rank r on a linear of shape in x out has r * (in + out) parameters and adds `scale
* B A x`, where scale is alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023). A parameter
budget is converted to the ranks that use as much of it as possible (`models.budget`).

Unless alpha is given, the scale is 2 for every rank (alpha is twice each linear's rank), or with
rsLoRA 8 / sqrt(rank) (alpha is 8, so rank 16 has scale 2 either way). Adapters of different ranks,
in one model or in the arms of a sweep, thus learn at comparable speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.models.architectures import Architecture, architecture
from sumcirc.models.budget import solve_ranks
from sumcirc.models.peft_adapters import without_idle_warnings
from sumcirc.schema import AUTO, Adaptation, AdaptationConfig

SCALE = 2  # alpha divided by rank
RSLORA_ALPHA = 8.0  # gives rank 16 the same scale

# index of a block, and one of the architecture's module names
Target = tuple[int, str]


@dataclass(frozen=True)
class Targets:
    """The linears that get adapters, and the adapters' ranks.

    Attributes:
        layers: indices of the blocks that contain adapted linears.
        names: full names of the adapted linears.
        ranks: LoRA rank of each linear, by the linear's full name.
        parameters: number of trainable parameters with these ranks.
        total: number of parameters of the model without adapters; tied parameters count once.
        fan_in_fan_out: whether the linears store their weights as [in, out], like those of GPT-2.
    """

    layers: tuple[int, ...]
    names: tuple[str, ...]
    ranks: dict[str, int]
    parameters: int
    total: int
    fan_in_fan_out: bool

    @property
    def rank(self) -> int:
        """The smallest rank. With a parameter budget, ranks of some linears may be higher by 1."""
        return min(self.ranks.values())

    @property
    def raised(self) -> dict[str, int]:
        """The ranks of the linears whose rank is higher than `rank`, by full name."""
        return {name: rank for name, rank in self.ranks.items() if rank > self.rank}

    @property
    def share(self) -> float:
        """Trainable parameters as a fraction of all parameters, including those of adapters."""
        return self.parameters / (self.total + self.parameters)


def skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """Return the model that a configuration describes on torch's meta device, without weights.

    Args:
        config: transformers' configuration of the model.
    """
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def resolve_targets(
    config: AdaptationConfig,
    model_config: PretrainedConfig,
    chosen: Sequence[Target] | None = None,
) -> Targets:
    """Return the layers, linears and ranks of a LoRA configuration, without reading weights.

    Args:
        config: settings, of which the layers, the modules, and the rank or budget are used.
        model_config: transformers' configuration of the model.
        chosen: pairs of block index and module name that a selector chose, the most important
            first; None if `config` names the layers. If a budget allows a higher rank only for some
            linears, the most important ones get it.

    Raises:
        UserError: a layer is out of range, the architecture is unknown, the budget is too small for
            rank 1, or no targets were chosen although a selector should.
    """
    names_of = architecture(model_config)
    if chosen is None:
        chosen = _named_targets(config, model_config.num_hidden_layers)
    model = skeleton(model_config)
    linears = _linears(model, names_of, chosen)
    costs = _costs(linears)
    if config.rank is not None:
        ranks = dict.fromkeys(costs, config.rank)
    else:
        assert config.budget is not None
        ranks = solve_ranks(costs, config.budget)
        if not min(ranks.values()):
            raise UserError(
                f"adaptation.budget={config.budget}: rank 1 on these {len(costs)} linears takes"
                f" {sum(costs.values())} parameters; raise the budget, or choose fewer layers or"
                " modules"
            )
    return Targets(
        tuple(sorted({layer for layer, _ in chosen})),
        tuple(costs),
        ranks,
        sum(ranks[name] * cost for name, cost in costs.items()),
        sum(parameter.numel() for parameter in model.parameters()),
        any(isinstance(linear, Conv1D) for linear in linears.values()),
    )


def adapter_costs(model_config: PretrainedConfig, targets: Sequence[Target]) -> dict[str, int]:
    """Return the number of parameters of a rank-1 adapter on each linear that targets stand for.

    Args:
        model_config: transformers' configuration of the model.
        targets: pairs of block index and module name.

    Returns:
        Numbers of parameters, by the full name of the linear.
    """
    return _costs(_linears(skeleton(model_config), architecture(model_config), targets))


def _linears(
    model: PreTrainedModel, names_of: Architecture, targets: Sequence[Target]
) -> dict[str, nn.Module]:
    names = [name for layer, module in targets for name in names_of.linears(layer, module)]
    return {name: model.get_submodule(name) for name in names}


def _costs(linears: dict[str, nn.Module]) -> dict[str, int]:
    return {name: sum(one.get_parameter("weight").shape) for name, one in linears.items()}


def _named_targets(config: AdaptationConfig, count: int) -> list[Target]:
    """Return the targets that the configuration names, for a model with `count` layers."""
    if config.layers == AUTO:
        raise UserError(
            "adaptation.layers=auto: needs a selector; give selector=NAME, or name the layers"
        )
    layers = list(range(count)) if config.layers == "all" else sorted(config.layers)
    beyond = [layer for layer in layers if layer >= count]
    if beyond:
        raise UserError(
            f"adaptation.layers={config.layers}: layer {beyond[0]} is out of range; the model"
            f" has {count} layers, 0 to {count - 1}"
        )
    return [(layer, module) for layer in layers for module in config.modules]


def lora_config(config: AdaptationConfig, targets: Targets, base: str | None = None) -> LoraConfig:
    """Return PEFT's configuration of a LoRA adapter.

    Args:
        config: settings, of which alpha, dropout and rsLoRA are used.
        targets: the linears that get adapters, and the ranks.
        base: path of the base model, which is written into the configuration; None to write no
            path.
    """
    alpha = config.alpha or (RSLORA_ALPHA if config.rslora else SCALE * targets.rank)
    follows_rank = config.alpha is None and not config.rslora
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=targets.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        rank_pattern=targets.raised,
        alpha_pattern={name: SCALE * rank for name, rank in targets.raised.items() if follows_rank},
        use_rslora=config.rslora,
        lora_dropout=config.dropout,
        target_modules=list(targets.names),
        fan_in_fan_out=targets.fan_in_fan_out,
    )


def adapt(
    model: PreTrainedModel, config: AdaptationConfig, chosen: Sequence[Target] | None = None
) -> PreTrainedModel | PeftModel:
    """Prepare a model for training, either of all of its parameters or of a LoRA adapter.

    Args:
        model: the base model, which is changed in place.
        config: settings that choose between full fine-tuning and LoRA, and settings of LoRA.
        chosen: pairs of block index and module name that a selector chose; None if `config` names
            the layers.

    Returns:
        `model` itself, or a PEFT model around it.

    Raises:
        UserError: as in `resolve_targets`.
    """
    if config.kind is Adaptation.full:
        model.requires_grad_(True)
        return model
    targets = resolve_targets(config, model.config, chosen)
    with without_idle_warnings():
        adapted = get_peft_model(model, lora_config(config, targets))
    found = trainable_parameters(adapted)
    if found != targets.parameters:
        raise RuntimeError(f"PEFT made {found} parameters trainable, not {targets.parameters}")
    return adapted


def trainable_parameters(model: nn.Module) -> int:
    """Return the number of a model's parameters that require a gradient.

    Args:
        model: the model.
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def checkpoint_activations(model: nn.Module) -> None:
    """Turn on gradient checkpointing, which saves memory in training.

    The model then stores only each block's input, and recomputes other activations in the backward
    pass.

    Args:
        model: the model.
    """
    found: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    # renamed in transformers 5.23
    name = "activation_checkpointing_enable"
    enable = getattr(found, name, None) or found.gradient_checkpointing_enable
    # the re-entrant variant gives no gradient to adapters on a frozen base
    enable({"use_reentrant": False})
