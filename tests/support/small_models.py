"""One small model of every family that `modeling.anatomy` knows, from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

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


def write_model(folder: Path, config: PretrainedConfig, tokenizer: Any) -> Path:
    """Save a random model that fits the tokenizer; returns the folder."""
    config.vocab_size = len(tokenizer)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
