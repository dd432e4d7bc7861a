"""Two small models that are trained here: a sorter, and a reader of repetitions.

`python -m tests.support.trained_models` trains the sorter and writes `tests/fixtures/sorter`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

SORTER = Path(__file__).resolve().parents[1] / "fixtures" / "sorter"
NUMBERS = 6  # of a list
SYMBOLS = 3


def sorter(steps: int = 2200) -> GPT2LMHeadModel:
    """Return a model of 3 layers and 3 heads that continues six numbers with the same, sorted."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=SYMBOLS,
        n_positions=2 * NUMBERS - 1,
        n_embd=48,
        n_layer=3,
        n_head=3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).train()

    def loss() -> Tensor:
        lists = torch.randint(SYMBOLS, (64, NUMBERS))
        rows = torch.cat([lists, lists.sort(1).values], 1)
        logits = model(rows[:, :-1]).logits[:, NUMBERS - 1 :]
        return cross_entropy(logits.flatten(0, 1), rows[:, NUMBERS:].flatten())

    return _trained(model, loss, steps, rate=5e-4)


def repeater(steps: int = 120) -> LlamaForCausalLM:
    """Return a Llama, eight heads on four key/value heads, that continues repeated sequences."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).train()

    def loss() -> Tensor:
        rows = repetitions(16)
        return cross_entropy(model(rows[:, :-1]).logits[:, 7:].flatten(0, 1), rows[:, 8:].flatten())

    return _trained(model, loss, steps, rate=3e-3)


def repetitions(count: int) -> Tensor:
    """Return random sequences of 8 tokens, each three times in a row: [count, 24]."""
    return torch.randint(3, 64, (count, 8)).repeat(1, 3)


def _trained(model: Any, loss: Any, steps: int, rate: float) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {value.item():.4f}", flush=True)
    return model.eval()


if __name__ == "__main__":
    sorter().save_pretrained(SORTER)
