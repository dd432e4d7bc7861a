"""The change between two models, held so that it can be scaled and differentiated by unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.compare.deltas.deltas import EMBEDDING, NORMS, Before
from sumcirc.compare.path.changed_tensors import ChangedTensor, changed_tensors
from sumcirc.compare.path.units import BIASES, HEAD, KEY_VALUE, NEURONS, Unit, directions_of
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import evaluating
from sumcirc.schema import MODULES, Grain

_ORDER = (HEAD, KEY_VALUE, NEURONS, *MODULES, NORMS, BIASES)


class UnitChange:
    """The change of a live model's weights, divided into units of every grain.

    Args:
        tensors: all changed tensors.

    Attributes:
        units: the units of each grain that have a change, from the embedding to the last norm.
        tensors: as given.
        parameters: the tensors in memory with respect to which gradients are taken.
    """

    def __init__(self, tensors: Sequence[ChangedTensor]) -> None:
        self.tensors = tensors
        self.parameters: list[nn.Parameter] = [one.parameter for one in tensors]
        self.units: dict[Grain, list[Unit]] = {}
        self._index: dict[Grain, list[NDArray[np.int64]]] = {}
        for grain in Grain:
            positions = [_positions(one, grain) for one in tensors]
            found = dict.fromkeys(unit for units, _ in positions for unit in units)
            units = self.units[grain] = sorted(found, key=unit_order)
            number = {unit: i for i, unit in enumerate(units)}
            self._index[grain] = [
                np.array([number[unit] for unit in own])[index] for own, index in positions
            ]
        self._prepare()

    def _prepare(self) -> None:
        """Join the indices of all tensors, so that scores are summed in few calls."""
        self._joined = {grain: _joined_index(one) for grain, one in self._index.items()}
        sizes = [one.positions for one in self.tensors]
        self._starts = np.cumsum([0, *sizes[:-1]])
        # every tensor's last unit is that of what is along none of its directions
        by_tensor = self._index[Grain.direction]
        self._rest = np.array([index[-1] for index in by_tensor], dtype=np.int64)
        divided = [len(one.directions) for one in self.tensors]
        self._owners = np.repeat(np.arange(len(divided)), divided)
        self._along = _joined_index(
            [index[:count] for index, count in zip(by_tensor, divided, strict=True)]
        )

    @property
    def size(self) -> int:
        """Number of units of all grains."""
        return sum(len(units) for units in self.units.values())

    @property
    def summed(self) -> slice:
        """Where an array of the units of all grains holds those of one, which are a partition."""
        return slice(0, len(self.units[Grain.layer]))

    def scale(self, amount: float) -> None:
        """Multiply the whole change by a factor: 0 is the model before, 1 the one after."""
        self.scale_units(Grain.layer, np.full(len(self.units[Grain.layer]), float(amount)))

    def scale_units(self, grain: Grain, factors: NDArray[np.float64]) -> None:
        """Multiply the change of every unit of a grain by a factor of its own.

        Args:
            grain: the grain.
            factors: [units of the grain] factors.
        """
        for one, index in zip(self.tensors, self._index[grain], strict=True):
            if grain is Grain.direction and one.place.matrix is not None:
                one.scale_directions(factors[index])
            else:
                one.scale(factors[index])

    def weights(self, grain: Grain) -> NDArray[np.int64]:
        """Return the number of weights of each unit of a grain that isn't `direction`, [units].

        Two active adapters of the same linear count its weights twice.
        """
        found = _joined_index([one.weights() for one in self.tensors])
        return np.bincount(self._joined[grain], found, len(self.units[grain])).astype(np.int64)

    def squares(self, grain: Grain) -> NDArray[np.float64]:
        """Return the squared norm of each unit's change, [units of a grain but `direction`]."""
        found = np.concatenate([one.squares() for one in self.tensors])
        count = len(self.units[grain])
        return np.bincount(self._joined[grain], found, count).astype(np.float64)

    def scores(self, gradients: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return the products of gradient and change, summed over each unit.

        Args:
            gradients: gradients with respect to `parameters`.

        Returns:
            [units of all grains], grain by grain in the order of `Grain`.
        """
        pairs = list(zip(self.tensors, gradients, strict=True))
        values = _joined([one.scores(gradient) for one, gradient in pairs])
        along = _joined(
            [one.direction_scores(gradient) for one, gradient in pairs if len(one.directions)]
        )
        totals = np.add.reduceat(values, self._starts)
        rest = totals - np.bincount(self._owners, along, len(totals))
        found = []
        for grain, units in self.units.items():
            if grain is Grain.direction:
                found.append(
                    np.bincount(self._along, along, len(units))
                    + np.bincount(self._rest, rest, len(units))
                )
            else:
                found.append(np.bincount(self._joined[grain], values, len(units)))
        return np.concatenate(found)

    def by_grain(self, values: NDArray[np.float64]) -> dict[Grain, NDArray[np.float64]]:
        """Divide an array [..., units of all grains] into one [..., units] for each grain."""
        ends = np.cumsum([len(units) for units in self.units.values()])
        pieces = np.split(values, ends[:-1], axis=-1)
        return dict(zip(self.units, pieces, strict=True))


@contextmanager
def unit_change(
    hooked: HookedModel, before: Before, groups: int, directions: int
) -> Iterator[UnitChange]:
    """Yield the change of a live model in a `with` block; on exit the model is restored exactly.

    The model is in evaluation mode inside the block, and only tensors with a change require
    gradients.

    Args:
        hooked: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name; None if the model before is
            `hooked` without its adapter.
        groups: number of groups of neurons in an MLP.
        directions: largest number of singular directions of a matrix that are units.

    Raises:
        UserError: the change can't be scaled; see `changed_tensors`.
    """
    found = partial(changed_tensors, hooked, before, groups, directions)
    with held(hooked, found) as change:
        yield change


@contextmanager
def held(
    hooked: HookedModel, tensors_of: Callable[[ExitStack], list[ChangedTensor]]
) -> Iterator[UnitChange]:
    """Yield changed tensors as units in a `with` block; on exit the model is restored exactly.

    The model is in evaluation mode inside the block, and only tensors with a change require
    gradients.

    Args:
        hooked: the model.
        tensors_of: function that returns the changed tensors; what it changes in the model is
            restored by callbacks that it adds to the given stack.
    """
    asking = [(parameter, parameter.requires_grad) for parameter in hooked.model.parameters()]
    with ExitStack() as stack, evaluating(hooked.model), torch.inference_mode(False):
        for parameter, asked in asking:
            stack.callback(parameter.requires_grad_, asked)
            parameter.requires_grad_(False)
        with torch.no_grad():
            tensors = tensors_of(stack)
        found = UnitChange(tensors)
        if tensors:
            stack.callback(found.scale, 1.0)
        for parameter in found.parameters:
            parameter.requires_grad_(True)
        yield found


def _joined(values: Sequence[Tensor]) -> NDArray[np.float64]:
    return torch.cat([*values]).double().cpu().numpy() if values else np.empty(0)


def _joined_index(values: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *values])


def _positions(one: ChangedTensor, grain: Grain) -> tuple[Sequence[Unit], NDArray[np.int64]]:
    if grain is not Grain.direction:
        found = one.place.positions[grain]
        return found.units, found.index
    if one.place.matrix is None:
        found = one.place.positions[Grain.module]
        return found.units, found.index
    units = directions_of(one.place.matrix, len(one.directions))
    return units, np.arange(len(units))


def unit_order(unit: Unit) -> tuple[float, int, int]:
    """Return a key that sorts units from the embedding to the last norm.

    Args:
        unit: the unit.
    """
    layer = unit.layer
    if layer is None:
        layer = -1 if unit.part == EMBEDDING else np.inf
    part = _ORDER.index(unit.part) if unit.part in _ORDER else -1
    return layer, part, unit.index if unit.index is not None and part >= 0 else 0
