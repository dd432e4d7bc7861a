"""ItemSet and pairs of small models for tests of the comparison, and patching done naively."""

from __future__ import annotations

import math
from collections.abc import Collection
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import Component
from sumcirc.data.examples import NONE, TokenExample
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from tests.support.small_models import (
    POST_NORM,
    VOCABULARY,
    columns,
    exact_norms,
    in_float64,
    scrambled,
    share_of,
    writing,
)

KEPT = {"query": {"query"}, "key": {"key"}, "value": {"value"}, "pattern": {"query", "key"}}


def some_items(answers: bool = True, lengths: Collection[int] = (9, 6, 12)) -> ItemSet:
    """ItemSet of unequal length, two positions of each read, with spans that overlap none."""
    draw = np.random.default_rng(5)
    found = []
    for number, length in enumerate(lengths):
        good, bad = np.full((2, length), NONE, dtype=np.int64)
        for place in (length - 3, length - 1):
            good[place], bad[place] = draw.choice(VOCABULARY, 2, replace=False)
        if not answers:
            bad[:] = NONE
        spans = {"early": np.zeros(length, dtype=bool), "late": np.zeros(length, dtype=bool)}
        spans["early"][1 + number % 2 : 4] = True
        spans["late"][length - 2 :] = True
        ids = draw.integers(VOCABULARY, size=length)
        found.append(TokenExample(f"item-{number}", ids, good, bad, spans))
    return ItemSet(found)


def other(model: Any, size: float = 0.15, seed: int = 9) -> Any:
    """A copy of a model with noise on every parameter."""
    found = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((size * noise).to(parameter))
    return found


def two_models(family: str, **changes: Any) -> tuple[Any, Any]:
    """Two in float64 that differ everywhere."""
    before = scrambled(family, **changes)
    before = exact_norms(in_float64(before)) if family in POST_NORM else before.double()
    return before, other(before)


class Naive:
    """One text through a model, everything seen, with loops where the real thing has tensors."""

    def __init__(self, model: Any, ids: np.ndarray) -> None:
        self.model, self.parts = model, HookedModel(model)
        self.ids = torch.from_numpy(ids)[None]
        self.attention: dict[int, AttentionInputs] = {}
        self.values: dict[int, Tensor] = {}
        self.read: dict[str, Tensor] = {}
        shape = self.parts.shape
        self.weights = [
            effective_weight(block.attn_out)[0].unflatten(0, (shape.heads, -1))
            for block in self.parts.blocks
        ]
        values = [columns(self.parts, i)[2] for i in range(shape.layers)]
        handles = []
        for layer, block in enumerate(self.parts.blocks):
            handles += [
                block.whole.register_forward_pre_hook(self._input(f"residual.{layer}")),
                block.attn_out.register_forward_pre_hook(self._input(f"z.{layer}")),
                block.attn_out.register_forward_hook(self._output(f"projection.{layer}")),
                writing(block)[0].register_forward_hook(self._output(f"attention.{layer}")),
                writing(block)[1].register_forward_hook(self._output(f"mlp.{layer}")),
                block.norm_attention.register_forward_hook(self._output(f"normed.{layer}")),
            ]
        last = f"residual.{shape.layers}"
        handles.append(self.parts.final_norm.register_forward_pre_hook(self._input(last)))
        with (
            torch.no_grad(),
            self.parts.hooks(self.parts.at_every_layer(HookPoint.ATTENTION, self._see)),
        ):
            self.logits = model(input_ids=self.ids).logits[0]
            for layer in range(shape.layers):
                value = values[layer]
                bare = model.config.model_type == "olmo2"  # attention reads the stream itself
                x = self.read[f"residual.{layer}" if bare else f"normed.{layer}"]
                self.values[layer] = torch.stack(
                    [x @ w + b for w, b in zip(value.weight, value.bias, strict=True)]
                )
        for handle in handles:
            handle.remove()

    def _input(self, name: str) -> Any:
        return lambda module, inputs: self.read.__setitem__(name, inputs[0][0].clone())

    def _output(self, name: str) -> Any:
        return lambda module, inputs, output: self.read.__setitem__(name, output[0].clone())

    def _see(self, layer: int, given: AttentionInputs) -> None:
        self.attention[layer] = given


