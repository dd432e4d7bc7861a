"""The change of a live model between two states of its training, divided into units.

With W_start and W_end the effective weights in the two states, the model is held at

    whole weights    W_start + lambda (W_end - W_start), for every trained parameter that differs
    LoRA             W0 + s [(1 - lambda) B_start, lambda B_end] [A_start; A_end]

where [X, Y] puts matrices side by side and [X; Y] one below the other, so that a LoRA whose rank is
r changes by a product of rank up to 2 r that is never built. Where units are input features,
1 - lambda and lambda stand beside A instead. The model before fine-tuning has B_start of rank 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sumcirc.compare.deltas.adapter_deltas import ScalingChange
from sumcirc.compare.deltas.deltas import Before, Target, located_changes
from sumcirc.compare.deltas.weight_deltas import WeightChange
from sumcirc.compare.path.changed_tensors import (
    ChangedTensor,
    changed_tensors,
    factors_of,
    weight_tensors,
)
from sumcirc.compare.path.units import Partition
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES

# trained parameters by their names in the model
State = Mapping[str, Tensor]


def segment_tensors(
    hooked: HookedModel,
    before: Before,
    start: State | None,
    end: State,
    groups: int,
    stack: ExitStack,
) -> list[ChangedTensor]:
    """Return every tensor that differs between two states, and put the model into the second.

    Args:
        hooked: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name; None if the model before is
            `hooked` without its adapter.
        start: trained parameters in the first state; None for the model before.
        end: trained parameters in the second state.
        groups: number of groups of neurons in an MLP.
        stack: puts the model back into its state when it is closed.

    Raises:
        UserError: the change is neither one of whole weights nor by a LoRA.
    """
    if before is None:
        return _of_adapter(hooked, start, end, groups, stack)
    names = []
    for name, parameter in hooked.model.named_parameters():
        names.append(name)
        if name in end:
            put(parameter, end[name], stack)
    return changed_tensors(hooked, _Overlaid(names, start or {}, before), groups, 0, stack)


def put(parameter: nn.Parameter, value: Tensor, stack: ExitStack) -> None:
    """Give a parameter other values, of any shape, until a stack is closed.

    Args:
        parameter: the parameter in memory.
        value: its new values, on any device.
        stack: restores the parameter when it is closed.
    """
    stack.callback(setattr, parameter, "data", parameter.data)
    # a copy: a value may be mapped from a file, and what is written to it would stay in memory
    parameter.data = value.to(parameter.data, copy=True)


class _Overlaid(Mapping[str, Tensor]):
    """Weights by name: those of a state, and for parameters that weren't trained those before."""

    def __init__(self, names: list[str], state: State, before: State) -> None:
        self._names, self._state, self._before = names, state, before

    def __getitem__(self, name: str) -> Tensor:
        return self._state[name] if name in self._state else self._before[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names and (name in self._state or name in self._before)


def _of_adapter(
    hooked: HookedModel, start: State | None, end: State, groups: int, stack: ExitStack
) -> list[ChangedTensor]:
    partition = Partition(hooked, groups)
    names = {id(parameter): name for name, parameter in hooked.model.named_parameters()}
    found = []
    for target, name, change in located_changes(hooked, None):
        if isinstance(change, WeightChange):
            key = names[id(change.parameter)]
            put(change.parameter, end[key], stack)
            read = change.read if start is None else partial(start.__getitem__, key)
            whole = WeightChange(change.name, change.parameter, read)
            found += weight_tensors(partition, target, name, whole, 0)
        elif isinstance(change, ScalingChange) and not getattr(change.layer, "lora_E", {}):
            for adapter in change.names:
                found += _low_rank(
                    partition, target, name, change.layer, adapter, names, (start, end), stack
                )
        else:
            kind = "AdaLoRA" if isinstance(change, ScalingChange) else change.kind
            raise UserError(
                f"compare.path.trajectory=true: the change of {target} is by {kind}; only LoRA and"
                " whole weights are followed through training; leave it out"
            )
    return found


def _low_rank(
    partition: Partition,
    target: Target,
    name: str,
    layer: Any,
    adapter: str,
    names: Mapping[int, str],
    states: tuple[State | None, State],
    stack: ExitStack,
) -> list[ChangedTensor]:
    """Put both states' factors into a LoRA layer, and return the factor that is scaled, and bias.

    Args:
        partition, target, name: as for `Partition.place`.
        layer, adapter: the LoRA layer, and the adapter's name.
        names: names of the model's parameters by their ids.
        states: the two states.
        stack: restores the layer.
    """
    start, end = states
    place = partition.place(target, name, bias=False)
    b, a = factors_of(layer, adapter)
    pair = [end[names[id(one)]].to(one.data) for one in (b, a)]
    # before fine-tuning the product is zero, whatever A is
    first = [one.new_empty(0, 0) for one in pair]
    if start is None:
        first = [pair[0].new_empty(len(b), 0), pair[1].new_empty(0, a.shape[1])]
    else:
        first = [start[names[id(one)]].to(one.data) for one in (b, a)]
    axes = (1, 0)  # along which the ranks of B and A lie
    both = [torch.cat(two, axis) for *two, axis in zip(first, pair, axes, strict=True)]
    scaled, other = (a, b) if place.by_input else (b, a)
    which = int(bool(place.by_input))
    zeros = [torch.zeros_like(first[which]), torch.zeros_like(pair[which])]
    with_end = torch.cat([zeros[0], pair[which]], axes[which])
    with_start = torch.cat([first[which], zeros[1]], axes[which])
    put(scaled, with_end, stack)
    put(other, both[1 - which], stack)
    rest = layer.scaling[adapter] * (both[0].T if place.by_input else both[1])
    axis = None if place.by_input is None else which
    found = [ChangedTensor(scaled, lambda: with_start, place, axis, rest)]
    if layer.lora_bias.get(adapter):
        own = layer.lora_B[adapter].bias
        key = names[id(own)]
        put(own, end[key], stack)
        old = torch.zeros_like(own.data) if start is None else start[key]
        of_bias = partition.place(target, name, bias=target.module in MODULES)
        found.append(ChangedTensor(own, lambda: old, of_bias, None))
    return [one for one in found if one.differs()]
