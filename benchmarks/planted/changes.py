"""Changes of some entries of a model's weights alone, which are trained or drawn.

A place is what carries a change: a head, a layer, a module, or one direction of the matrix of a
module. A `Change` holds numbers of its own, from which the change of the weights is made: entries
outside the place have a change of exactly zero, that of a direction is an outer product, and one
with a given norm is divided by its own and multiplied by the given one.

The models are GPT-2s, whose linears have weights [in, out].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from sumcirc.schema import MODULES, Grain

LINEARS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")  # in the order of MODULES
START = 0.02  # standard deviation of the numbers from which an outer product is trained
SPAN = 0.999  # share of the squared length of inputs that lies in what is called their span
LEAST = 4  # smallest number of dimensions outside the span

Deltas = dict[str, Tensor]


@dataclass(frozen=True, order=True)
class Place:
    """What carries a change.

    Attributes:
        grain: whether it is a head, a layer, a module or a direction of a module's matrix.
        layer: index of the layer.
        index: index of the head, or of the module in MODULES; 0 for a layer.
    """

    grain: Grain
    layer: int
    index: int = 0

    @property
    def label(self) -> str:
        """Name of the unit in path attribution; of a direction, that of its matrix."""
        if self.grain is Grain.head:
            return f"head.{self.layer}.{self.index}"
        if self.grain is Grain.module:
            return f"layer {self.layer} {MODULES[self.index]}"
        if self.grain is Grain.direction:
            return f"layer {self.layer} {LINEARS[self.index]}"
        return f"layer {self.layer}"


def places(grain: Grain, layers: int, heads: int) -> list[Place]:
    """Return all places of a grain, layer by layer.

    Args:
        grain: the grain.
        layers, heads: sizes of the model.
    """
    counts = {Grain.head: heads, Grain.layer: 1}
    each = range(counts.get(grain, len(MODULES)))
    return [Place(grain, layer, index) for layer in range(layers) for index in each]


def masks(place: Place, model: Any) -> dict[str, Tensor]:
    """Return which entries of the weights a place has, by the parameter's name.

    A layer has all parameters of its block; other places have weights, but no biases.

    Args:
        place: the place.
        model: the model.
    """
    block = f"transformer.h.{place.layer}."
    named = dict(model.named_parameters())
    if place.grain is Grain.layer:
        return {
            name: torch.ones_like(one, dtype=torch.bool)
            for name, one in named.items()
            if name.startswith(block)
        }
    if place.grain is not Grain.head:
        name = f"{block}{LINEARS[place.index]}.weight"
        return {name: torch.ones_like(named[name], dtype=torch.bool)}
    width = model.config.n_embd // model.config.n_head
    own = slice(place.index * width, (place.index + 1) * width)
    names = [f"{block}{linear}.weight" for linear in LINEARS[:2]]
    reading, writing = (torch.zeros_like(named[name], dtype=torch.bool) for name in names)
    reading.unflatten(1, (3, -1))[:, :, own] = True  # query, key, value
    writing[own] = True
    return dict(zip(names, (reading, writing), strict=True))


class Change:
    """A change of the weights of one place.

    Args:
        place: the place.
        model: the model whose weights it changes.
        generator: generator of the numbers with which it starts; None to start at no change, which
            is not possible for a direction.
        norm: norm of the whole change; None to leave it free.

    Attributes:
        place: as given.
        numbers: the numbers from which the change is made, which can be trained.
    """

    def __init__(
        self,
        place: Place,
        model: Any,
        generator: torch.Generator | None = None,
        norm: float | None = None,
    ) -> None:
        self.place, self._norm = place, norm
        self._masks = masks(place, model)
        self.numbers: list[Tensor] = []
        shapes = [one.shape for one in self._masks.values()]
        if place.grain is Grain.direction:
            shapes = [torch.Size([size]) for size in shapes[0]]
        for shape in shapes:
            start = torch.zeros(shape)
            if generator is not None:
                start = torch.randn(shape, generator=generator) * START
            self.numbers.append(start.requires_grad_(True))

    def begin_at(self, deltas: Deltas) -> None:
        """Set the numbers so that the change is a given one, up to its norm if that is fixed.

        Args:
            deltas: the change; parameters that are left out do not change. That of a direction is
                an outer product.
        """
        with torch.no_grad():
            if self.place.grain is Grain.direction:
                (delta,) = deltas.values()
                left, size, right = torch.linalg.svd(delta, full_matrices=False)
                root = size[0].sqrt()
                for number, vector in zip(self.numbers, (left[:, 0], right[0]), strict=True):
                    number.copy_(root * vector)
                return
            for name, number in zip(self._masks, self.numbers, strict=True):
                number.copy_(deltas.get(name, torch.zeros_like(number)))

    def deltas(self) -> Deltas:
        """Return the change of every parameter that it changes."""
        if self.place.grain is Grain.direction:
            (name,) = self._masks
            found = {name: torch.outer(*self.numbers)}
        else:
            pairs = zip(self._masks.items(), self.numbers, strict=True)
            found = {name: number * mask for (name, mask), number in pairs}
        if self._norm is None:
            return found
        factor = self._norm / norm_of(found)
        return {name: delta * factor for name, delta in found.items()}


def norm_of(deltas: Mapping[str, Tensor]) -> Tensor:
    """Return the Frobenius norm of a change of several parameters together."""
    return torch.stack([one.square().sum() for one in deltas.values()]).sum().sqrt()


def total(changes: Sequence[Deltas]) -> Deltas:
    """Return the sum of some changes by parameter."""
    found: Deltas = {}
    for change in changes:
        for name, delta in change.items():
            found[name] = found[name] + delta if name in found else delta
    return found


Weights = dict[str, Tensor]


def weights_of(model: Any) -> Weights:
    """Return the parameters of a model by name."""
    return {name: one.detach() for name, one in model.named_parameters()}


def changed(weights: Weights, changes: Sequence[Deltas]) -> Weights:
    """Return the weights of several models that differ in some parameters.

    Args:
        weights: weights of the base.
        changes: for each of the models, the change of each parameter that is changed.

    Returns:
        The base's parameters, those that any model changes as [models, ...].
    """
    names = {name for deltas in changes for name in deltas}
    return weights | {
        name: torch.stack([weights[name] + one.get(name, 0.0) for one in changes]) for name in names
    }


def logits(weights: Weights, tokens: Tensor, heads: int) -> Tensor:
    """Return the logits of several GPT-2s, each on its own sequences.

    Args:
        weights: parameters by their names in transformers; those of the blocks may be
            [models, ...], all others are shared.
        tokens: [models, sequences, tokens] token ids.
        heads: number of heads.

    Returns:
        [models, sequences, tokens, vocabulary].
    """
    models, count, length = tokens.shape

    def get(name: str) -> Tensor:
        # vectors are added to [models, sequences * tokens, width]
        one, vector = weights[f"transformer.{name}"], name.endswith("bias") or "ln_" in name
        return one[:, None] if vector and one.ndim == 2 else one

    def normed(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:]) * get(f"{name}.weight") + get(f"{name}.bias")

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ get(f"{name}.weight") + get(f"{name}.bias")

    table = weights["transformer.wte.weight"]
    x = (table[tokens] + weights["transformer.wpe.weight"][:length]).flatten(1, 2)
    layer = 0
    while f"transformer.h.{layer}.ln_1.weight" in weights:
        block = f"h.{layer}."
        joined = linear(normed(x, f"{block}ln_1"), f"{block}attn.c_attn")
        parts = joined.view(models * count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind()
        found = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + linear(found.transpose(1, 2).reshape(x.shape), f"{block}attn.c_proj")
        inner = gelu(linear(normed(x, f"{block}ln_2"), f"{block}mlp.c_fc"), approximate="tanh")
        x = x + linear(inner, f"{block}mlp.c_proj")
        layer += 1
    return (normed(x, "ln_f") @ table.T).view(models, count, length, -1)


def inputs_of(
    model: Any, tokens: Tensor, names: Sequence[str], real: Tensor | None = None
) -> dict[str, Tensor]:
    """Return what goes into some linears, [tokens of all sequences, width] by the weight's name.

    Args:
        model: the model.
        tokens: [sequences, tokens] token ids.
        names: names of the linears' weights.
        real: [sequences, tokens] true at tokens that aren't padding, which is on the right; None
            without padding.
    """
    chosen = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
    found: dict[str, Tensor] = {}
    handles = []
    for name in names:
        linear = model.get_submodule(name.removesuffix(".weight"))

        def see(module: Any, given: Any, name: str = name) -> None:
            found[name] = given[0][chosen]

        handles.append(linear.register_forward_pre_hook(see))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def outside_span(inputs: Tensor) -> Tensor:
    """Return the projection onto what is orthogonal to the span of a linear's inputs, [in, in].

    The span is that of the leading principal directions (not centred) in which SPAN of the squared
    length of the inputs lies. At least LEAST dimensions are left outside.

    Args:
        inputs: [tokens, in] inputs.
    """
    values, vectors = torch.linalg.eigh(inputs.T.double() @ inputs.double())
    outside = int((values.clamp(min=0).cumsum(0) <= (1 - SPAN) * values.sum()).sum())
    chosen = vectors[:, : max(outside, LEAST)]
    return (chosen @ chosen.T).to(inputs)


def inert(
    place: Place,
    model: Any,
    tokens: Tensor,
    norm: float,
    generator: torch.Generator,
    real: Tensor | None = None,
) -> Deltas:
    """Return a random change that moves the outputs of its linears as little as possible.

    It is orthogonal to the span of the linears' inputs. The output projection of a head has as many
    inputs as the head is wide, and biases and norms have no inputs; their change is zero.

    Args:
        place: the place.
        model: the model that it changes.
        tokens: [sequences, tokens] token ids.
        norm: norm of the change.
        generator: generator of the draws.
        real: as of `inputs_of`.
    """
    found: Deltas = {}
    chosen = {
        name: mask
        for name, mask in masks(place, model).items()
        if mask.ndim == 2 and not (place.grain is Grain.head and name.endswith("c_proj.weight"))
    }
    inputs = inputs_of(model, tokens, list(chosen), real)
    for name, mask in chosen.items():
        drawn = torch.randn(mask.shape, generator=generator) * mask
        if place.grain is Grain.direction:
            sides = [torch.randn(size, generator=generator) for size in mask.shape]
            drawn = torch.outer(*sides)
        found[name] = outside_span(inputs[name]) @ drawn
    factor = norm / norm_of(found)
    return {name: delta * factor for name, delta in found.items()}
