"""The change of each part of a model by fine-tuning, which can be scaled or removed temporarily.

The model in memory is the one after fine-tuning. With lambda the amount of a part's change,

    full pair       its weights become W_before + lambda (W_after - W_before)
    adapter pair    its adapter's scaling becomes lambda times what it was

so 0 is the model before and 1 the model after, both exactly: at 0 the weights of the model before
are used themselves (an adapter's output is multiplied by 0), at 1 nothing is changed. The output of
DoRA, and of adapters other than LoRA, is not linear in a scaling; they are switched on and off, and
any other amount is refused. A module that an adapter stores whole (PEFT's `modules_to_save`) is
treated like a full pair's.

Parts are the modules of each layer, its `norms` (including head norms), the `embedding` (with
positions), and `final`: the last norm, and the unembedding if it is not tied to the embedding.
Together they cover every parameter; a model with other parameters is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.compare.deltas.adapter_deltas import (
    AdapterChange,
    adapter_changes,
    adapter_modules,
    unwrapped,
)
from sumcirc.compare.deltas.weight_deltas import weight_changes
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES

NORMS, EMBEDDING, FINAL = "norms", "embedding", "final"

# weights of the model before, by their names in the model after; None for an adapter pair
Before = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class Target:
    """A part of the model whose change can be scaled.

    Attributes:
        layer: index of the layer; None for the parts `embedding` and `final`.
        module: name of a module of the layer, or `norms`, `embedding` or `final`.
    """

    layer: int | None
    module: str

    def __str__(self) -> str:
        return self.module if self.layer is None else f"layer {self.layer} {self.module}"


def all_targets(layers: int) -> list[Target]:
    """Return all targets of a model, from `embedding` to `final`.

    Args:
        layers: number of layers of the model.
    """
    inner = [Target(layer, module) for layer in range(layers) for module in (*MODULES, NORMS)]
    return [Target(None, EMBEDDING), *inner, Target(None, FINAL)]


def targets_of(hooked: HookedModel, before: Before) -> list[Target]:
    """Return the targets whose change is not zero, in the order of `all_targets`.

    Args:
        hooked: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name; None if `hooked` has an adapter,
            and the model before is `hooked` without it.

    Raises:
        UserError: the two models' parameters don't match, or the adapter is missing or can't be
            scaled; see `Changes`.
    """
    return Changes(hooked, before).changed()


@contextmanager
def scaled(
    model: PreTrainedModel | PeftModel, before: Before, amounts: Mapping[Target, float]
) -> Iterator[None]:
    """Scale the changes of some targets in a `with` block; on exit the model is restored exactly.

    Args:
        model: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name; None if `model` has an adapter,
            and the model before is `model` without it.
        amounts: lambda of each target; targets that are not listed have lambda 1.

    Raises:
        UserError: the two models' parameters don't match, the adapter is missing or can't be scaled
            (see `Changes`), the model lacks a target, or an adapter does not support a lambda.
    """
    with Changes(HookedModel(model), before).scaling() as scale:
        scale(amounts)
        yield


class Change(Protocol):
    """The change of one parameter, or the change that one adapter makes, in the model in memory."""

    def differs(self) -> bool:
        """Return whether the change is not zero."""
        ...

    def refuses(self, amount: float) -> str | None:
        """Return why the change can't be multiplied by a factor, or None if it can.

        Args:
            amount: the factor.
        """
        ...

    def set(self, amount: float) -> None:
        """Multiply the original change by a factor; 1 restores the original.

        Args:
            amount: the factor.
        """
        ...


def located_changes(
    hooked: HookedModel, before: Before
) -> Iterator[tuple[Target, str, AdapterChange]]:
    """Yield every change between two models with its target and the full name of its module.

    Args:
        hooked: the model after fine-tuning, with an adapter if `before` is None.
        before: weights of the model before fine-tuning, by name; None if the model before is
            `hooked` without its adapter.

    Raises:
        UserError: as in `Changes`.
    """
    if before is not None and adapter_modules(hooked):
        raise UserError(
            "compare: the model after has an adapter, the one before is another model; merge"
            " the adapter into its base (PEFT's merge_and_unload) to scale what differs"
        )
    places = Places(hooked)
    found = adapter_changes(hooked) if before is None else weight_changes(hooked, before)
    for name, change in found:
        yield places.target(name), name, change


class Changes:
    """All changes between two models, by target.

    Args:
        hooked: the model after fine-tuning, with an adapter if `before` is None.
        before: weights of the model before fine-tuning, by name; each is read when it is needed and
            not kept. None if the model before is `hooked` without its adapter.

    Attributes:
        by_target: changes of every target in the order of `all_targets`, including changes that are
            zero.

    Raises:
        UserError: a parameter belongs to no target; `before` lacks a weight, has it in another
            shape, or does not tie weights that the model after ties; the adapter is missing,
            merged, switched off or trained with biases; or both an adapter and `before` are given.
    """

    def __init__(self, hooked: HookedModel, before: Before) -> None:
        by_target: dict[Target, list[Change]] = {}
        for target, _, change in located_changes(hooked, before):
            by_target.setdefault(target, []).append(change)
        self.by_target = {
            target: by_target[target]
            for target in all_targets(hooked.shape.layers)
            if target in by_target
        }
        self._layers = hooked.shape.layers
        self._amounts: dict[Target, float] = {}

    def changed(self) -> list[Target]:
        """Return the targets whose change is not zero."""
        return [
            target
            for target, changes in self.by_target.items()
            if any(change.differs() for change in changes)
        ]

    def check(self, amounts: Mapping[Target, float]) -> None:
        """Refuse lambdas that can't be set.

        Args:
            amounts: lambda of each target.

        Raises:
            UserError: the model lacks a target, or an adapter does not support a lambda.
        """
        known = set(all_targets(self._layers))
        for target, amount in amounts.items():
            if target not in known:
                raise UserError(f"compare: the model has no `{target}` ({self._layers} layers)")
            for change in self.by_target.get(target, ()):
                if reason := change.refuses(amount):
                    raise UserError(
                        f"compare: lambda={amount:g}: the change of {target} is {reason}, which can"
                        " only be on or off; use lambda 0 and 1"
                    )

    @contextmanager
    def scaling(self) -> Iterator[Callable[[Mapping[Target, float]], None]]:
        """Yield a function that sets lambdas; on exit from the `with` block the model is restored.

        The function takes a mapping from targets to lambdas; targets that are not listed get lambda
        1. Each call touches only the changes whose lambda differs from that of the previous call.
        """
        try:
            yield self._set
        finally:
            self._set({})

    def _set(self, amounts: Mapping[Target, float]) -> None:
        self.check(amounts)
        for target, changes in self.by_target.items():
            amount = amounts.get(target, 1.0)
            if amount != self._amounts.get(target, 1.0):
                self._amounts[target] = amount  # first, so that an incomplete change is undone too
                for change in changes:
                    change.set(amount)


class Places:
    """Maps modules to the targets that contain them.

    Args:
        hooked: the model.
    """

    def __init__(self, hooked: HookedModel) -> None:
        names = architecture(hooked.model.config)
        self._model = hooked.model
        self._layers = f"{names.layers}."
        self._embedding, self._final_norm = names.embedding, names.final_norm
        self._unembedding = hooked.model.get_output_embeddings()
        self._linears = {
            name: Target(layer, module)
            for layer in range(hooked.shape.layers)
            for module in MODULES
            for name in names.linears(layer, module)
        }

    def target(self, name: str) -> Target:
        """Return the target of a module by the module's full name.

        Raises:
            UserError: no target contains it.
        """
        if name in self._linears:
            return self._linears[name]
        module = self._model.get_submodule(name)
        plain = unwrapped(module)
        if name.startswith(self._layers) and "Norm" in type(plain).__name__:
            return Target(int(name.removeprefix(self._layers).split(".")[0]), NORMS)
        if name == self._final_norm or module is self._unembedding:
            return Target(None, FINAL)
        if isinstance(plain, nn.Embedding) and not name.startswith(self._layers):
            return Target(None, EMBEDDING)
        raise UserError(
            f"compare: `{name}` of the model after belongs to none of the parts that are scaled;"
            f" use an unmodified `{self._model.config.model_type}`"
        )
