"""A live model, with or without an adapter: its modules, activations and effective weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.models.activations.activation_cache import (
    ActivationCache,
    ActivationKey,
    Activations,
    HookPoint,
)
from sumcirc.models.activations.blocks import (
    OUTSIDE,
    PLACES,
    WITHOUT_NORM,
    Block,
    on_logits,
    on_own_copy,
    on_scaled,
    see_scale,
)
from sumcirc.models.activations.effective_weights import HeadWeights, effective_weight
from sumcirc.models.activations.hooks import (
    ATTENTION_POINTS,
    ModuleHook,
    Side,
    attention_hooks,
    module_hooks,
)
from sumcirc.models.activations.norms import Norm
from sumcirc.models.architectures import Fused, architecture, multipliers, shape
from sumcirc.models.peft_adapters import require_analysable
from sumcirc.models.unembedding import ScaledUnembedding, unembedding_of
from sumcirc.models.unwrapping import base_model


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
        multipliers: constants by which the model multiplies embeddings, outputs and logits.
        embedding, final_norm: modules outside the blocks.
        unembedding: maps the output of the final norm to logits (`unembedding_of`).
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
        self.multipliers = multipliers(self.model.config)
        self._add_one = names.norms_add_one
        find = self.model.get_submodule
        self.embedding = find(names.embedding)
        self.final_norm = find(names.final_norm)
        self.unembedding = unembedding_of(self.model)
        self.blocks = [Block.of(self.model, names, layer) for layer in range(self.shape.layers)]

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
            inputs: `input_ids` [B, T], or `inputs_embeds` [B, T, width] as `embedded` returns them.
        """
        if "inputs_embeds" in inputs and self.multipliers.embedding != 1.0:
            inputs["inputs_embeds"] = inputs["inputs_embeds"] / self.multipliers.embedding
        positions = None
        if mask is not None:
            mask = mask.long()
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            if bool(mask.all()):
                mask = None  # without a mask SDPA uses its fastest kernel
        return self.backbone(
            attention_mask=mask, position_ids=positions, use_cache=False, **inputs
        ).last_hidden_state

    def embedded(self, ids: Tensor) -> Tensor:
        """Return what the token embedding adds to the residual stream, [B, T, width].

        Args:
            ids: [B, T] tokens.
        """
        found = self.embedding(ids)
        return found if self.multipliers.embedding == 1.0 else found * self.multipliers.embedding

    # ---- activations

    @property
    def head_points(self) -> tuple[HookPoint, ...]:
        """Hook points that `scaled_heads` needs in its cache."""
        if isinstance(self.blocks[0].norm_attention_output, nn.Identity):
            return (HookPoint.HEAD_OUTPUTS,)
        return HookPoint.HEAD_OUTPUTS, HookPoint.ATTENTION_SCALE

    def scaled_heads(self, cache: Activations, layer: int) -> Tensor:
        """Return the heads' outputs such that `attention_output` maps them to the residual stream.

        Where a norm follows the output projection, they are multiplied by that norm's scale.

        Args:
            cache: activations of one pass, `head_points` among them.
            layer: index of the layer.

        Returns:
            [B, T, heads * head width].
        """
        heads = cache[HookPoint.HEAD_OUTPUTS, layer]
        if HookPoint.ATTENTION_SCALE in self.head_points:
            heads = heads * cache[HookPoint.ATTENTION_SCALE, layer].to(heads.dtype)
        return heads

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
        inside = [point for point in points if point not in OUTSIDE]
        found = [(point, layer) for layer in range(last) for point in inside]
        found += [(point, 0) for point in points if point in OUTSIDE]
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
                by_module += self._module_hooks(key, function)
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
        name, side = PLACES[point]
        if isinstance(name, str):
            found = getattr(self if point in OUTSIDE else self.blocks[layer], name)
            if isinstance(found, nn.Identity):
                if point is HookPoint.ATTENTION_SCALE:
                    raise self._missing(point, "no norm follows its output projection")
                name, side = WITHOUT_NORM[name]
                found = getattr(self.blocks[layer], name)
            return found, side
        if point.startswith("qkv") != (len(self.projections) == 1):
            raise self._missing(point, f"its linears are {', '.join(self.projections)}")
        return self.blocks[layer].qkv[name], side

    def _missing(self, point: HookPoint, why: str) -> ValueError:
        family = self.model.config.model_type
        return ValueError(f"hook point {point}: a `{family}` has none; {why}")

    def _module_hooks(self, key: ActivationKey, function: Callable[..., Any]) -> list[ModuleHook]:
        """Return the hooks on modules that give `function` the activation in the stream's unit."""
        point = key[0]
        module, side = self._place(key)
        if point is HookPoint.ATTENTION_SCALE:
            return [(module, side, partial(see_scale, self.norm(module, None), function))]
        if point is HookPoint.LOGITS and isinstance(module, ScaledUnembedding):
            # the model's own pass scales the logits itself
            whole: ModuleHook = (self.model, "output", partial(on_logits, function))
            return [(module, side, function), whole]
        if side == "input" and point in (HookPoint.ATTENTION_NORM, HookPoint.MLP_NORM):
            return [(module, side, partial(on_own_copy, function))]
        factor = 1.0
        if point is HookPoint.EMBEDDING:
            factor = self.multipliers.embedding
        elif point in (HookPoint.ATTENTION_OUTPUT, HookPoint.MLP_OUTPUT):
            factor = self.multipliers.residual
        if factor != 1.0:
            function = partial(on_scaled, factor, function)
        return [(module, side, function)]

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
        with ExitStack() as stack:
            for block in self.blocks:
                linears = block.qkv if len(block.qkv) == 1 else block.qkv[1:]
                hooks: list[ModuleHook] = [(one, "output", self.repeated) for one in linears]
                stack.enter_context(module_hooks(hooks, first=True))
                # the second name is that of Phi-3, which splits its one linear by it
                for name, value in (
                    ("num_key_value_groups", 1),
                    ("num_key_value_heads", self.shape.heads),
                ):
                    if hasattr(block.attention, name):
                        _set_within(stack, block.attention, name, value)
                for norm in block.head_norms[1:]:
                    weight = norm.get_parameter("weight").detach()
                    if len(weight) > self.shape.head_width:  # of all keys together
                        whole = nn.Parameter(self.repeated(weight), requires_grad=False)
                        _set_within(stack, norm, "weight", whole)
            yield

    def repeated(self, output: Tensor) -> Tensor:
        """Return keys or values with one copy for each query head of the group that shares them.

        Args:
            output: [..., key/value heads * head width], or the output of a linear for queries, keys
                and values together, whose queries are left as they are.

        Returns:
            [..., heads * head width], or three times as many.
        """
        size = self.shape
        queries, shared = output[..., :0], output
        if output.shape[-1] > size.key_value_heads * size.head_width:
            first = size.heads * size.head_width
            queries, shared = output[..., :first], output[..., first:]
        heads = shared.unflatten(-1, (-1, size.head_width))
        found = heads.repeat_interleave(size.group, -2).flatten(-2)
        return torch.cat([queries, found], -1) if queries.shape[-1] else found

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
            first = 0 if len(found) == 1 else 1
            found[first:] = [
                (self.repeated(weight), self.repeated(bias)) for weight, bias in found[first:]
            ]
        weight = torch.cat([self.by_head(weight) for weight, _ in found], -2)
        bias = torch.cat([self.by_head(bias) for _, bias in found], -2)
        return HeadWeights(weight.transpose(0, 1).contiguous(), bias)

    def attention_output(self, layer: int) -> HeadWeights:
        """Return the map from a layer's heads to the residual stream, by head.

        It is the output projection's effective weight, times the weight of the norm after it and
        the model's constant for outputs, where there are such. It applies to `scaled_heads`.

        Args:
            layer: index of the layer.

        Returns:
            Weights [heads, head width, width] and the bias [width].
        """
        weight, bias = effective_weight(self.blocks[layer].attn_out)
        gain = self.attention_gain(layer, weight.dtype)
        if gain is not None:
            weight, bias = weight * gain, bias * gain
        return HeadWeights(weight.unflatten(0, (self.shape.heads, self.shape.head_width)), bias)

    def attention_gain(self, layer: int, dtype: torch.dtype) -> Tensor | None:
        """Return the factor [width] of the output projection's columns; None if all are 1.

        Args:
            layer: index of the layer.
            dtype: type of the result.
        """
        norm = self.norm(self.blocks[layer].norm_attention_output, dtype)
        if norm.identity and self.multipliers.residual == 1.0:
            return None
        return norm.weight * self.multipliers.residual

    def norm(self, module: nn.Module, dtype: torch.dtype | None) -> Norm:
        """Return the parameters and formulas of one of the model's norms.

        Args:
            module: the norm, or `nn.Identity` where there is none.
            dtype: type of the parameters; None for at least float32.
        """
        dtype = dtype or torch.promote_types(self.model.dtype, torch.float32)
        if isinstance(module, nn.Identity):
            return Norm.absent(self.shape.width, dtype, self.device)
        return Norm.of(module, dtype, self._add_one)


def _set_within(stack: ExitStack, owner: nn.Module, name: str, value: Any) -> None:
    """Set an attribute of a module until a stack of contexts is closed."""
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
