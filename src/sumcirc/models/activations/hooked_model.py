"""A live model, with or without an adapter: its modules, activations and effective weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.models.activations.activation_cache import ActivationCache, ActivationKey, HookPoint
from sumcirc.models.activations.effective_weights import HeadWeights, effective_weight
from sumcirc.models.activations.hooks import (
    ATTENTION_POINTS,
    ModuleHook,
    Side,
    attention_hooks,
    module_hooks,
)
from sumcirc.models.architectures import Fused, architecture, shape
from sumcirc.models.peft_adapters import require_analysable

_OUTSIDE = (HookPoint.EMBEDDING, HookPoint.FINAL_NORM, HookPoint.LOGITS)
# name of a module of the model or of a block, or index of a linear in `Block.qkv`
_PLACES: dict[HookPoint, tuple[str | int, Side]] = {
    HookPoint.EMBEDDING: ("embedding", "output"),
    HookPoint.RESIDUAL: ("whole", "input"),
    HookPoint.ATTENTION_INPUT: ("norm_attention", "input"),
    HookPoint.ATTENTION_NORM: ("norm_attention", "output"),
    HookPoint.QKV_INPUT: (0, "input"),
    HookPoint.QUERY_INPUT: (0, "input"),
    HookPoint.KEY_INPUT: (1, "input"),
    HookPoint.VALUE_INPUT: (2, "input"),
    HookPoint.QKV_PROJECTION: (0, "output"),
    HookPoint.QUERY_PROJECTION: (0, "output"),
    HookPoint.KEY_PROJECTION: (1, "output"),
    HookPoint.VALUE_PROJECTION: (2, "output"),
    HookPoint.HEAD_OUTPUTS: ("attn_out", "input"),
    HookPoint.ATTENTION_OUTPUT: ("attn_out", "output"),
    HookPoint.MLP_INPUT: ("norm_mlp", "input"),
    HookPoint.MLP_NORM: ("norm_mlp", "output"),
    HookPoint.NEURONS: ("mlp_out", "input"),
    HookPoint.MLP_OUTPUT: ("mlp", "output"),
    HookPoint.FINAL_NORM: ("final_norm", "output"),
    HookPoint.LOGITS: ("unembedding", "output"),
}


@dataclass(frozen=True)
class Block:
    """The modules of one layer.

    If a linear has an adapter, the attribute holds the adapter's module, which wraps the linear.

    Attributes:
        whole: the block itself.
        norm_attention, norm_mlp: the norms before attention and before the MLP.
        attention, mlp: the modules that add to the residual stream.
        qkv: the linears for query, key and value: three linears, or one for all.
        attn_out, mlp_out: the output projections of attention and MLP.
        activation: the MLP's activation function.
        head_norms: the norms that are applied to each head's query and key; empty if there are
            none.
    """

    whole: nn.Module
    norm_attention: nn.Module
    attention: nn.Module
    qkv: tuple[nn.Module, ...]
    attn_out: nn.Module
    norm_mlp: nn.Module
    mlp: nn.Module
    activation: nn.Module
    mlp_out: nn.Module
    head_norms: tuple[nn.Module, ...]


class HookedModel:
    """A live model, including adapters, whose activations can be read and replaced.

    The modules are looked up by the names that the model's architecture gives them; nothing is
    copied or converted. Activations are addressed by hook point and layer:

        keys = model.every(HookPoint.MLP_OUTPUT)
        with model.caching(keys) as cache:                       # cache[HookPoint.MLP_OUTPUT, 3]
            normed = model.hidden(mask, input_ids=ids)
        with model.hooks([((HookPoint.MLP_OUTPUT, 3), torch.zeros_like)]):
            without_it = model.hidden(mask, input_ids=ids)

    Attributes:
        model: the transformers model, without the PEFT model around it.
        shape: the model's sizes.
        fused: how the linears of `Block.qkv` hold the projections for query, key and value.
        embedding, final_norm, unembedding: modules outside the blocks.
        blocks: the modules of every layer.

    Raises:
        UserError: the architecture is unknown, or an adapter acts outside the modules that hooks
            can reach (`require_analysable`).
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        if isinstance(model, PeftModel):
            for name in model.active_adapters:
                require_analysable(model.peft_config[name], "model")
        self.model = base_model(model)
        names = architecture(self.model.config)
        self.shape = shape(self.model.config)
        self.fused = names.fused
        find = self.model.get_submodule
        self.embedding = find(names.embedding)
        self.final_norm = find(names.final_norm)
        unembedding = self.model.get_output_embeddings()
        assert isinstance(unembedding, nn.Module)
        self.unembedding = unembedding
        self.blocks = []
        for layer in range(self.shape.layers):
            here = f"{names.layers}.{layer}"
            (attn_out,), (mlp_out,) = names.modules["attn_out"], names.modules["mlp_out"]
            self.blocks.append(
                Block(
                    whole=find(here),
                    norm_attention=find(f"{here}.{names.norm_attention}"),
                    attention=find(f"{here}.{names.attention}"),
                    qkv=tuple(find(name) for name in names.linears(layer, "qkv")),
                    attn_out=find(f"{here}.{attn_out}"),
                    norm_mlp=find(f"{here}.{names.norm_mlp}"),
                    mlp=find(f"{here}.{names.mlp}"),
                    activation=find(f"{here}.{names.activation}"),
                    mlp_out=find(f"{here}.{mlp_out}"),
                    head_norms=tuple(find(f"{here}.{name}") for name in names.head_norms),
                )
            )

    @property
    def device(self) -> torch.device:
        """The device of the unembedding."""
        return next(self.unembedding.parameters()).device

    @property
    def backbone(self) -> nn.Module:
        """The transformers model without the unembedding; its output is that of the final norm."""
        return self.model.base_model

    def hidden(self, mask: Tensor | None, **inputs: Tensor) -> Tensor:
        """Run one forward pass and return the output of the final norm, [B, T, width].

        Only real tokens are counted as positions, so texts may be padded on either side.

        Args:
            mask: [B, T] true or 1 at real tokens, false or 0 at padding; None if there is no
                padding.
            inputs: `input_ids` [B, T] or `inputs_embeds` [B, T, width].
        """
        positions = None
        if mask is not None:
            mask = mask.long()
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            if bool(mask.all()):
                mask = None  # without a mask SDPA uses its fastest kernel
        return self.backbone(
            attention_mask=mask, position_ids=positions, use_cache=False, **inputs
        ).last_hidden_state

    # ---- activations

    @property
    def projections(self) -> tuple[HookPoint, ...]:
        """Hook points of the outputs of the linears in `Block.qkv`: one per linear."""
        if self.fused is Fused.split:
            return HookPoint.QUERY_PROJECTION, HookPoint.KEY_PROJECTION, HookPoint.VALUE_PROJECTION
        return (HookPoint.QKV_PROJECTION,)

    def every(self, *points: HookPoint) -> list[ActivationKey]:
        """Return the keys (hook point, layer) of hook points at all layers, layer by layer.

        `residual` has one more layer than the model, which is the stream that the final norm reads.
        Points outside the blocks have only layer 0.

        Args:
            points: the hook points.
        """
        last = self.shape.layers
        inside = [point for point in points if point not in _OUTSIDE]
        found = [(point, layer) for layer in range(last) for point in inside]
        found += [(point, 0) for point in points if point in _OUTSIDE]
        return found + [(point, last) for point in points if point is HookPoint.RESIDUAL]

    def at_every_layer(
        self, point: HookPoint, function: Callable[[int, Any], Any]
    ) -> list[tuple[ActivationKey, Callable[[Any], Any]]]:
        """Return hooks for the method `hooks` that call one function at every layer.

        Args:
            point: the hook point.
            function: called as `function(layer, activation)`; it may return a replacement, as
                described in `hooks`.
        """
        return [(key, partial(function, key[1])) for key in self.every(point)]

    @contextmanager
    def hooks(
        self, hooks: Iterable[tuple[ActivationKey, Callable[[Any], Any]]], first: bool = False
    ) -> Iterator[None]:
        """Call functions on the activations of every forward pass in a `with` block.

        A function returns None, or a replacement for the activation. Functions at the same point
        run in the given order, each on the result of the previous one. Blocks may be nested.

        Args:
            hooks: pairs of a key (hook point, layer) and the function to call; see `HookPoint` for
                the function's argument.
            first: whether these functions run before those of enclosing blocks; this is ignored at
                points in attention (`query`, `key`, `value`, `pattern`, `attention`).

        Raises:
            UserError: no forward pass called the functions at a point in attention.
            ValueError: the model has no such hook point.
        """
        by_module: list[ModuleHook] = []
        by_attention = []
        for key, function in hooks:
            if key[0] in ATTENTION_POINTS:
                by_attention.append((*key, function))
            else:
                by_module.append((*self._place(key), function))
        with ExitStack() as stack:
            stack.enter_context(module_hooks(by_module, first))
            if by_attention:
                stack.enter_context(attention_hooks(self.model, by_attention))
            yield

    @contextmanager
    def caching(
        self, keys: Iterable[ActivationKey], keep: Callable[[Any], Any] | None = None
    ) -> Iterator[ActivationCache]:
        """Yield a cache that is filled with the activations of forward passes in a `with` block.

        A later pass overwrites the activations of an earlier one.

        Args:
            keys: the hook points and layers to record.
            keep: function that is called with each activation and returns what to record, such as a
                slice; None to record whole activations.
        """
        cache = ActivationCache()

        def saver(key: ActivationKey) -> Callable[[Any], None]:
            def save(value: Any) -> None:
                cache[key] = value if keep is None else keep(value)

            return save

        with self.hooks((key, saver(key)) for key in keys):
            yield cache

    def _place(self, key: ActivationKey) -> tuple[nn.Module, Side]:
        """Return the module of a hook point, and whether it is its input or output."""
        point, layer = key
        if key == (HookPoint.RESIDUAL, self.shape.layers):
            return self.final_norm, "input"
        name, side = _PLACES[point]
        if isinstance(name, str):
            return getattr(self if point in _OUTSIDE else self.blocks[layer], name), side
        if point.startswith("qkv") != (len(self.projections) == 1):
            raise ValueError(
                f"hook point {point}: the linears of a `{self.model.config.model_type}` are"
                f" {', '.join(self.projections)}"
            )
        return self.blocks[layer].qkv[name], side

    @contextmanager
    def ungrouped(self, wanted: bool = True) -> Iterator[None]:
        """Give every query head its own copy of its group's keys and values in a `with` block.

        The copies are made at the outputs of the key and value projections, so that each can be
        read, replaced and differentiated by itself. A model without grouped-query attention is not
        changed.

        Args:
            wanted: if False, nothing is changed.
        """
        group = self.shape.group
        if group == 1 or not wanted:
            yield
            return
        attentions: list[Any] = [block.attention for block in self.blocks]
        linears = [linear for block in self.blocks for linear in block.qkv[1:]]
        with module_hooks([(linear, "output", self.repeated) for linear in linears], first=True):
            for attention in attentions:
                attention.num_key_value_groups = 1
            try:
                yield
            finally:
                for attention in attentions:
                    attention.num_key_value_groups = group

    def repeated(self, output: Tensor) -> Tensor:
        """Return keys or values with one copy for each query head of the group that shares them.

        Args:
            output: [..., key/value heads * head width] keys or values.

        Returns:
            [..., heads * head width].
        """
        heads = output.unflatten(-1, (-1, self.shape.head_width))
        return heads.repeat_interleave(self.shape.group, -2).flatten(-2)

    # ---- passes

    def hidden_from(self, layer: int, stream: Tensor, start: int = 0) -> Tensor:
        """Run a forward pass that starts at a block, and return the output of the final norm.

        Args:
            layer: index of the block. If it equals the number of layers, only the final norm is
                run.
            stream: [B, R, width] the input of that block at R consecutive positions.
            start: index of the first of these positions. Attention reads keys and values of earlier
                positions only if hooks supply them (`HookPoint.ATTENTION`).

        Returns:
            [B, R, width].
        """
        rows = stream.shape[1]
        places = torch.arange(start, start + rows, device=stream.device)

        def unchanged(hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
            return hidden_states

        with (
            ExitStack() as stack,
            # the model starts from one row of zeros, which the stream replaces
            self.hooks([((HookPoint.RESIDUAL, layer), lambda zeros: stream)], first=True),
        ):
            for block in self.blocks[:layer]:
                block.whole.forward = unchanged  # type: ignore[method-assign]
                stack.callback(delattr, block.whole, "forward")
            return self.backbone(
                inputs_embeds=stream.new_zeros(1, rows, stream.shape[-1]),
                position_ids=places[None],
                use_cache=False,
            ).last_hidden_state

    # ---- weights

    def by_head(self, output: Tensor) -> Tensor:
        """Split the output of a linear of `Block.qkv` into heads.

        Args:
            output: [..., out] the linear's output.

        Returns:
            [..., heads of the linear, head width], with queries first, then keys, then values.
        """
        width = self.shape.head_width
        if self.fused is Fused.interleaved:
            return output.unflatten(-1, (-1, 3, width)).transpose(-2, -3).flatten(-3, -2)
        return output.unflatten(-1, (-1, width))

    def joined(self, heads: Tensor) -> Tensor:
        """Join heads into the output of a linear, which undoes `by_head`.

        Args:
            heads: [..., heads of the linear, head width], with queries first, then keys, then
                values.

        Returns:
            [..., out].
        """
        if self.fused is Fused.interleaved:
            heads = heads.unflatten(-2, (3, -1)).transpose(-2, -3).flatten(-3, -2)
        return heads.flatten(-2)

    def head_weights(self, layer: int, expand_groups: bool = False) -> HeadWeights:
        """Return the effective weights of a layer's query, key and value projections by head.

        Args:
            layer: index of the layer.
            expand_groups: whether every query head gets its own copy of its group's key and value.

        Returns:
            Weights [columns, width, head width] and biases [columns, head width], where columns are
            the heads of all queries, then all keys, then all values.
        """
        found = [effective_weight(linear) for linear in self.blocks[layer].qkv]
        if expand_groups and self.shape.group > 1:
            found[1:] = [(self.repeated(weight), self.repeated(bias)) for weight, bias in found[1:]]
        weight = torch.cat([self.by_head(weight) for weight, _ in found], -2)
        bias = torch.cat([self.by_head(bias) for _, bias in found], -2)
        return HeadWeights(weight.transpose(0, 1).contiguous(), bias)

    def attention_output(self, layer: int) -> HeadWeights:
        """Return the effective weights of a layer's output projection by head.

        Args:
            layer: index of the layer.

        Returns:
            Weights [heads, head width, width] and the bias [width].
        """
        weight, bias = effective_weight(self.blocks[layer].attn_out)
        return HeadWeights(weight.unflatten(0, (self.shape.heads, self.shape.head_width)), bias)


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model in a PEFT model, or the model itself without PEFT.

    In an adapted model, linears still contain the adapter.

    Args:
        model: a transformers model, or a PEFT model around one.
    """
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(found, PreTrainedModel)
    return found


def has_adapter(model: nn.Module) -> bool:
    """Return whether a model contains an adapter, even if it is not a `PeftModel`.

    Args:
        model: the model.
    """
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return isinstance(model, PeftModel) or any(isinstance(one, kinds) for one in model.modules())
