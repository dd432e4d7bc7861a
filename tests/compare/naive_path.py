"""Path scores of small models done naively: dense weights, and finite differences along lambda."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sumcirc.compare.items.item_set import ItemSet
from tests.compare.cases import naive_metric

STEP = 1e-4
WIDTH, HEAD_WIDTH = 32, 8  # of tests.support.small_models
Mask = Tensor | float  # which entries of a parameter belong to a unit
Select = Callable[[str, Tensor], Mask]


def metric(model: Any, items: ItemSet) -> NDArray[np.float64]:
    """Every text by itself through the model's own forward pass."""
    with torch.no_grad():
        runs = (model(input_ids=torch.from_numpy(one.ids)[None]).logits[0] for one in items.items)
        return np.array(
            [naive_metric(item, out) for item, out in zip(items.items, runs, strict=True)]
        )


def naive_scores(
    base: Any,
    change: Mapping[str, Tensor],
    items: ItemSet,
    select: Select,
    nodes: int = 8,
) -> NDArray[np.float64]:
    """The score of one unit for every item.

    `base` is the model before, without an adapter; `change` holds dW of its parameters; `select`
    tells which of a parameter's entries belong to the unit.
    """
    model = copy.deepcopy(base)
    start = {name: value.detach().clone() for name, value in base.named_parameters()}
    masks = {name: select(name, delta) for name, delta in change.items()}

    def at(amount: float, more: float) -> NDArray[np.float64]:
        with torch.no_grad():
            for name, delta in change.items():
                found = start[name] + (amount + more * masks[name]) * delta
                model.get_parameter(name).copy_(found)
        return metric(model, items)

    total = np.zeros(len(items))
    points, weights = np.polynomial.legendre.leggauss(nodes)
    for low, high in ((0.0, 0.25), (0.25, 1.0)):
        for x, weight in zip(points, weights, strict=True):
            amount = low + (high - low) * (x + 1) / 2
            slope = (at(amount, STEP) - at(amount, -STEP)) / (2 * STEP)
            total += weight * (high - low) / 2 * slope
    return total


def low_rank_change(base: Any, tuned: Any) -> dict[str, Tensor]:
    """dW of every linear with a LoRA or DoRA adapter, as a dense matrix, from its tensors."""
    found = {}
    for name, linear in tuned.base_model.model.named_modules():
        if not hasattr(linear, "lora_A") or "default" not in linear.lora_A:
            continue
        a, b = linear.lora_A["default"].weight, linear.lora_B["default"].weight
        weight = base.get_parameter(f"{name}.weight").detach()
        transposed = base.config.model_type == "gpt2"
        old = weight.T if transposed else weight
        new = old + linear.scaling["default"] * (b @ a).detach()
        if linear.use_dora["default"]:
            size = linear.lora_magnitude_vector["default"].weight.detach()
            new = size[:, None] * new / new.norm(dim=1, keepdim=True)
        found[f"{name}.weight"] = (new - old).T if transposed else new - old
    return found


def whole_change(base: Any, tuned: Any) -> dict[str, Tensor]:
    pairs = zip(base.named_parameters(), tuned.parameters(), strict=True)
    return {name: (new - old).detach() for (name, old), new in pairs}


# ---- units by names and places of weights alone

INSIDE = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


def in_layer(family: str, layer: int) -> Select:
    start = f"{INSIDE.get(family, 'model.layers')}.{layer}."
    return lambda name, delta: float(name.startswith(start))


def named(family: str, layer: int, *words: str) -> Select:
    """Parameters of a layer with one of these words in their names."""
    start = f"{INSIDE.get(family, 'model.layers')}.{layer}."
    return lambda name, delta: float(
        name.startswith(start) and any(word in name.removeprefix(start) for word in words)
    )


def of_norms(family: str, layer: int) -> Select:
    return named(family, layer, "norm", "ln_")


def of_biases(family: str, layer: int) -> Select:
    norms, start = of_norms(family, layer), f"{INSIDE.get(family, 'model.layers')}.{layer}."
    return lambda name, delta: float(
        name.startswith(start) and name.endswith("bias") and not norms(name, delta)
    )


def _rows(delta: Tensor, places: range | list[int], axis: int) -> Tensor:
    mask = torch.zeros_like(delta)
    mask.index_fill_(axis, torch.tensor(list(places)), 1.0)
    return mask


def of_head(family: str, layer: int, head: int, grouped: bool) -> Select:
    """The entries of a head: with its own keys and values unless they are shared."""
    inside = named(family, layer, "attn", "attention")
    own = range(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)

    def select(name: str, delta: Tensor) -> Mask:
        if not inside(name, delta) or delta.ndim < 2:
            return 0.0
        if family == "gpt2":
            three = [i + part * WIDTH for part in range(3) for i in own]
            return _rows(delta, three, 1) if "c_attn" in name else _rows(delta, own, 0)
        if family == "gpt_neox":
            three = range(3 * head * HEAD_WIDTH, 3 * (head + 1) * HEAD_WIDTH)
            return _rows(delta, three, 0) if "query_key_value" in name else _rows(delta, own, 1)
        if "qkv_proj" in name:  # queries, then keys and values, which heads share
            assert grouped
            return _rows(delta, own, 0)
        if "o_proj" in name:
            return _rows(delta, own, 1)
        shared = "k_proj" in name or "v_proj" in name
        return 0.0 if shared and grouped else _rows(delta, own, 0)

    return select


def of_neurons(family: str, layer: int, places: range) -> Select:
    inside = named(family, layer, "mlp")
    into = ("c_fc", "h_to_4h", "gate_proj", "up_proj")

    def select(name: str, delta: Tensor) -> Mask:
        if not inside(name, delta) or delta.ndim < 2:
            return 0.0
        if "gate_up_proj" in name:  # the gate of every neuron, then what it gates
            half = len(delta) // 2
            return _rows(delta, [*places, *(half + place for place in places)], 0)
        by_output = any(f".{word}" in name or f"_{word}" in name for word in into)
        return _rows(delta, places, int(by_output == (family == "gpt2")))

    return select


def of_direction(name: str, delta: Tensor, number: int) -> Select:
    """One singular direction of a matrix."""
    u, s, v = torch.linalg.svd(delta)
    mask = s[number] * torch.outer(u[:, number], v[number]) / delta
    return lambda other, _: mask if other == name else 0.0


def nowhere_else(names: tuple[str, ...], family: str) -> Select:
    """Parameters outside the layers whose names begin with one of `names`."""
    inside = f"{INSIDE.get(family, 'model.layers')}."
    return lambda name, delta: float(not name.startswith(inside) and name.startswith(names))
