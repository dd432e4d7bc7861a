"""Weights of the model before, by name, and changes that put them into the model in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.circuits.metrics import at_least_float32
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.storage.writing import write_file


class StoredWeights(Mapping[str, Tensor]):
    """Weights by name, from a file that `store_weights` wrote; each is read when it is accessed."""

    def __init__(self, file: Path) -> None:
        self._file: Any = safe_open(file, framework="pt")
        self._stored: dict[str, str] = json.loads(self._file.metadata()["stored"])

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(self._stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def store_weights(model: PreTrainedModel, file: Path) -> StoredWeights:
    """Write a model's parameters to a file, under the names that they have in memory.

    The model's own files can't be used instead: they may be split into shards, or have another
    precision or other names.

    Args:
        model: the model whose parameters are written.
        file: the file to write.

    Returns:
        The written parameters, by name.

    Raises:
        UserError: the disk is full or the folder can't be written.
    """
    places: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        places[id(parameter)] = name
    stored = {
        name: places[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    tensors = {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }
    metadata = {"stored": json.dumps(stored)}
    write_file(file, lambda temporary: save_file(tensors, temporary, metadata))
    return StoredWeights(file)


class WeightChange:
    """The change of one parameter, from its values before fine-tuning to those in memory.

    Scaling exchanges the parameter's tensor, so the original tensor is never overwritten.

    Args:
        name: full name of the parameter, for error messages.
        parameter: the parameter in memory.
        before: function that returns the parameter's values before fine-tuning.

    Attributes:
        name, parameter: as given.
    """

    def __init__(self, name: str, parameter: nn.Parameter, before: Callable[[], Tensor]) -> None:
        self.name = name
        self.parameter = parameter
        self._before = before
        self._original: Tensor | None = None

    def differs(self) -> bool:
        """Return whether the change is not zero."""
        return not torch.equal(self.read(), self.parameter.data)

    def refuses(self, amount: float) -> str | None:
        """Return None, since the change can be multiplied by any factor.

        Args:
            amount: the factor.
        """
        return None

    def set(self, amount: float) -> None:
        """Set the weights to before + amount * (after - before).

        Args:
            amount: the factor by which the change is multiplied.
        """
        if self._original is None:
            self._original = self.parameter.data
        if amount == 1:
            self.parameter.data, self._original = self._original, None
            return
        found = self.read()
        if amount != 0:
            start, end = at_least_float32(found), at_least_float32(self._original)
            found = (start + amount * (end - start)).to(self._original)
        self.parameter.data = found

    def read(self) -> Tensor:
        """Return the values before fine-tuning, in the type of the parameter in memory."""
        found, parameter = self._before().detach(), self.parameter
        if found.shape != parameter.shape:
            raise UserError(
                f"compare: `{self.name}` is {list(found.shape)} before and"
                f" {list(parameter.shape)} after; compare models of the same sizes"
            )
        return found.to(parameter)


def weight_changes(
    hooked: HookedModel, before: Mapping[str, Tensor]
) -> Iterator[tuple[str, WeightChange]]:
    """Yield the full name of each parameter's module, and the parameter's change.

    Neither model may have an adapter. Tied parameters are yielded once.

    Args:
        hooked: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name.

    Raises:
        UserError: `before` lacks a weight, or does not tie weights that the model after ties.
    """
    first: dict[int, str] = {}
    for name, parameter in hooked.model.named_parameters(remove_duplicate=False):
        tied = first.setdefault(id(parameter), name)
        if tied == name:
            if name not in before:
                raise UserError(
                    f"compare: the model before has no weight `{name}`, the one after has; compare"
                    " models of one architecture"
                )
            change = WeightChange(name, parameter, partial(before.__getitem__, name))
            yield name.rpartition(".")[0], change
        elif name in before and not torch.equal(before[name], before[tied]):
            raise UserError(
                f"compare: `{name}` and `{tied}` are tied in the model after and differ in the one"
                " before; compare models that both tie them or both do not"
            )
