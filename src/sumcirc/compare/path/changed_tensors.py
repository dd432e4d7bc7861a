"""Changed tensors of a live model, scaled along the change and restricted to units.

Every change is held as tensors that enter the effective weights linearly, so that the gradient with
respect to such a tensor, times its change, is the gradient with respect to the effective weights
times theirs:

    whole weights    W0 + lambda dW, for every parameter that differs
    LoRA             W0 + s (lambda B) A where units are output features, W0 + s B (lambda A) where
                     they are input features: the product B A is never built, and
                     < dM/d(lambda B), B > = < dM/dW, s B A >
    other adapters   W0 + lambda dW, with W0 and dW read from the module (DoRA, VeRA, IA3): the
                     module's forward is replaced by this affine map for as long as it is needed

The leading singular directions of a changed matrix D are u_1 s_1 v_1', u_2 s_2 v_2', ..., each of
which is the projection u_k u_k' D. Those of a LoRA's product follow from its factors: with the QR
decompositions B = Q_B R_B and A' = Q_A R_A, they are Q_B times the left singular vectors of
R_B R_A', and Q_A times its right ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sumcirc.circuits.metrics import at_least_float32
from sumcirc.compare.deltas.adapter_deltas import ScalingChange, SwitchedChange, unwrapped
from sumcirc.compare.deltas.deltas import Before, Target, located_changes
from sumcirc.compare.deltas.weight_deltas import WeightChange
from sumcirc.compare.path.units import Partition, Place
from sumcirc.errors import UserError
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES


class ChangedTensor:
    """A tensor of the live model with its change, which can be scaled position by position.

    Args:
        parameter: the tensor in memory, with the change.
        read: function that returns the tensor without the change.
        place: the units of the tensor's entries.
        axis: the axis of the tensor along which `place` has its positions, None without.
        other: [rank, n] the factor by which the tensor is multiplied if the change of weights is a
            product of the two; None if the tensor's own change is that of the weights.

    Attributes:
        parameter, place: as given.
        directions: [directions, n] orthonormal singular vectors along the axis `spectral_axis`,
            empty if the tensor is no matrix that is divided into directions.
        spectral_axis: the axis along which the vectors lie.
    """

    def __init__(
        self,
        parameter: nn.Parameter,
        read: Callable[[], Tensor],
        place: Place,
        axis: int | None,
        other: Tensor | None = None,
    ) -> None:
        self.parameter, self.place = parameter, place
        self._read, self._axis, self._other = read, axis, other
        self._original = parameter.data
        self._change = at_least_float32(parameter.data) - at_least_float32(read())
        self.directions, self.spectral_axis = self._change.new_empty(0, 0), 0
        self._others = [one for one in range(parameter.ndim) if one != axis]
        self._projected: Tensor | None = None

    def differs(self) -> bool:
        """Return whether the change is not zero."""
        return bool(self._change.any())

    def divide(self, count: int, factors: tuple[Tensor, Tensor] | None = None) -> None:
        """Find the leading singular directions of the change.

        Args:
            count: largest number of directions.
            factors: B [out, rank] and A [rank, in] if the changed matrix is their product and this
                tensor is one of them; None if the tensor's own change is the matrix.
        """
        change = self._change
        if factors is None:
            self.spectral_axis = int(change.shape[0] > change.shape[1])
            vectors = _left_vectors(change if self.spectral_axis == 0 else change.T, count)
        else:
            # the input side's vectors lie along A's last axis, the output side's along B's first
            self.spectral_axis = int(bool(self.place.by_input))
            b, a = (one.double() for one in factors)
            b, a = (a.T, b.T) if self.place.by_input else (b, a)
            (left, upper), right = torch.linalg.qr(b), torch.linalg.qr(a.T).R
            vectors = (left @ torch.linalg.svd(upper @ right.T).U)[:, :count].T
        self.directions = vectors.to(change)
        self._projected = self.directions @ self._oriented(change)

    def scores(self, gradient: Tensor) -> Tensor:
        """Return the products of gradient and change, summed at each position, [positions].

        Args:
            gradient: gradient with respect to the tensor in memory.
        """
        product = at_least_float32(gradient) * self._change
        return product.sum()[None] if self._axis is None else product.sum(self._others)

    def direction_scores(self, gradient: Tensor) -> Tensor:
        """Return the products of gradient and change along each singular direction, [directions].

        Args:
            gradient: gradient with respect to the tensor in memory.
        """
        assert self._projected is not None
        along = self.directions @ self._oriented(at_least_float32(gradient))
        return (along * self._projected).sum(1)

    def scale(self, factors: NDArray[np.float64]) -> None:
        """Multiply the change at every position by a factor; all ones restore the tensor.

        Args:
            factors: [positions] factors.
        """
        if (factors == 1).all():
            self.parameter.data = self._original
            return
        if (factors == 0).all():
            self.parameter.data = self._read().to(self._original).clone()
            return
        if (factors == factors[0]).all():
            start = at_least_float32(self._read().to(self._original))
            found = torch.add(start, self._change, alpha=float(factors[0]))
            self.parameter.data = found.to(self._original)
            return
        by = torch.from_numpy(factors).to(self._change)
        if self._axis is not None:
            shape = [1] * self._change.ndim
            shape[self._axis] = -1
            by = by.view(shape)
        self._put(by * self._change)

    def scale_directions(self, factors: NDArray[np.float64]) -> None:
        """Multiply the change along every direction by a factor; all ones restore the tensor.

        Args:
            factors: [directions + 1] factors, the last of which is that of the rest.
        """
        if len(set(factors.tolist())) == 1:
            self.scale(factors[:1].repeat(self.positions))
            return
        assert self._projected is not None
        more = torch.from_numpy(factors[:-1] - factors[-1]).to(self._change)
        found = (self.directions.T * more) @ self._projected
        self._put(float(factors[-1]) * self._change + self._oriented(found))

    @property
    def change(self) -> Tensor:
        """The change of the tensor itself, in its shape."""
        return self._change

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """One or two matrices whose product is the change of a linear's weight, [in, out]."""
        change, other = self._change, self._other
        if other is not None:
            return (change.T, other) if self.place.by_input else (other.T, change.T)
        by_input_first = bool(self.place.by_input) == (self._axis == 0)
        return (change if by_input_first else change.T,)

    @property
    def positions(self) -> int:
        """Number of positions."""
        return 1 if self._axis is None else self._change.shape[self._axis]

    def weights(self) -> NDArray[np.int64]:
        """Return the number of weights that change at each position, [positions]."""
        count = self._change.numel() // self.positions
        if self._other is not None:  # from [.., rank] to [.., n]
            count = count // self._other.shape[0] * self._other.shape[1]
        return np.full(self.positions, count)

    def squares(self) -> NDArray[np.float64]:
        """Return the squared norm of the change of weights at each position, [positions].

        That of a product B A is the sum of B * (B A A'), so the product isn't built.
        """
        change = self._change.double()
        left = change
        if self._other is not None:
            other = self._other.double()
            gram = other @ other.T
            left = gram @ change if self.place.by_input else change @ gram
        found = left * change
        found = found.sum()[None] if self._axis is None else found.sum(self._others)
        return found.cpu().numpy()

    def _put(self, change: Tensor) -> None:
        start = at_least_float32(self._read().to(self._original))
        self.parameter.data = (start + change).to(self._original)

    def _oriented(self, matrix: Tensor) -> Tensor:
        return matrix if self.spectral_axis == 0 else matrix.T