def naive_head(
    own: Naive, donor: Naive, layer: int, head: int, moved: Collection[str], sources: Any = None
) -> Tensor:
    """What a head gives to its projection with the donor's query, key or value, [T, width]."""
    shape = own.parts.shape
    group = head // shape.group
    query, key, scaling = (getattr(own.attention[layer], x) for x in ("query", "key", "scaling"))
    their_query, their_key = donor.attention[layer].query[0], donor.attention[layer].key[0]
    query, key, rows = query[0], key[0], []
    config = own.model.config
    window = getattr(config, "sliding_window", None)
    if config.model_type.startswith("gemma") and layer % 2:
        window = None
    cap = getattr(config, "attn_logit_softcapping", None)
    for t in range(own.ids.shape[1]):
        q = (their_query if "query" in moved else query)[head, t]
        scores, values = [], []
        for s in range(t + 1):
            if window is not None and t - s >= window:
                continue
            theirs = sources is None or bool(sources[s])
            k = (their_key if "key" in moved and theirs else key)[group, s]
            v = (donor if "value" in moved and theirs else own).values[layer][group, s]
            score = float(q @ k) * scaling
            scores.append(score if cap is None else cap * math.tanh(score / cap))
            values.append(v)
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        rows.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return torch.stack(rows)


def naive_patched(
    own: Naive, donor: Naive, parts: Collection[Component], moved: Any, sources: Any = None
) -> Tensor:
    """Logits [T, vocabulary] with parts moved; queries, keys and values of one layer at most."""
    shape, width = own.parts.shape, own.parts.shape.head_width
    at = torch.from_numpy(np.asarray(moved))
    handles = []

    def change(module: Any, place: str, how: Any) -> None:
        if place == "input":
            hook = module.register_forward_pre_hook(lambda m, i: (how(i[0].clone()), *i[1:]))
        else:
            hook = module.register_forward_hook(lambda m, i, o: how(o.clone()))
        handles.append(hook)

    blocks = own.parts.blocks
    for part in sorted(parts):
        layer = part.layer
        if part.kind in KEPT:
            for head in part.heads(shape):
                new = naive_head(own, donor, layer, head, KEPT[part.kind], sources)

                def put(z: Tensor, head: int = head, new: Tensor = new) -> Tensor:
                    z[0, at, head * width : (head + 1) * width] = new[at]
                    return z

                change(blocks[layer].attn_out, "input", put)
        elif part.kind == "output":
            columns = slice(part.index * width, (part.index + 1) * width)
            theirs = donor.read[f"z.{layer}"][:, columns]
            write = theirs @ donor.weights[layer][part.index]
            write = share_of(donor.model, layer, write, donor.read[f"projection.{layer}"])
            weight = own.weights[layer][part.index]
            seen: dict[str, Tensor] = {}

            def note(z: Tensor, seen: Any = seen, columns: Any = columns) -> Tensor:
                seen["z"] = z[0, :, columns].clone()
                return z

            def add(
                out: Tensor,
                seen: Any = seen,
                write: Any = write,
                weight: Any = weight,
                layer: int = layer,
            ) -> Tensor:
                share = share_of(own.model, layer, seen["z"] @ weight, seen["whole"])
                out[0, at] += (write - share)[at]
                return out

            def whole(out: Tensor, seen: Any = seen) -> Tensor:
                seen["whole"] = out[0].clone()
                return out

            change(blocks[layer].attn_out, "input", note)
            change(blocks[layer].attn_out, "output", whole)
            change(writing(blocks[layer])[0], "output", add)
        else:
            if part.kind == "unembedding":
                continue
            readers = [*(block.whole for block in blocks), own.parts.final_norm]
            module, place = readers[layer], "input"
            if part.kind != "residual":
                module, place = writing(blocks[layer])[part.kind == "mlp"], "output"
            theirs = donor.read[f"{part.kind}.{layer}"]

            def replace(values: Tensor, theirs: Tensor = theirs) -> Tensor:
                values[0, at] = theirs[at]
                return values

            change(module, place, replace)
    last: dict[str, Tensor] = {}
    handles.append(
        own.parts.final_norm.register_forward_pre_hook(
            lambda m, i: last.__setitem__("stream", i[0])
        )
    )
    try:
        with torch.no_grad():
            logits = own.model(input_ids=own.ids).logits[0]
            if any(part.kind == "unembedding" for part in parts):
                logits = donor.parts.unembedding(donor.parts.final_norm(last["stream"]))[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits


def naive_metric(item: TokenExample, logits: Tensor) -> float:
    """The metric of one item from its logits."""
    found = []
    for t in np.flatnonzero(item.reads):
        if (item.bad == NONE).all():
            found.append(float(logits[t].log_softmax(-1)[item.good[t]]))
        else:
            found.append(float(logits[t, item.good[t]] - logits[t, item.bad[t]]))
    return sum(found) / len(found)
