"""Look inside a live model during one forward pass: queries and keys, residual stream, neurons.

Queries and keys are seen by an attention function of our own (`transformers.AttentionInterface`),
which leaves the output to SDPA; another one hands the whole of attention over
(`attention_replaced`). Only the passes made here use them; the model's own implementation
(SDPA, eager, flash, flex) is put back. Everything else is seen by hooks, which are removed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from sumcirc.errors import UserError
from sumcirc.modeling.parts import Parts

NAME = "sumcirc"  # of the attention function that is seen
OWN_NAME = "sumcirc_own"  # of the one that is replaced

# (layer, query, key, mask or None where causal, scaling)
SeeAttention = Callable[[int, Tensor, Tensor, Tensor | None, float], None]

# (layer, query, key, value, scaling, window or None) to [batch, query positions, heads, head width]
Attend = Callable[[int, Tensor, Tensor, Tensor, float, int | None], Tensor]

_seeing: ContextVar[SeeAttention | None] = ContextVar("seeing", default=None)
_attending: ContextVar[Attend | None] = ContextVar("attending", default=None)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    see = _seeing.get()
    if see is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        see(int(module.layer_idx), query, key, attention_mask, scale)  # type: ignore[arg-type]
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )


def _own_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    attend = _attending.get()
    assert attend is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(int(module.layer_idx), query, key, value, scale, sliding_window), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, _attention)
AttentionInterface.register(OWN_NAME, _own_attention)
# without a mask function of the same name, attention would be neither causal nor masked
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
ALL_MASK_ATTENTION_FUNCTIONS.register(OWN_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


@contextmanager
def attention_seen(parts: Parts, see: SeeAttention) -> Iterator[None]:
    """Within it every layer's attention is shown to `see`.

    Raises:
        UserError: a layer's attention was not seen, so what was measured would be incomplete.
    """
    model = parts.model
    before: Any = model.config._attn_implementation
    layers: set[int] = set()

    def note(layer: int, *arguments: Any) -> None:
        layers.add(layer)
        see(layer, *arguments)

    with _implementation(model, NAME, _seeing, note):
        yield
    missing = sorted(set(range(parts.shape.layers)) - layers)
    if missing:
        raise UserError(
            f"attention of layers {missing} of this `{model.config.model_type}` (implementation"
            f" `{before}`) can't be seen; load the model with attn_implementation=sdpa"
        )


@contextmanager
def attention_replaced(parts: Parts, attend: Attend) -> Iterator[None]:
    """Within it every layer's attention is what `attend` makes of queries, keys and values.

    It is told no mask: it is causal, within the window where a layer has one.
    """
    with _implementation(parts.model, OWN_NAME, _attending, attend):
        yield


@contextmanager
def _implementation(
    model: Any, name: str, variable: ContextVar[Any], value: Callable[..., Any]
) -> Iterator[None]:
    before: Any = model.config._attn_implementation
    model.set_attn_implementation(name)
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
        model.set_attn_implementation(before)


@contextmanager
def streams_seen(parts: Parts, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within it the residual stream is shown to `see`: 0 the embedding, l after layer l-1.

    The last one is what the final norm reads (not transformers' `hidden_states[-1]`, which is
    normed).
    """
    readers = [*(block.norm_attention for block in parts.blocks), parts.final_norm]
    with _inputs_seen(readers, see):
        yield


@contextmanager
def neurons_seen(parts: Parts, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within it every MLP's neurons, as its output projection reads them, are shown to `see`."""
    with _inputs_seen([block.mlp_out for block in parts.blocks], see):
        yield


@contextmanager
def _inputs_seen(modules: list[nn.Module], see: Callable[[int, Tensor], None]) -> Iterator[None]:
    def shower(number: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, inputs: see(number, inputs[0])

    handles = [
        module.register_forward_pre_hook(shower(number)) for number, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
