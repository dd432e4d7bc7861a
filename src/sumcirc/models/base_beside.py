"""A trained model and the model that it was trained from, both at hand at the same time.

Where switching an adapter off gives its base, one model serves as both. Otherwise (full
fine-tuning, and adapters that rewrite the base) the base is loaded too, so that the weights are in
memory twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peft import PeftModel
from torch import nn

from sumcirc.models.peft_adapters import changes_base


class BaseBeside:
    """The base of a trained model.

    Args:
        model: the trained model.
        load: loads the base; called only if switching off the adapter doesn't give it.
    """

    def __init__(self, model: nn.Module, load: Callable[[], nn.Module]) -> None:
        self._adapted = _with_base_inside(model)
        self._loaded = None if self._adapted is not None else load()

    @property
    def is_loaded(self) -> bool:
        """Whether the base is a model of its own, beside the trained one."""
        return self._loaded is not None

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Yield the base for a `with` block; afterwards the trained model is as it was before."""
        if self._adapted is None:
            assert self._loaded is not None
            yield self._loaded
            return
        asking = [(one, one.requires_grad) for one in self._adapted.parameters()]
        try:
            with self._adapted.disable_adapter():
                yield self._adapted
        finally:
            # PEFT makes the parameters of an adapter trainable when it switches it on again
            for parameter, asks in asking:
                parameter.requires_grad_(asks)


def _with_base_inside(model: nn.Module) -> PeftModel | None:
    """Return the model if it is an adapter that can be switched off to get its base, else None."""
    if not isinstance(model, PeftModel):
        return None
    configs = [model.peft_config[name] for name in model.active_adapters]
    return model if all(changes_base(config) is None for config in configs) else None
