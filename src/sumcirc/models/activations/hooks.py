"""Functions that read, and may replace, results of a model's modules and attention functions.

Modules are reached by PyTorch's hooks; queries, keys and values by a custom attention function
(`transformers.AttentionInterface`), which calls SDPA unless a hook replaces its result. Both are
active only within their context; use them by `HookedModel.hooks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import HookPoint

# A hook is a function of a module's first argument, of its output, or of both. It returns None, or
# a replacement for the argument or the output.
Side = Literal["input", "output", "both"]
ModuleHook = tuple[nn.Module, Side, Callable[..., Tensor | None]]


@contextmanager
def module_hooks(hooks: Iterable[ModuleHook], first: bool = False) -> Iterator[None]:
    """Register PyTorch hooks for a `with` block, which run in the given order.

    Args:
        hooks: a tuple (module, side, function) for each hook. The side says whether the function
            gets the module's first argument, its output, or both. The function returns None, or a
            replacement for the argument or the output.
        first: whether the hooks run before those that are already registered.
    """
    handles = []
    try:
        for module, side, function in hooks:
            if side == "input":
                hook = partial(_on_input, function)
                handles.append(
                    module.register_forward_pre_hook(hook, prepend=first, with_kwargs=True)
                )
            else:
                hook = partial(_on_output, function, side)
                handles.append(module.register_forward_hook(hook, prepend=first))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _on_input(
    function: Callable[..., Tensor | None],
    module: nn.Module,
    inputs: tuple[Any, ...],
    options: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if inputs:
        found = function(inputs[0])
        return None if found is None else ((found, *inputs[1:]), options)
    # blocks pass the stream to their attention by this name
    found = function(options["hidden_states"])
    return None if found is None else ((), {**options, "hidden_states": found})


def _on_output(
    function: Callable[..., Tensor | None],
    side: Side,
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Tensor,
) -> Tensor | None:
    return function(output) if side == "output" else function(inputs[0], output)


@dataclass(frozen=True)
class AttentionInputs:
    """The arguments of one layer's attention function.

    Attributes:
        query: [B, heads, T, head width] queries, after rotary embeddings and head norms.
        key, value: [B, key/value heads, S, head width] keys and values; S equals T unless a hook
            has added the keys and values of earlier positions.
        mask: [B, 1, T, S] True where a query sees a key; None for causal attention.
        scaling: factor by which the products of queries and keys are multiplied.
        window: largest number of keys that a query sees; None without a limit.
        softcap: c in c * tanh(score / c), by which scores are bounded before the mask and the
            softmax (Gemma 2); None without a bound.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    window: int | None = None
    softcap: float | None = None

    def pattern(self) -> Tensor:
        """Return the attention probabilities, [B, heads, T, S]."""
        key = self.key.repeat_interleave(self.query.shape[1] // self.key.shape[1], 1)
        scores = soft_capped(self.query @ key.mT * self.scaling, self.softcap)
        rows, length = scores.shape[-2:]
        visible = self.mask
        if visible is None:
            visible = scores.new_ones(rows, length, dtype=torch.bool).tril(length - rows)
        return scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1)

    def outputs(self) -> Tensor:
        """Return the heads' outputs in causal attention, [B, T, heads, head width].

        The queries belong to the last T of the S positions. Each query sees at most `window` keys;
        `mask` is not used.
        """
        rows, length = self.query.shape[2], self.key.shape[2]
        mask = None
        whole = rows == length and (self.window is None or self.window >= length)
        if not whole:
            at = torch.arange(length - rows, length, device=self.query.device)[:, None]
            keys = torch.arange(length, device=self.query.device)
            mask = (keys <= at) & (keys > at - (self.window or math.inf))
        if self.softcap is not None:
            return self._weighted(replace(self, mask=mask).pattern())
        found = scaled_dot_product_attention(
            self.query,
            self.key,
            self.value,
            attn_mask=mask,
            is_causal=whole,
            scale=self.scaling,
            enable_gqa=self.query.shape[1] != self.key.shape[1],
        )
        return found.transpose(1, 2)

    def _weighted(self, pattern: Tensor) -> Tensor:
        """Return the heads' outputs [B, T, heads, head width] for attention probabilities."""
        group = self.query.shape[1] // self.value.shape[1]
        return (pattern @ self.value.repeat_interleave(group, 1)).transpose(1, 2)


