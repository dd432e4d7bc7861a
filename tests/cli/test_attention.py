"""`model.attention` as it is typed: what is refused, and that results don't depend on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from sumcirc.circuits.attribution.methods import attribute
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.loading import load_model
from sumcirc.schema import ModelConfig
from tests.circuits.cases import difference_metric, some_pairs
from tests.support.small_models import small_config, write_model

TINY = Path(__file__).parents[2] / "src" / "sumcirc" / "assets" / "tiny"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    return write_model(tmp_path_factory.mktemp("gemma2"), small_config("gemma2"), tokenizer)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nonsense", "model.attention=nonsense: not known; choose from eager, "),
        ("kernels-community/flash-attn", "not known; choose from eager, "),
        ("flash_attention_2", "model.attention=flash_attention_2: a `gpt2` can't use it here ("),
    ],
)
def test_what_is_unknown_or_missing_is_refused(
    refused: Callable[..., str], name: str, parts: str
) -> None:
    assert parts in refused("train", f"model.attention={name}")


def test_an_architecture_without_it_is_named(refused: Callable[..., str], gemma: Path) -> None:
    line = refused("train", f"model.path={gemma}", "model.attention=sdpa")
    assert "model.attention=sdpa: a `gemma2` can't use it here (" in line


def test_measures_and_scores_are_those_of_every_backend() -> None:
    """The setting reaches the model, and attention is seen in the same way."""
    found: dict[str, Any] = {}
    pairs = some_pairs()
    for name in ("sdpa", "eager"):
        model = load_model(ModelConfig(name="tiny", path="tiny", attention=name)).eval()
        assert model.config._attn_implementation == name
        scores = attribute(model, pairs, difference_metric(pairs)).documents
        hooked = HookedModel(model)
        points = hooked.every(HookPoint.PATTERN, HookPoint.HEAD_OUTPUTS, HookPoint.RESIDUAL)
        with torch.no_grad(), hooked.caching(points) as cache:
            logits = model(input_ids=pairs.clean.input_ids).logits
        assert model.config._attn_implementation == name
        found[name] = scores, logits, *cache.values()
    for one, other in zip(found["sdpa"], found["eager"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
