"""What the change of each sender's own weights makes it write, to first order, its input held.

A sender u is a head, an MLP or an embedding; a_u is what it adds to the residual stream, theta_u
its weights, and dtheta_u their change. In a forward pass of the live model the directional
derivative

    da_u = (d a_u / d theta_u) dtheta_u        with what u reads held

is computed by forward-mode automatic differentiation. A linear with a change passes on its output
together with the tangent x dW, where x is its input; for a LoRA dW stays a product of two factors.
The tangents go on through the model's own modules (head norms, rotary embeddings, activation, gate,
the norm after an MLP) to the two places where they are taken off again: the arguments of attention
and what the MLP adds to the stream. So none of them reaches the stream or another sender. From
those of query, key and value, q, k and v,

    dS = s (dq k' + q dk')    dP = P * (dS - rowsum(P * dS))    dz = dP v + P dv
    da = dz W_O + z dW_O      for each head, then through the norm after attention, if any

with P the attention pattern, s its scaling and z the head's output. Where heads share keys and
values, dz from their change is kept apart from dz of the head's own weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from sumcirc.circuits.graph import Graph
from sumcirc.compare.deltas.deltas import EMBEDDING
from sumcirc.compare.path.attention_tangent import attention_tangent
from sumcirc.compare.path.changed_tensors import ChangedTensor
from sumcirc.compare.path.unit_change import UnitChange
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs, ModuleHook, module_hooks
from sumcirc.models.architectures import architecture
from sumcirc.schema import Grain

POINTS = (HookPoint.QUERY, HookPoint.KEY, HookPoint.VALUE)
POSITIONS = "positions"  # label of the sender that writes position embeddings


@dataclass(frozen=True)
class Sender:
    """A source whose weights changed, or what shared keys and values change in a head's output.

    Attributes:
        label: its name, which is the graph's for the source (`a3.h7`), followed by the key/value
            head for shared keys and values (`a3.h7 by a3.g1`), or `positions`.
        source: index of the source in the graph.
    """

    label: str
    source: int


@dataclass
class _Seen:
    """Tangents and activations of one pass, by layer; a missing tangent is zero."""

    arguments: dict[tuple[HookPoint, int], Tensor] = field(default_factory=dict)
    own: dict[int, Tensor] = field(default_factory=dict)  # dz [B, T, heads, head width]
    shared: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)  # z [B, T, heads * head width]
    projected: dict[int, Tensor] = field(default_factory=dict)  # what a norm after attention reads
    mlps: dict[int, Tensor] = field(default_factory=dict)  # da [B, T, width]


class WrittenChanges:
    """Records what changed weights write in forward passes of the live model.

    Args:
        hooked: the model.
        change: its change.

    Attributes:
        graph: the model's graph.
        senders: the senders with a change, in the order of their sources.

    Raises:
        UserError: the change can't be divided by sender, since the model is quantized or a norm of
            queries or keys couples the heads of a layer.
    """

    def __init__(self, hooked: HookedModel, change: UnitChange) -> None:
        _check(hooked)
        self.hooked, self.graph = hooked, Graph(hooked.shape)
        names, shape = architecture(hooked.model.config), hooked.shape
        by_module: dict[str, list[ChangedTensor]] = {}
        for one in change.tensors:
            if one.place.matrix is not None:
                by_module.setdefault(one.place.module, []).append(one)
        self._tables = _tables(hooked, change.tensors)
        self._linears: dict[nn.Module, list[ChangedTensor]] = {}
        self._outputs: list[list[ChangedTensor]] = []  # output projections by layer
        self._mlps: list[bool] = []
        self._reads: list[tuple[bool, bool]] = []  # of queries, and of keys and values
        for layer, block in enumerate(hooked.blocks):
            found = {
                module: [by_module.get(name, []) for name in names.linears(layer, module)]
                for module in names.modules
            }
            for name in (*names.linears(layer, "mlp_in"), *names.linears(layer, "mlp_out")):
                if name in by_module:
                    self._linears[hooked.model.get_submodule(name)] = by_module[name]
            for linear, tensors in zip(block.qkv, found["qkv"], strict=True):
                if tensors:
                    self._linears[linear] = tensors
            changed = [bool(tensors) for tensors in found["qkv"]]
            self._reads.append((changed[0], any(changed[1:] or changed)))
            self._outputs.append(found["attn_out"][0])
            self._mlps.append(any(map(bool, (*found["mlp_in"], *found["mlp_out"]))))
        self._grouped = shape.group > 1
        self.senders = list(self._all_senders())
        self._weights: dict[int, Tensor] = {}
        self._seen = _Seen()

    def _all_senders(self) -> Iterator[Sender]:
        graph = self.graph
        for label, _ in self._tables:
            yield Sender(label, 0)
        for layer in range(self.hooked.shape.layers):
            rows = range(len(graph.sources))[graph.attention_sources(layer)]
            if self._writes_own(layer):
                for row in rows:
                    yield Sender(graph.sources[row], row)
            if self._writes_shared(layer):
                for head, row in enumerate(rows):
                    group = f"a{layer}.g{head // self.hooked.shape.group}"
                    yield Sender(f"{graph.sources[row]} by {group}", row)
            if self._mlps[layer]:
                row = graph.mlp_source(layer)
                yield Sender(graph.sources[row], row)

    def _writes_own(self, layer: int) -> bool:
        queries, shared = self._reads[layer]
        return queries or bool(self._outputs[layer]) or (shared and not self._grouped)

    def _writes_shared(self, layer: int) -> bool:
        return self._grouped and self._reads[layer][1]

    def read(self) -> None:
        """Read the output projections' effective weights again, after the change was scaled."""
        self._weights = {
            layer: effective_weight(block.attn_out)[0]
            for layer, block in enumerate(self.hooked.blocks)
            if self._writes_own(layer) or self._writes_shared(layer)
        }

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the tangents of a forward pass in a `with` block, which leaves gradients alone."""
        self._seen = _Seen()
        linears: list[ModuleHook] = [
            (linear, "both", partial(self._spread, tensors))
            for linear, tensors in self._linears.items()
        ]
        for layer, block in enumerate(self.hooked.blocks):
            if layer in self._weights and not isinstance(block.norm_attention_output, nn.Identity):
                linears.append((block.attn_out, "output", partial(self._project, layer)))
        hooks: list[tuple[Any, Callable[[Any], Any]]] = []
        for layer, (queries, shared) in enumerate(self._reads):
            if queries or shared:
                hooks += [
                    ((point, layer), partial(self._take_argument, (point, layer)))
                    for point in POINTS
                ]
                hooks.append(((HookPoint.ATTENTION, layer), partial(self._attend, layer)))
            if self._writes_own(layer):
                keep = partial(self._keep, self._seen.outputs, layer)
                hooks.append(((HookPoint.HEAD_OUTPUTS, layer), keep))
            if self._mlps[layer]:
                key = (HookPoint.MLP_OUTPUT, layer)
                hooks.append((key, partial(self._take, self._seen.mlps, layer)))
        with ExitStack() as stack:
            stack.enter_context(forward_ad.dual_level())
            stack.enter_context(module_hooks(linears))
            stack.enter_context(self.hooked.hooks(hooks))
            yield

    # ---- hooks

    def _spread(self, tensors: Sequence[ChangedTensor], inputs: Tensor, output: Tensor) -> Tensor:
        """Add x dW to the tangent of a linear's output."""
        inputs = forward_ad.unpack_dual(inputs).primal.detach()
        primal, tangent = forward_ad.unpack_dual(output)
        with torch.no_grad():
            parts = [_applied(one, inputs).to(primal.dtype) for one in tensors]
            if tangent is not None:
                parts.append(tangent.detach())
            own = reduce(torch.add, parts)
        return forward_ad.make_dual(primal, own)

    def _take(self, found: dict[Any, Tensor], key: Any, value: Tensor) -> Tensor:
        """Keep the tangent of an activation, and pass the activation on without it."""
        primal, tangent = forward_ad.unpack_dual(value)
        if tangent is not None:
            found[key] = tangent.detach()
        return primal

    def _take_argument(self, key: tuple[HookPoint, int], value: Tensor) -> Tensor:
        return self._take(self._seen.arguments, key, value)

    def _keep(self, found: dict[int, Tensor], layer: int, value: Tensor) -> None:
        found[layer] = value.detach()

    def _project(self, layer: int, value: Tensor) -> None:
        self._keep(self._seen.projected, layer, value)

    @torch.no_grad()
    def _attend(self, layer: int, given: AttentionInputs) -> None:
        """Turn the tangents of query, key and value into those of the heads' outputs."""
        query, key, value = (self._seen.arguments.pop((one, layer), None) for one in POINTS)
        if not self._grouped:
            self._seen.own[layer] = attention_tangent(given, query, key, value)
            return
        if query is not None:
            self._seen.own[layer] = attention_tangent(given, query, None, None)
        if key is not None or value is not None:
            self._seen.shared[layer] = attention_tangent(given, None, key, value)

    # ---- results

    def looked_up(self, ids: Tensor, mask: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return what the changes of embeddings write, [B, T, width] for each of their senders.

        Args:
            ids: [B, T] tokens.
            mask: [B, T] true at real tokens.
            dtype: type of the results.
        """
        places = (mask.long().cumsum(-1) - 1).clamp(min=0)
        found = []
        for label, looked in self._tables:
            if label == POSITIONS:
                found.append(looked(places).to(dtype))
            else:
                found.append(looked(ids).to(dtype) * self.hooked.multipliers.embedding)
        return found

    def rows(self, looked_up: Sequence[Tensor], places: slice, found: Tensor) -> Tensor:
        """Return da of every sender at some positions of the last pass.

        Args:
            looked_up: results of `looked_up` for the same items.
            places: range of positions.
            found: [senders, B, positions, width] tensor into which the result is written.

        Returns:
            `found`.
        """
        start = len(looked_up)
        for row, one in enumerate(looked_up):
            found[row] = one[:, places]
        heads = self.hooked.shape.heads
        for layer in range(self.hooked.shape.layers):
            if self._writes_own(layer):
                own = self._seen.own.get(layer)
                self._heads(layer, own, self._outputs[layer], places, found[start : start + heads])
                start += heads
            if self._writes_shared(layer):
                shared = self._seen.shared.get(layer)
                self._heads(layer, shared, (), places, found[start : start + heads])
                start += heads
            if self._mlps[layer]:
                found[start] = self._seen.mlps[layer][:, places]
                start += 1
        return found

    def _heads(
        self,
        layer: int,
        tangent: Tensor | None,
        tensors: Sequence[ChangedTensor],
        places: slice,
        found: Tensor,
    ) -> None:
        """Write da of a layer's heads to `found` [heads, B, positions, width]."""
        shape, block = self.hooked.shape, self.hooked.blocks[layer]
        rows = found.flatten(1, 2)
        if tangent is None:
            rows.zero_()
        else:
            weight = self._weights[layer].unflatten(0, (shape.heads, -1)).to(found.dtype)
            torch.bmm(_narrow(tangent[:, places], found.dtype), weight, out=rows)
        if tensors:
            outputs = self._seen.outputs[layer][:, places].unflatten(-1, (shape.heads, -1))
            narrow = _narrow(outputs, found.dtype)
            for one in tensors:
                first, *rest = (factor.to(found.dtype) for factor in one.factors)
                first = first.unflatten(0, (shape.heads, -1))
                if rest:
                    rows.add_(torch.bmm(narrow, first) @ rest[0])
                else:
                    rows.baddbmm_(narrow, first)
        norm = self.hooked.norm(block.norm_attention_output, found.dtype)
        if not norm.identity:
            found.copy_(norm.pushed(self._seen.projected[layer][:, places], found))
        if self.hooked.multipliers.residual != 1.0:
            found.mul_(self.hooked.multipliers.residual)


def _applied(one: ChangedTensor, inputs: Tensor) -> Tensor:
    """Return x dW, factor by factor."""
    for factor in one.factors:
        inputs = inputs.to(factor.dtype) @ factor
    return inputs


def _narrow(heads: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [B, positions, heads, head width] as [heads, B * positions, head width]."""
    return heads.to(dtype).flatten(0, 1).transpose(0, 1)


def _tables(
    hooked: HookedModel, tensors: Sequence[ChangedTensor]
) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    """Return the label of each changed embedding with a function that looks its change up.

    An embedding's adapter is left out, so that it is among what isn't divided.
    """
    changed = {
        id(one.parameter): one
        for one in tensors
        if one.place.positions[Grain.layer].units[0].part == EMBEDDING
    }
    found = []
    of_tokens = set(hooked.embedding.modules())
    for module in hooked.model.modules():
        if isinstance(module, nn.Embedding) and id(module.weight) in changed:
            # linear in its weights, which it may multiply by a constant (Gemma)
            change = changed[id(module.weight)].change.to(module.weight.dtype)
            looked = partial(functional_call, module, {"weight": change})
            found.append(("input" if module in of_tokens else POSITIONS, looked))
    return sorted(found, key=lambda one: one[0] == POSITIONS)


def _check(hooked: HookedModel) -> None:
    """Raise an error if the change can't be divided by sender."""
    setting = "compare.path.edges=true"
    if getattr(hooked.model, "is_quantized", False):
        raise UserError(
            f"{setting}: the linears of a model with model.quantize have no forward derivatives;"
            " compare the model without model.quantize, or leave compare.path.edges out"
        )
    for block in hooked.blocks:
        for norm in block.head_norms:
            if len(norm.get_parameter("weight")) > hooked.shape.head_width:
                raise UserError(
                    f"{setting}: a `{hooked.model.config.model_type}` norms the queries or keys of"
                    " all heads together, so a head's weights change what other heads write; leave"
                    " compare.path.edges out"
                )
