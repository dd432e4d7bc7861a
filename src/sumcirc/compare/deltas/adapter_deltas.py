"""The changes that an adapter makes, part by part, controlled by PEFT's switches and scalings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from peft import PeftType
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

from sumcirc.compare.deltas.weight_deltas import WeightChange
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.model_reference import ModelReference
from sumcirc.models.peft_adapters import changes_base, read_adapter

LEAVE_OUT = "leave delta_scaling out of compare.analyses"


class ScalingChange:
    """Scales the change made by all active adapters of a LoRA or AdaLoRA layer."""

    def __init__(self, layer: LoraLayer) -> None:
        self._layer = layer
        self._names = [name for name in layer.active_adapters if name in layer.scaling]
        self._original = {name: layer.scaling[name] for name in self._names}

    def differs(self) -> bool:
        """Return whether the change is not zero."""
        return any(self._differs(name) for name in self._names)

    def _differs(self, name: str) -> bool:
        layer: Any = self._layer
        if layer.lora_bias.get(name) and layer.lora_B[name].bias.any():  # AdaLoRA has none
            return True
        return bool(layer.get_delta_weight(name).any())

    def refuses(self, amount: float) -> str | None:
        """Return None: any amount is possible."""
        return None

    def set(self, amount: float) -> None:
        """Make the output `amount` times what it was; 1 restores the original."""
        for name, scaling in self._original.items():
            self._layer.scaling[name] = scaling if amount == 1 else amount * scaling


class SwitchedChange:
    """The change made by an adapter that can only be switched on and off."""

    def __init__(self, layer: Any, kind: str) -> None:
        self._layer = layer
        self._kind = kind

    def differs(self) -> bool:
        """Return True: what zero means depends on the kind of adapter, so it isn't checked."""
        return True

    def refuses(self, amount: float) -> str | None:
        """Return why an amount is impossible; None for 0 and 1."""
        return None if amount in (0, 1) else f"by {self._kind}"

    def set(self, amount: float) -> None:
        """Switch the adapter on for 1, off for 0."""
        # PEFT changes requires_grad when it switches
        asking = [(parameter, parameter.requires_grad) for parameter in self._layer.parameters()]
        self._layer.enable_adapters(amount == 1)
        for parameter, asked in asking:
            parameter.requires_grad_(asked)


AdapterChange = ScalingChange | SwitchedChange | WeightChange


def adapter_modules(
    parts: HookedModel,
) -> dict[str, BaseTunerLayer | AuxiliaryTrainingWrapper]:
    """Return the modules that an adapter has replaced, by their full names."""
    return {
        name: module
        for name, module in parts.model.named_modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    }


def adapter_changes(parts: HookedModel) -> Iterator[tuple[str, AdapterChange]]:
    """Yield the change of every adapted module, with the module's full name.

    Raises:
        UserError: there is no adapter, it is merged or switched off, or it trained biases.
    """
    modules = adapter_modules(parts)
    if not modules:
        raise UserError("compare: the model after has no adapter; give the weights of before")
    for adapter, config in getattr(parts.model, "peft_config", {}).items():
        _check_base(f"adapter `{adapter}`", config)
    seen: set[int] = set()
    for name, module in modules.items():
        if module.disable_adapters or getattr(module, "merged", False):
            raise UserError(
                f"compare: the adapter of `{name}` is merged or switched off; unmerge it, or"
                " switch it on"
            )
        if isinstance(module, ModulesToSaveWrapper):
            own = module.modules_to_save[module.active_adapters[0]]
            for path, parameter in own.named_parameters():
                if id(parameter) not in seen:  # tied ones are in two such modules
                    seen.add(id(parameter))
                    original = module.original_module.get_parameter(path)
                    yield name, WeightChange(f"{name}.{path}", parameter, partial(_data, original))
        elif isinstance(module, LoraLayer) and not set(module.lora_variant) & set(
            module.active_adapters
        ):
            yield name, ScalingChange(module)
        else:
            yield name, SwitchedChange(module, _kind(module))


def check_delta_scaling(
    before: ModelReference, after: ModelReference, lambdas: Sequence[float]
) -> None:
    """Refuse a pair whose change can't be scaled, before weights are read.

    Args:
        before, after: the two models.
        lambdas: amounts by which changes will be multiplied.

    Raises:
        UserError: one model is an adapter on a third model, the model without the adapter is not
            its base, or the adapter does not support one of the lambdas.
    """
    if before.adapted or (after.adapted and not after.is_on(before)):
        one = before if before.adapted else after
        raise UserError(
            f"{one.given}: is an adapter, and the other model is not its base, so their"
            f" difference can't be scaled; merge it into its base, or {LEAVE_OUT}"
        )
    if not after.adapted:
        return
    config = read_adapter(after.weights, after.given)  # type: ignore[arg-type]
    _check_base(after.given, config)
    scaling = {PeftType.LORA, PeftType.ADALORA}
    switched = config.peft_type not in scaling or getattr(config, "use_dora", False)
    others = [amount for amount in lambdas if amount not in (0, 1)]
    if switched and others:
        kind = "DoRA" if config.peft_type == PeftType.LORA else config.peft_type
        raise UserError(
            f"compare.lambdas: the adapter `{after.name}` is {kind}, which can only be on or"
            f" off; use compare.lambdas=[0.0,1.0], or {LEAVE_OUT}"
        )


def _check_base(given: str, config: Any) -> None:
    if reason := changes_base(config):
        raise UserError(
            f"{given}: {reason}, so without the adapter it is not the model before, and their"
            f" difference can't be scaled; merge it (PEFT's merge_and_unload) and compare two whole"
            f" models, or {LEAVE_OUT}"
        )


def _data(parameter: nn.Parameter) -> Tensor:
    return parameter.data


def _kind(module: Any) -> str:
    """Return the name of an adapter that can't be scaled."""
    variants = getattr(module, "lora_variant", {}).values()
    names = sorted({type(variant).__name__ for variant in variants}) or [type(module).__name__]
    return ", ".join(name.removesuffix("LinearVariant") for name in names)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the model's own module inside an adapter's."""
    if isinstance(module, BaseTunerLayer):
        return module.get_base_layer()
    if isinstance(module, AuxiliaryTrainingWrapper):
        return module.original_module
    return module
