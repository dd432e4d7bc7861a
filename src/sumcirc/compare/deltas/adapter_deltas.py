"""The change that an adapter makes to each module, scaled or switched off through PEFT."""

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

LEAVE_OUT = "leave delta_scaling, path and masks out of compare.analyses"


class ScalingChange:
    """Scales the change made by all active adapters of a LoRA or AdaLoRA layer.

    Args:
        layer: the layer, to whose output PEFT adds the output of the adapters.

    Attributes:
        layer: as given.
        names: names of the active adapters that this layer has.
    """

    def __init__(self, layer: LoraLayer) -> None:
        self.layer = layer
        self.names = [name for name in layer.active_adapters if name in layer.scaling]
        self._original = {name: layer.scaling[name] for name in self.names}

    def differs(self) -> bool:
        """Return whether an active adapter changes the layer's output."""
        return any(self._differs(name) for name in self.names)

    def _differs(self, name: str) -> bool:
        layer: Any = self.layer
        if layer.lora_bias.get(name) and layer.lora_B[name].bias.any():  # AdaLoRA has none
            return True
        return bool(layer.get_delta_weight(name).any())

    def refuses(self, amount: float) -> str | None:
        """Return None, since the change can be multiplied by any factor.

        Args:
            amount: the factor.
        """
        return None

    def set(self, amount: float) -> None:
        """Multiply the adapters' original output by a factor; 1 restores it.

        Args:
            amount: the factor.
        """
        for name, scaling in self._original.items():
            self.layer.scaling[name] = scaling if amount == 1 else amount * scaling


class SwitchedChange:
    """The change made by an adapter that can only be switched on and off.

    Args:
        layer: PEFT's wrapper around the module.
        kind: name of the kind of adapter, for error messages.

    Attributes:
        layer, kind: as given.
    """

    def __init__(self, layer: Any, kind: str) -> None:
        self.layer = layer
        self.kind = kind

    def differs(self) -> bool:
        """Return True without a check, since each kind of adapter would need its own."""
        return True

    def refuses(self, amount: float) -> str | None:
        """Return why the change can't be multiplied by a factor; None if the factor is 0 or 1.

        Args:
            amount: the factor.
        """
        return None if amount in (0, 1) else f"by {self.kind}"

    def set(self, amount: float) -> None:
        """Switch the adapter on or off.

        Args:
            amount: 1 to switch it on, 0 to switch it off.
        """
        # PEFT changes requires_grad when it switches
        asking = [(parameter, parameter.requires_grad) for parameter in self.layer.parameters()]
        self.layer.enable_adapters(amount == 1)
        for parameter, asked in asking:
            parameter.requires_grad_(asked)


AdapterChange = ScalingChange | SwitchedChange | WeightChange


def adapter_modules(
    hooked: HookedModel,
) -> dict[str, BaseTunerLayer | AuxiliaryTrainingWrapper]:
    """Return PEFT's wrappers around the adapted modules of a model, by the modules' full names.

    Args:
        hooked: the model.
    """
    return {
        name: module
        for name, module in hooked.model.named_modules()
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
    }


def adapter_changes(hooked: HookedModel) -> Iterator[tuple[str, AdapterChange]]:
    """Yield the full name of every adapted module with the change that the adapter makes to it.

    A module that the adapter replaces as a whole (`modules_to_save`) is yielded once per parameter.

    Args:
        hooked: the model with its adapter.

    Raises:
        UserError: the model has no adapter, or the adapter is merged, is switched off, or changes
            parameters of the base model, such as biases.
    """
    modules = adapter_modules(hooked)
    if not modules:
        raise UserError("compare: the model after has no adapter; give the weights of before")
    for adapter, config in getattr(hooked.model, "peft_config", {}).items():
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
    """Refuse two models whose difference can't be scaled, before their weights are read.

    Args:
        before, after: the two models.
        lambdas: factors by which the difference will be multiplied.

    Raises:
        UserError: one of the models is an adapter whose base is not the other model, an adapter
            that also changes parameters of its base, or an adapter that does not support one of the
            lambdas.
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
            " off; use compare.lambdas=[0.0,1.0], or leave delta_scaling out of compare.analyses"
        )


def check_path(after: ModelReference) -> None:
    """Refuse an adapter whose change can't be scaled by unit, before its weights are read.

    Args:
        after: the model after fine-tuning.

    Raises:
        UserError: the adapter trains single rows of the embedding.
    """
    if not after.adapted:
        return
    config = read_adapter(after.weights, after.given)  # type: ignore[arg-type]
    rows = getattr(config, "trainable_token_indices", None) or getattr(
        config, "token_indices", None
    )
    if rows:
        raise UserError(
            f"{after.given}: trains single rows of the embedding, which path attribution and"
            " masks do not support; merge it into its base (PEFT's merge_and_unload) and compare"
            " two whole models, or leave path and masks out of compare.analyses"
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
    """Return the name of the kind of adapter in a module, such as `Dora`."""
    variants = getattr(module, "lora_variant", {}).values()
    names = sorted({type(variant).__name__ for variant in variants}) or [type(module).__name__]
    return ", ".join(name.removesuffix("LinearVariant") for name in names)


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the model's own module inside an adapter's wrapper.

    Args:
        module: a wrapper, or a module without one, which is returned unchanged.
    """
    if isinstance(module, BaseTunerLayer):
        return module.get_base_layer()
    if isinstance(module, AuxiliaryTrainingWrapper):
        return module.original_module
    return module