def soft_capped(scores: Tensor, cap: float | None) -> Tensor:
    """Return cap * tanh(scores / cap), or the scores themselves if `cap` is None."""
    return scores if cap is None else torch.tanh(scores / cap) * cap


ATTENTION_POINTS = (
    *(HookPoint.QUERY, HookPoint.KEY, HookPoint.VALUE),
    *(HookPoint.PATTERN, HookPoint.ATTENTION),
)
AttentionHook = tuple[HookPoint, int, Callable[..., Any]]  # point, layer, function
NAME = "sumcirc"  # name of the attention function

# by id of the configuration (each model has its own) and layer, in the order of registration
_registered: dict[tuple[int, int], list[AttentionHook]] = {}


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention as transformers calls it; return outputs [B, T, heads, head width]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window, softcap = options.get("sliding_window"), options.get("softcap")
    given = AttentionInputs(query, key, value, attention_mask, scale, window, softcap)
    heads = None
    hooks = _registered.get((id(module.config), int(module.layer_idx)), ())  # type: ignore[arg-type]
    for point, _, function in sorted(hooks, key=lambda hook: ATTENTION_POINTS.index(hook[0])):
        if point is HookPoint.ATTENTION:
            found = function(given)
            heads = heads if found is None else found
        elif point is HookPoint.PATTERN:
            pattern = function(given.pattern())
            if pattern is not None:
                heads = given._weighted(pattern)
        else:
            found = function(getattr(given, point))
            given = given if found is None else replace(given, **{point: found})
    if heads is not None:
        return heads, None
    if softcap is not None:  # SDPA has no soft-capping
        dropout = options.get("dropout", 0.0)
        return given._weighted(F.dropout(given.pattern(), dropout, module.training)), None
    return sdpa_attention_forward(
        module, given.query, given.key, given.value, attention_mask, scaling=scaling, **options
    )


AttentionInterface.register(NAME, _attention)
# without a mask function of the same name, attention would be neither causal nor masked
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


@contextmanager
def attention_hooks(model: PreTrainedModel, hooks: Iterable[AttentionHook]) -> Iterator[None]:
    """Register hooks on the arguments and results of attention for a `with` block.

    In the block the model uses an attention implementation that calls the hooks; on exit its own
    implementation is restored.

    Args:
        model: the transformers model.
        hooks: for each hook, its point in attention, its layer, and the function to call, which
            receives the activation and returns None or a replacement.

    Raises:
        UserError: no forward pass in the block called the hooks of some layer.
    """
    before: Any = model.config._attn_implementation
    missing: set[int] = set()
    added: list[tuple[tuple[int, int], AttentionHook]] = []

    def noted(layer: int, function: Callable[..., Any], value: Any) -> Any:
        missing.discard(layer)
        return function(value)

    model.set_attn_implementation(NAME)
    try:
        for point, layer, function in hooks:
            missing.add(layer)
            key, hook = (id(model.config), layer), (point, layer, partial(noted, layer, function))
            _registered.setdefault(key, []).append(hook)
            added.append((key, hook))
        yield
    finally:
        for key, hook in added:
            _registered[key].remove(hook)
        model.set_attn_implementation(before)
    if missing:
        raise UserError(
            f"attention of layers {sorted(missing)} of this `{model.config.model_type}`"
            f" (implementation `{before}`) can't be seen; load the model with"
            " model.attention=sdpa or eager"
        )