def changed_tensors(
    hooked: HookedModel, before: Before, groups: int, directions: int, stack: ExitStack
) -> list[ChangedTensor]:
    """Return every tensor with a change that is not zero.

    Args:
        hooked: the model after fine-tuning.
        before: weights of the model before fine-tuning, by name; None if the model before is
            `hooked` without its adapter.
        groups: number of groups of neurons in an MLP.
        directions: largest number of singular directions of a matrix.
        stack: restores the modules whose forward is replaced, when it is closed.

    Raises:
        UserError: the change can't be scaled (see `deltas.Changes`), or an adapter changes a module
            in a way that is no affine map.
    """
    partition = Partition(hooked, groups)
    found = []
    for target, name, change in located_changes(hooked, before):
        if isinstance(change, WeightChange):
            made = weight_tensors(partition, target, name, change, directions)
        elif isinstance(change, ScalingChange):
            made = _low_rank(partition, target, name, change, directions)
        else:
            made = _replaced(partition, target, name, change, directions, stack)
        found += made
    return found


def weight_tensors(
    partition: Partition, target: Target, name: str, change: WeightChange, directions: int
) -> list[ChangedTensor]:
    """Return a changed parameter, or nothing if it doesn't differ.

    Args:
        partition: assigns its entries to units.
        target: the part of the model that contains it.
        name: full name of its module.
        change: the parameter with its change.
        directions: largest number of singular directions.
    """
    parameter = change.parameter
    bias = parameter.ndim == 1 and target.module in MODULES
    place = partition.place(target, name, bias)
    transposed = isinstance(unwrapped(partition.module(name)), Conv1D)  # [in, out]
    axis = None if place.by_input is None else int(place.by_input != transposed)
    return _divided(ChangedTensor(parameter, change.read, place, axis), directions)


