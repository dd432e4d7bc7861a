"""Units of a change: layers, modules, heads and neuron groups, and singular directions.

A grain is one way to divide everything that changed into units that don't overlap:

    layer      every layer; the embedding (with positions), and `final`: the last norm, with the
               unembedding if it is not tied to the embedding
    module     every module of a layer (`qkv`, `attn_out`, `mlp_in`, `mlp_out`), its norms, and the
               biases of its linears
    head       every head (the weights of its query, key and value, and those by which the output
               projection reads it) and every group of neurons (the weights into and out of them);
               keys and values that several heads share are units of their own
    direction  the leading singular directions of every changed matrix, and the rest of the matrix

What a grain doesn't divide any further (embedding, norms, biases) is a unit as in `module`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sumcirc.compare.deltas.deltas import Target
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import architecture
from sumcirc.schema import MODULES, Grain

BIASES = "biases"
HEAD, KEY_VALUE, NEURONS, REST = "head", "key_value", "neurons", "rest"


@dataclass(frozen=True)
class Unit:
    """A part of the change.

    Attributes:
        label: name of the unit, unique within its grain.
        layer: index of the layer; None outside the layers.
        part: what the unit is, such as `layer`, `qkv`, `head` or `norms`; the name of the linear
            for a singular direction.
        index: index of the head, key/value head, group of neurons or singular direction, if any.
    """

    label: str
    layer: int | None
    part: str
    index: int | None = None


@dataclass(frozen=True, eq=False)
class Positions:
    """The unit of every position along one side of a tensor.

    Attributes:
        units: the units.
        index: [positions] index in `units` of each position's unit.
    """

    units: Sequence[Unit]
    index: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Place:
    """The units to which the entries of one changed tensor belong.

    Attributes:
        by_input: whether positions are input features of a linear rather than output features; None
            for a tensor that no grain divides, which has a single position.
        positions: the units of the positions, for each grain but `direction`.
        module: full name of the module that the tensor belongs to.
        matrix: layer and name of the linear if the tensor is its weight, otherwise None.
    """

    by_input: bool | None
    positions: dict[Grain, Positions]
    module: str
    matrix: tuple[int, str] | None = None


class Partition:
    """Assigns the entries of changed tensors to units.

    Args:
        hooked: the model.
        groups: number of groups into which the neurons of an MLP are divided; neighbouring neurons
            are in the same group.
    """

    def __init__(self, hooked: HookedModel, groups: int) -> None:
        self._hooked, self._shape = hooked, hooked.shape
        self._names = architecture(hooked.model.config)
        neurons = self._shape.neurons
        self._group_of = np.arange(neurons) * min(groups, neurons) // neurons

    def module(self, name: str) -> nn.Module:
        """Return a module of the model by its full name."""
        return self._hooked.model.get_submodule(name)

    def place(self, target: Target, name: str, bias: bool) -> Place:
        """Return the units of a parameter's entries, or of the change that an adapter makes to it.

        Args:
            target: the part of the model that contains the parameter.
            name: full name of the parameter's module.
            bias: whether the parameter is a linear's bias.
        """
        layer, module = target.layer, target.module
        if layer is None:
            unit = Unit(module, None, module)
            return _undivided(unit, unit, name)
        whole = Unit(f"layer {layer}", layer, "layer")
        if module not in MODULES or bias:
            part = BIASES if bias else module
            return _undivided(whole, Unit(f"layer {layer} {part}", layer, part), name)
        heads = self._heads(layer, module, name)
        count = len(heads.index)
        positions = {
            Grain.layer: _one(whole, count),
            Grain.module: _one(Unit(f"layer {layer} {module}", layer, module), count),
            Grain.head: heads,
        }
        linear = name.removeprefix(f"{self._names.layers}.{layer}.")
        return Place(module in ("attn_out", "mlp_out"), positions, name, (layer, linear))

    def _heads(self, layer: int, module: str, name: str) -> Positions:
        """Return the head or the group of neurons of every position of a linear."""
        shape, linears = self._shape, self._names.linears(layer, module)
        if module in ("mlp_in", "mlp_out"):
            groups = range(int(self._group_of[-1]) + 1)
            # a single linear of a gated MLP holds the gate, then the activations
            both = module == "mlp_in" and self._names.gated and len(linears) == 1
            index = np.tile(self._group_of, 2 if both else 1)
            return Positions([self._neurons(layer, group) for group in groups], index)
        query = [self._head(layer, head) for head in range(shape.heads)]
        if module == "attn_out":
            return Positions(query, np.repeat(np.arange(shape.heads), shape.head_width))
        shared = [self._key_value(layer, head) for head in range(shape.key_value_heads)]
        if len(linears) > 1:
            units = query if name == linears[0] else shared
        else:
            units = [*query, *shared, *shared]
        size = len(units) * shape.head_width
        # [heads of the linear, head width]: the position of every feature of each head
        places = self._hooked.by_head(torch.arange(size)).numpy()
        index = np.empty(size, dtype=np.int64)
        index[places] = np.arange(len(units))[:, None]
        return Positions(units, index)

    def _head(self, layer: int, head: int) -> Unit:
        return Unit(f"head.{layer}.{head}", layer, HEAD, head)

    def _key_value(self, layer: int, head: int) -> Unit:
        group = self._shape.group
        if group == 1:
            return self._head(layer, head)
        heads = f"heads {head * group}-{head * group + group - 1}"
        return Unit(f"key_value.{layer}.{head} ({heads})", layer, KEY_VALUE, head)

    def _neurons(self, layer: int, group: int) -> Unit:
        members = np.flatnonzero(self._group_of == group)
        label = f"neurons.{layer}.{group} ({members[0]}-{members[-1]})"
        return Unit(label, layer, NEURONS, group)


def directions_of(matrix: tuple[int, str], count: int) -> list[Unit]:
    """Return the units of a matrix's singular directions, largest first, and of the rest.

    Args:
        matrix: layer and name of the linear.
        count: number of directions before the rest.
    """
    layer, linear = matrix
    name = f"layer {layer} {linear}"
    found = [Unit(f"{name} direction {i}", layer, linear, i) for i in range(count)]
    return [*found, Unit(f"{name} {REST}", layer, linear)]


def _one(unit: Unit, count: int) -> Positions:
    return Positions([unit], np.zeros(count, dtype=np.int64))


def _undivided(layer: Unit, module: Unit, name: str) -> Place:
    positions = {Grain.layer: _one(layer, 1)}
    positions |= dict.fromkeys((Grain.module, Grain.head), _one(module, 1))
    return Place(None, positions, name)
