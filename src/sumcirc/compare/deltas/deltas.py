"""What fine-tuning changed in a model, part by part, to be scaled or taken out for a while.

The model in memory is the one after. With lambda the amount of a part's change,

    full pair       its weights become W_before + lambda (W_after - W_before)
    adapter pair    its adapter's own scaling becomes lambda times what it was

so 0 is the model before, 1 the model after, and both are met exactly: at 0 the weights of before
are used themselves (an adapter's output is multiplied by 0), at 1 nothing is touched. DoRA and
adapters other than LoRA give an output that is not linear in a scaling; they are switched on and
off, and any other amount is refused. A module that an adapter holds whole (PEFT's
`modules_to_save`) is changed as a full pair's are.

Parts are the anatomy's modules of each layer, its `norms` (head norms too), the `embedding` (with
positions), and `final`: the last norm, and the unembedding where it is not tied to the embedding.
Together they hold every parameter; one that none of them holds is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.compare.deltas.adapter_deltas import adapter_changes, adapter_modules, unwrapped
from sumcirc.compare.deltas.weight_deltas import weight_changes
from sumcirc.errors import UserError
from sumcirc.models.architectures import anatomy
from sumcirc.models.hooked_model import HookedModel
from sumcirc.schema import MODULES

NORMS, EMBEDDING, FINAL = "norms", "embedding", "final"

# weights of a full pair's model before by their names in the model after; None for an adapter pair
Before = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class Target:
    """A part whose change is scaled.

    Attributes:
        layer: None for `embedding` and `final`.
        module: of the anatomy, or `norms`, `embedding`, `final`.
    """

    layer: int | None
    module: str

    def __str__(self) -> str:
        return self.module if self.layer is None else f"layer {self.layer} {self.module}"


def all_targets(layers: int) -> list[Target]:
    """Those of a model, from its embedding to its end."""
    inner = [Target(layer, module) for layer in range(layers) for module in (*MODULES, NORMS)]
    return [Target(None, EMBEDDING), *inner, Target(None, FINAL)]


def targets_of(parts: HookedModel, before: Before) -> list[Target]:
    """The targets whose change is not zero, from the embedding to the end.

    Raises:
        UserError: see `Changes`.
    """
    return Changes(parts, before).changed()


@contextmanager
def scaled(
    model: PreTrainedModel | PeftModel, before: Before, amounts: Mapping[Target, float]
) -> Iterator[None]:
    """Within it the changes of some targets are scaled; then all is as it was, bit for bit.

    Args:
        amounts: lambda by target; 1 where none is given.

    Raises:
        UserError: see `Changes`.
    """
    with Changes(HookedModel(model), before).scaling() as scale:
        scale(amounts)
        yield


class Change(Protocol):
    """One tensor's, or one adapter's, in the model in memory."""

    def differs(self) -> bool:
        """Whether it is not zero."""
        ...

    def refuses(self, amount: float) -> str | None:
        """Why this amount can't be had; None where it can."""
        ...

    def set(self, amount: float) -> None:
        """Make it `amount` times what it was; 1 puts the original back."""
        ...


class Changes:
    """All changes of a pair by target.

    Args:
        parts: of the model after, adapted where `before` is None.
        before: see `Before`; tensors are asked for when they are needed, and not kept.

    Attributes:
        by_target: from the embedding to the end, whether they are zero or not.

    Raises:
        UserError: a part that no target holds; `before` lacks a weight or has it in another shape,
            or it does not tie what the model after ties; there is no adapter, or it is merged,
            switched off or trained with biases; both an adapter and `before` are there.
    """

    def __init__(self, parts: HookedModel, before: Before) -> None:
        if before is not None and adapter_modules(parts):
            raise UserError(
                "compare: the model after has an adapter, the one before is another model; merge"
                " the adapter into its base (PEFT's merge_and_unload) to scale what differs"
            )
        places = _Places(parts)
        found = adapter_changes(parts) if before is None else weight_changes(parts, before)
        by_target: dict[Target, list[Change]] = {}
        for name, change in found:
            by_target.setdefault(places.target(name), []).append(change)
        self.by_target = {
            target: by_target[target]
            for target in all_targets(parts.shape.layers)
            if target in by_target
        }
        self._layers = parts.shape.layers
        self._amounts: dict[Target, float] = {}

    def changed(self) -> list[Target]:
        """The targets whose change is not zero."""
        return [
            target
            for target, changes in self.by_target.items()
            if any(change.differs() for change in changes)
        ]

    def check(self, amounts: Mapping[Target, float]) -> None:
        """Refuse what can't be set.

        Raises:
            UserError: a target that the model has not, or an amount that its adapter can't have.
        """
        known = set(all_targets(self._layers))
        for target, amount in amounts.items():
            if target not in known:
                raise UserError(f"compare: the model has no `{target}` ({self._layers} layers)")
            for change in self.by_target.get(target, ()):
                if reason := change.refuses(amount):
                    raise UserError(
                        f"compare: lambda={amount:g}: the change of {target} is {reason}, which is"
                        " on or off; take lambda 0 and 1 alone"
                    )

    @contextmanager
    def scaling(self) -> Iterator[Callable[[Mapping[Target, float]], None]]:
        """Yields what sets amounts, 1 where none is given; the original is put back at the end.

        From one setting to the next only what differs is touched.
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
                self._amounts[target] = amount  # first: half done is undone too
                for change in changes:
                    change.set(amount)


class _Places:
    """Which target holds a module."""

    def __init__(self, parts: HookedModel) -> None:
        names = anatomy(parts.model.config)
        self._model = parts.model
        self._layers = f"{names.layers}."
        self._embedding, self._final_norm = names.embedding, names.final_norm
        self._unembedding = parts.unembedding
        self._linears = {
            name: Target(layer, module)
            for layer in range(parts.shape.layers)
            for module in MODULES
            for name in names.linears(layer, module)
        }

    def target(self, name: str) -> Target:
        """The target of a module by its full name.

        Raises:
            UserError: none holds it.
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
            f"compare: `{name}` of the model after is of none of the parts that are scaled;"
            f" take a `{self._model.config.model_type}` as it comes"
        )
