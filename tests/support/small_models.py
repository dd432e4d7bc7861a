"""One small model of every family that `models.architectures` knows, from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from sumcirc.models.activations.effective_weights import HeadWeights
from sumcirc.models.activations.hooked_model import HookedModel

VOCABULARY, WIDTH, INNER, LAYERS, CONTEXT = 400, 32, 48, 2, 128
WITH_GROUPS = ("llama", "mistral", "qwen2", "qwen3")


def small_config(family: str, layers: int = LAYERS, **changes: Any) -> PretrainedConfig:
    """Width 32, 4 heads, of which pairs share a key/value head where the family can."""
    if family == "gpt2":
        shape = {"n_layer": layers, "n_embd": WIDTH, "n_head": 4, "n_positions": CONTEXT}
    else:
        shape = {
            "num_hidden_layers": layers,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
        }
    if family in WITH_GROUPS:
        shape |= {"num_key_value_heads": 2, "head_dim": WIDTH // 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return AutoConfig.for_model(family, **{"vocab_size": VOCABULARY, **shape, **ends, **changes})


def small_model(family: str, seed: int = 0, **changes: Any) -> Any:
    """A model with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(small_config(family, **changes)).eval()


def scrambled(family: str, **changes: Any) -> Any:
    """A model none of whose parameters is zero or one: fresh biases and gains would hide errors."""
    model = small_model(family, layers=3, **changes)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def linears(hooked: HookedModel) -> list[nn.Module]:
    """Every linear of the blocks that an adapter may go on, the MLP's first aside."""
    return [
        linear for block in hooked.blocks for linear in (*block.qkv, block.attn_out, block.mlp_out)
    ]


def columns(model: HookedModel, layer: int) -> list[HeadWeights]:
    """Effective weights of a layer's queries, keys and values, each by itself."""
    found, size = model.head_weights(layer), model.shape
    counts = (size.heads, size.key_value_heads, size.key_value_heads)
    pairs = zip(found.weight.split(counts), found.bias.split(counts), strict=True)
    return [HeadWeights(*pair) for pair in pairs]


def adapted(model: Any, dropout: float = 0.0) -> Any:
    """LoRA on these linears, with both matrices far from zero."""
    hooked = HookedModel(model)
    wanted = set(linears(hooked))
    config = LoraConfig(
        r=3,
        lora_alpha=7,
        lora_dropout=dropout,
        target_modules=[name for name, module in model.named_modules() if module in wanted],
        fan_in_fan_out=isinstance(hooked.blocks[0].attn_out, Conv1D),
    )
    found = get_peft_model(model, config)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(4)
        for name, parameter in found.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return found.eval()


def write_model(folder: Path, config: PretrainedConfig, tokenizer: Any) -> Path:
    """Save a random model that fits the tokenizer; returns the folder."""
    config.vocab_size = len(tokenizer)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