def _low_rank(
    partition: Partition, target: Target, name: str, change: ScalingChange, directions: int
) -> list[ChangedTensor]:
    """Return one factor of each active adapter of a LoRA layer, and the adapter's bias."""
    found = []
    layer: Any = change.layer
    for adapter in change.names:
        place = partition.place(target, name, bias=False)
        if place.matrix is not None and len(change.names) > 1:
            number, linear = place.matrix
            place = replace(place, matrix=(number, f"{linear} ({adapter})"))
        b, a = factors_of(layer, adapter)
        energies = getattr(layer, "lora_E", {})  # AdaLoRA
        right = a.data * energies[adapter].data if adapter in energies else a.data
        if b.any() and right.any():
            factor = a if place.by_input else b
            axis = None if place.by_input is None else int(place.by_input)
            scaling = layer.scaling[adapter]
            if adapter in energies:
                scaling = scaling / (float(layer.ranknum[adapter]) + 1e-5)  # as AdaLoRA divides
                other = (b.data * energies[adapter].data.T).T if place.by_input else right
            else:
                other = b.data.T if place.by_input else right
            zeros = partial(torch.zeros_like, factor.data)
            one = ChangedTensor(factor, zeros, place, axis, scaling * other)
            found += _divided(one, directions, (b.data, right))
        if layer.lora_bias.get(adapter):
            own = layer.lora_B[adapter].bias
            of_bias = partition.place(target, name, bias=target.module in MODULES)
            zeros = partial(torch.zeros_like, own.data)
            found += _divided(ChangedTensor(own, zeros, of_bias, None), 0)
    return found


def _replaced(
    partition: Partition,
    target: Target,
    name: str,
    change: SwitchedChange,
    directions: int,
    stack: ExitStack,
) -> list[ChangedTensor]:
    """Replace an adapted linear's forward by its affine map, and return weight and bias."""
    layer: Any = change.layer
    plain = unwrapped(layer)
    if not isinstance(change.layer, BaseTunerLayer) or not isinstance(plain, nn.Linear | Conv1D):
        raise UserError(
            f"compare: the change of {target} is by {change.kind}, which path attribution and"
            " masks do not support; merge it (PEFT's merge_and_unload) and compare two whole"
            " models, or leave path and masks out of compare.analyses"
        )
    before, after = effective_weight(plain), effective_weight(layer)
    weight, bias = (nn.Parameter(one) for one in after)

    def affine(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return x @ weight + bias

    layer.forward = affine
    stack.callback(delattr, layer, "forward")
    found = []
    for parameter, old in zip((weight, bias), before, strict=True):
        place = partition.place(target, name, parameter is bias and target.module in MODULES)
        axis = None if place.by_input is None else int(not place.by_input)  # [in, out]
        one = ChangedTensor(parameter, partial(_same, old), place, axis)
        found += _divided(one, directions)
    return found


def _divided(
    one: ChangedTensor, directions: int, factors: tuple[Tensor, Tensor] | None = None
) -> list[ChangedTensor]:
    if not one.differs():
        return []
    if one.place.matrix is not None and directions:
        one.divide(directions, factors)
    return [one]


def factors_of(layer: Any, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
    """Return B [out, rank] and A [rank, in] of an adapter.

    Args:
        layer: PEFT's LoRA layer.
        adapter: name of the adapter.
    """
    if adapter in getattr(layer, "lora_embedding_A", {}):
        return layer.lora_embedding_B[adapter], layer.lora_embedding_A[adapter]
    b, a = layer.lora_B[adapter], layer.lora_A[adapter]
    # AdaLoRA holds them as parameters, LoRA as linears
    return (b, a) if isinstance(b, nn.Parameter) else (b.weight, a.weight)


def _left_vectors(matrix: Tensor, count: int) -> Tensor:
    """Return the leading left singular vectors of a matrix, [count, rows]."""
    wide = matrix.double()
    vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors
    return vectors.flip(1)[:, :count].T


def _same(tensor: Tensor) -> Tensor:
    return tensor
