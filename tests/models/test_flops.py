"""Tests the counted operations of a training step against torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, VeraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from sumcirc.data.batches import TrainingBatch
from sumcirc.models.architectures import ARCHITECTURES, architecture, shape
from sumcirc.models.flops import TrainingFlops
from sumcirc.models.unembedding import unembedding_of
from sumcirc.models.unwrapping import base_model
from sumcirc.training.module import summary_loss
from tests.support.small_models import small_config, small_model

LAYERS, SEQUENCES, LENGTH = 3, 2, 24
ALL = ("qkv", "attn_out", "mlp_in", "mlp_out")


def carried_out(model: Any) -> int:
    """Return torch's count for one training step, without the angles of rotary embeddings."""
    ids = torch.randint(1, 400, (SEQUENCES, LENGTH))
    positions = torch.tensor([20, 21, 22, 45, 46])
    batch = TrainingBatch(ids, positions, ids.flatten()[positions + 1], ids.numel(), 5, 5)
    base = base_model(model)
    base.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        summary_loss(base.base_model, unembedding_of(base), batch).backward()
    counts = counter.get_flop_counts()
    angles = sum(sum(by.values()) for name, by in counts.items() if name.endswith("rotary_emb"))
    return counter.get_total_flops() - angles


def counted(model: Any) -> int:
    return TrainingFlops.of(model).batch(SEQUENCES, LENGTH, 5)


def with_adapter(family: str, layers: tuple[int, ...], modules: tuple[str, ...], **options: Any):
    model = small_model(family, layers=LAYERS)
    names = [n for i in layers for m in modules for n in architecture(model.config).linears(i, m)]
    kind: type[PeftConfig] = options.pop("kind", LoraConfig)
    given = {"target_modules": names, "r": 5, "fan_in_fan_out": family == "gpt2", **options}
    return get_peft_model(model, kind(**given))


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_full_fine_tuning(family: str) -> None:
    model = small_model(family, layers=LAYERS)
    assert counted(model) == carried_out(model)


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
@pytest.mark.parametrize(
    ("layers", "modules"),
    [
        (tuple(range(LAYERS)), ALL),
        ((LAYERS - 1,), ALL),
        ((1,), ("mlp_out",)),
        ((1, 2), ("attn_out",)),
        ((1,), ("mlp_in",)),
        ((0, 2), ("qkv",)),
    ],
)
def test_adapters(family: str, layers: tuple[int, ...], modules: tuple[str, ...]) -> None:
    """No backward pass goes below the first adapter."""
    model = with_adapter(family, layers, modules)
    assert counted(model) == carried_out(model)


@pytest.mark.parametrize("only", ["q_proj", "k_proj", "v_proj"])
def test_an_adapter_on_one_projection(only: str) -> None:
    """The keys of the first adapted layer need no gradient if only its queries are adapted."""
    model = with_adapter("llama", (1,), (only,))
    assert counted(model) == carried_out(model)


def test_matrices_that_are_not_trained() -> None:
    model = with_adapter("llama", (1, 2), ("mlp_out",), kind=VeraConfig, fan_in_fan_out=False)
    assert counted(model) == carried_out(model)


def test_trained_biases() -> None:
    model = with_adapter("gpt2", (2,), ("mlp_out",), bias="all")
    assert counted(model) == carried_out(model)


def test_rule_of_thumb() -> None:
    """6 operations per token and trained parameter; 4 if it is frozen, and 2 below the adapters."""
    config = small_config("llama", layers=LAYERS)
    size = shape(config)
    inner = 3 * size.width * size.neurons
    kept = size.width * size.head_width * (2 * size.heads + 2 * size.key_value_heads)
    block = inner + kept
    full = TrainingFlops.of(small_model("llama", layers=LAYERS))
    assert full.token == 6 * LAYERS * block
    assert full.target == 6 * size.width * size.vocabulary
    assert full.pair == 12 * LAYERS * size.heads * size.head_width
    last = with_adapter("llama", (LAYERS - 1,), ("mlp_out",), r=1)
    found = TrainingFlops.of(last)
    low = size.width + size.neurons
    # of the last block only the adapter's weights have a gradient, since nothing below needs one
    assert found.token == 2 * LAYERS * block + 4 * low + 2 * size.width
    assert found.target == 4 * size.width * size.vocabulary
