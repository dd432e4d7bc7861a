"""The cache with reserved room holds what the growing one of transformers holds, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from sumcirc.evaluation.kv_cache import ReservedLayer, reserved_cache

LLAMA_SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    )


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**LLAMA_SHAPE))


@pytest.mark.parametrize("make", [gpt2, llama])
@torch.no_grad()
def test_every_step_equals_the_growing_cache(make: Any) -> None:
    torch.manual_seed(0)
    model = make().eval()
    rows, prompt, steps = 3, 7, 5
    ids = torch.randint(1, 40, (rows, prompt + steps))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    reserved = reserved_cache(model.config, prompt + steps)
    growing = DynamicCache(config=model.config)
    assert [type(layer) for layer in reserved.layers] == [ReservedLayer, ReservedLayer]
    for begin, end in [(0, prompt), *((i, i + 1) for i in range(prompt, prompt + steps))]:
        logits = [
            model(
                ids[:, begin:end],
                attention_mask=mask[:, :end],
                position_ids=(mask[:, :end].cumsum(1) - 1).clamp(min=0)[:, begin:end],
                past_key_values=cache,
            ).logits
            for cache in (reserved, growing)
        ]
        assert torch.equal(*logits)
        assert reserved.get_seq_length() == growing.get_seq_length() == end
    for ours, theirs in zip(reserved.layers, growing.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


def test_a_step_leaves_earlier_tokens_where_they_are() -> None:
    layer = ReservedLayer(room=6)
    keys, _ = layer.update(torch.ones(2, 1, 4, 3), torch.ones(2, 1, 4, 3))
    later, _ = layer.update(torch.zeros(2, 1, 1, 3), torch.zeros(2, 1, 1, 3))
    assert later.shape == (2, 1, 5, 3)
    assert later.data_ptr() == keys.data_ptr()


def test_more_tokens_than_room_are_refused() -> None:
    layer = ReservedLayer(room=4)
    layer.update(torch.ones(1, 1, 4, 3), torch.ones(1, 1, 4, 3))
    with pytest.raises(ValueError, match="5 tokens in a cache with room for 4"):
        layer.update(torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 3))


def test_sliding_windows_keep_their_own_layer() -> None:
    model = MistralForCausalLM(MistralConfig(**LLAMA_SHAPE, sliding_window=8))
    layers = reserved_cache(model.config, 20).layers
    assert [type(layer) for layer in layers] == [DynamicSlidingWindowLayer] * 2
