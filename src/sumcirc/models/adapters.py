"""Makes a model trainable: every parameter, or adapters on chosen layers and modules.

A LoRA adapter (Hu et al. 2021) of rank r on a linear of shape in x out has r * (in + out)
parameters and adds `scale * B A x`, where scale is alpha / r, or alpha / sqrt(r) with rsLoRA
(Kalajdzievski 2023). Other variants (`models.variants`) have other sizes, which are counted in
PEFT's own modules. A parameter budget is converted to the ranks that use as much of it as possible
(`models.budget`).

Unless alpha is given, the scale is 2 for every rank (alpha is twice each linear's rank), or with
rsLoRA 8 / sqrt(rank) (alpha is 8, so rank 16 has scale 2 either way). Adapters of different ranks,
in one model or in the arms of a sweep, thus learn at comparable speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.models.architectures import Architecture, architecture
from sumcirc.models.budget import AdapterSize
from sumcirc.models.peft_adapters import without_idle_warnings
from sumcirc.models.variants import CONFIGS, check_variant, peft_config, setting_of
from sumcirc.schema import AUTO, Adaptation, AdaptationConfig, Variant
from sumcirc.storage.hub import one_line

# variants whose size is r * (in + out) for each linear
PLAIN = (Variant.lora, Variant.rslora, Variant.pissa, Variant.olora, Variant.eva, Variant.loraga)
# variants whose linears all have the same rank
UNIFORM = (Variant.adalora, Variant.vera)
# initial directions that a start takes from each weight or gradient, as a multiple of the rank
DIRECTIONS = {"pissa": 1, "olora": 1, "mica": 1, "lora_ga": 2}

# index of a block, and one of the architecture's module names
Target = tuple[int, str]


@dataclass(frozen=True)
class Targets:
    """The linears that get adapters, and the adapters' ranks.

    Attributes:
        layers: indices of the blocks that contain adapted linears.
        names: full names of the adapted linears.
        ranks: rank of each linear's adapter, by its full name; empty for a variant without ranks.
        parameters: number of trainable parameters at these ranks.
        total: number of parameters of the model without adapters; tied ones count once.
        fan_in_fan_out: whether the linears store their weight as in x out (GPT-2).
        mlp_out: those of the linears that are the MLPs' output projections.
    """

    layers: tuple[int, ...]
    names: tuple[str, ...]
    ranks: dict[str, int]
    parameters: int
    total: int
    fan_in_fan_out: bool
    mlp_out: tuple[str, ...]

    @property
    def rank(self) -> int | None:
        """The smallest rank, or None for a variant without ranks.

        Some linears have one more if a parameter budget allows it.
        """
        return min(self.ranks.values(), default=None)

    @property
    def raised(self) -> dict[str, int]:
        """Ranks of the linears whose rank is higher than `rank`, by full name."""
        return {name: rank for name, rank in self.ranks.items() if rank != self.rank}

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
    if len(linears) < sum(len(names_of.linears(*target)) for target in chosen):
        raise UserError(f"adaptation.modules={config.modules}: a linear is named twice")
    last = {name for layer, _ in chosen for name in names_of.linears(layer, "mlp_out")}
    bare = Targets(
        tuple(sorted({layer for layer, _ in chosen})),
        tuple(linears),
        {},
        0,
        sum(parameter.numel() for parameter in model.parameters()),
        any(isinstance(linear, Conv1D) for linear in linears.values()),
        tuple(name for name in linears if name in last),
    )
    size = _size(config, bare, linears, model_config)
    ranks = _ranks(config, size)
    used = size.fixed + sum(ranks[name] * cost for name, cost in size.costs.items() if ranks)
    targets = replace(bare, ranks=ranks, parameters=used)
    made = peft_config(config, targets)
    check_variant(config, made, bare.fan_in_fan_out)
    _check_directions(config, made, ranks, linears)
    return targets


def adapter_size(
    config: AdaptationConfig,
    model_config: PretrainedConfig,
    chosen: Sequence[Target] | None = None,
) -> AdapterSize:
    """Return how the size of an adapter depends on its ranks, without reading weights.

    Args:
        config, model_config, chosen: as for `resolve_targets`; rank and budget are not used.

    Raises:
        UserError: a layer is out of range, or the architecture is unknown.
    """
    targets = resolve_targets(replace(config, rank=1, budget=None), model_config, chosen)
    model = skeleton(model_config)
    linears = {name: model.get_submodule(name) for name in targets.names}
    return _size(config, replace(targets, ranks={}, parameters=0), linears, model_config)


def _size(
    config: AdaptationConfig,
    bare: Targets,
    linears: dict[str, nn.Module],
    model_config: PretrainedConfig,
) -> AdapterSize:
    """Return the parameters per rank and linear, and those that don't depend on the rank."""
    full = {name: min(one.get_parameter("weight").shape) for name, one in linears.items()}
    if config.variant in PLAIN and not config.peft:
        return AdapterSize(_costs(linears), 0, full)
    if config.variant is Variant.ia3:
        return AdapterSize({}, sum(_counted(config, bare, model_config, {}).values()), full)
    low, high = (
        _counted(config, bare, model_config, dict.fromkeys(linears, rank)) for rank in (2, 4)
    )
    costs = {name: (high[name] - low[name]) // 2 for name in linears}
    fixed = sum(low.values()) - 2 * sum(costs.values())
    return AdapterSize(costs, fixed, full, config.variant in UNIFORM)


def _counted(
    config: AdaptationConfig, bare: Targets, model_config: PretrainedConfig, ranks: dict[str, int]
) -> Counter[str]:
    """Count the parameters that PEFT would train at the given ranks, by linear; "" for others."""
    made = peft_config(config, replace(bare, ranks=ranks))
    check_variant(config, made, bare.fan_in_fan_out)
    try:
        with torch.device("meta"), without_idle_warnings():
            model = get_peft_model(skeleton(model_config), made)
    except Exception as error:  # PEFT raises any kind of error for a wrong value
        raise UserError(f"{setting_of(config)}: refused by PEFT ({one_line(error)})") from None
    found: Counter[str] = Counter()
    adapted = set(bare.names)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            path = name.removeprefix("base_model.model.").split(".")
            owners = (".".join(path[:end]) for end in range(len(path), 0, -1))
            found[next((one for one in owners if one in adapted), "")] += parameter.numel()
    return found


def _ranks(config: AdaptationConfig, size: AdapterSize) -> dict[str, int]:
    """Return the rank of each linear, from the settings or from the budget."""
    if config.rank is not None:
        return dict.fromkeys(size.costs, config.rank)
    if config.budget is None:
        return {}
    ranks = size.ranks(config.budget)
    if min(ranks.values()) < 1:
        raise UserError(
            f"adaptation.budget={config.budget}: rank 1 on these {len(size.costs)} linears takes"
            f" {size.least} parameters; raise the budget, or choose fewer layers or modules"
        )
    return ranks


def _check_directions(
    config: AdaptationConfig,
    made: PeftConfig,
    ranks: dict[str, int],
    linears: dict[str, nn.Module],
) -> None:
    """Refuse ranks for which a weight has too few directions to start from."""
    start = str(getattr(made, "init_lora_weights", None))
    for name, rank in ranks.items():
        most = min(linears[name].get_parameter("weight").shape) // DIRECTIONS.get(start, 1)
        if start in DIRECTIONS and rank > most:
            shown = f"rank={rank}" if config.budget is None else f"budget={config.budget}"
            raise UserError(
                f"adaptation.{shown}: init_lora_weights={start} starts from the directions of each"
                f" weight, which are enough for rank {most} on {name}, not for {rank}"
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


def require_lora_config(config: AdaptationConfig) -> None:
    """Raise an error if PEFT describes the variant by a configuration other than LoraConfig.

    Args:
        config: settings of the adapter.

    Raises:
        UserError: it is AdaLoRA, VeRA or IA3.
    """
    if config.variant in CONFIGS:
        raise UserError(
            f"adaptation={config.variant.value}: PEFT has no LoraConfig for it; choose the layers"
            " with adaptation=lora, or train with a selector (sumcirc train selector=...)"
        )


def lora_config(config: AdaptationConfig, targets: Targets, base: str | None = None) -> LoraConfig:
    """Return PEFT's LoraConfig for the targets.

    Args:
        config: settings of the adapter.
        targets: the linears and their ranks.
        base: path of the base model, which is written into the configuration; None for no path.

    Raises:
        UserError: as in `require_lora_config` and `peft_config`.
    """
    require_lora_config(config)
    found = peft_config(config, targets, base)
    assert isinstance(found, LoraConfig)
    return found


def adapt(
    model: PreTrainedModel, config: AdaptationConfig, chosen: Sequence[Target] | None = None
) -> PreTrainedModel | PeftModel:
    """Prepare a model for training, either of all of its parameters or of a LoRA adapter.

    Variants that start from data or are converted when they are saved need more than the model;
    `training.fresh_adapters.start` makes every variant.

    Args:
        model: the base model, which is changed in place.
        config: whether to fine-tune fully or with adapters, and the settings of these.
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
    return wrap(model, peft_config(config, targets), targets.parameters)


def wrap(model: PreTrainedModel, made: PeftConfig, parameters: int | None) -> PeftModel:
    """Return a PEFT model around a model, which is changed in place.

    Args:
        model: the base model.
        made: PEFT's configuration.
        parameters: number of parameters that have to be trainable; None if that isn't known.
    """
    with without_idle_warnings():
        adapted = get_peft_model(model, made)
    assert isinstance(adapted, PeftModel)
    found = trainable_parameters(adapted)
    if parameters is not None and found != parameters:
        raise RuntimeError(f"PEFT made {found} parameters trainable, not {parameters}")
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
