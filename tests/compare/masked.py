"""Items that a small model predicts, and models with masks put into their weights by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import NONE, TokenExample
from tests.compare.edited import tokens
from tests.compare.naive_path import (
    Select,
    in_layer,
    low_rank_change,
    named,
    nowhere_else,
    whole_change,
)

OUTSIDE = {
    "gpt2": {"embedding": ("transformer.w",), "final": ("transformer.ln_f",)},
    "qwen2": {"embedding": ("model.embed",), "final": ("model.norm", "lm_head")},
}
MODULES = {
    "gpt2": {"qkv": ("c_attn",), "attn_out": ("attn.c_proj",), "mlp_out": ("mlp.c_proj",)},
    "qwen2": {
        "qkv": ("q_proj", "k_proj", "v_proj"),
        "attn_out": ("o_proj",),
        "mlp_out": ("down_proj",),
    },
}


def predicted(model: Any, count: int = 16) -> ItemSet:
    """Items whose tokens are those that the model finds likeliest at three positions each."""
    found = []
    for number in range(count):
        ids = tokens(7 + number % 3, number)
        with torch.no_grad():
            likeliest = model(torch.from_numpy(ids)[None]).logits[0].argmax(-1).numpy()
        good = np.full(len(ids), NONE)
        good[-4:-1] = likeliest[-4:-1]
        found.append(TokenExample(str(number), ids, good, np.full(len(ids), NONE)))
    return ItemSet(found)


def changes(base: Any, after: Any, low_rank: bool) -> dict[str, Tensor]:
    return low_rank_change(base, after) if low_rank else whole_change(base, after)


def selected(family: str, low_rank: bool) -> dict[str, Select]:
    """Which entries belong to each unit: layers of whole weights, modules of a LoRA."""
    if not low_rank:
        found = {f"layer {layer}": in_layer(family, layer) for layer in range(2)}
        outside = OUTSIDE[family]
        return found | {name: nowhere_else(own, family) for name, own in outside.items()}
    return {
        f"layer {layer} {module}": named(family, layer, *words)
        for layer in range(2)
        for module, words in MODULES[family].items()
    }


def masked(
    base: Any, change: Mapping[str, Tensor], units: Mapping[str, Select], mask: Mapping[str, float]
) -> Any:
    """A copy of the model before with each unit's change times its factor."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, delta in change.items():
            for unit, select in units.items():
                model.get_parameter(name).add_(mask[unit] * select(name, delta) * delta)
    return model
