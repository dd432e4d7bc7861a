"""Where each family has dropout of its own, and what `model.dropout` makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sumcirc.models.adapters import adapt
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.dropout import dropout_probabilities, start_training
from sumcirc.schema import Adaptation, AdaptationConfig
from tests.support.small_models import small_model

IDS = torch.arange(1, 40)[None]
OWN = {
    "gpt2": {"attn_pdrop": 0.4, "embd_pdrop": 0.2, "resid_pdrop": 0.3},
    "gpt_neox": {"attention_dropout": 0.4, "hidden_dropout": 0.2},
    "phi3": {"attention_dropout": 0.4, "resid_pdrop": 0.2},
}


def output(model: Any, seed: int) -> torch.Tensor:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return model(input_ids=IDS).logits


def own(family: str) -> dict[str, float]:
    return OWN.get(family, {"attention_dropout": 0.4})


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_null_keeps_what_the_configuration_says(family: str) -> None:
    model = small_model(family, **own(family))
    start_training(model, None)
    assert dropout_probabilities(model) == sorted(own(family).values())
    assert not torch.equal(output(model, 1), output(model, 2))
    assert torch.equal(output(model, 1), output(model, 1))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_zero_trains_what_evaluation_computes(family: str) -> None:
    model = small_model(family, **own(family))
    expected = output(model, 1)
    start_training(model, 0.0)
    assert all(module.training for module in model.modules())
    assert dropout_probabilities(model) == [0.0]
    assert torch.equal(output(model, 1), expected)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_number_sets_every_one_and_leaves_the_configuration(family: str) -> None:
    """A copy whose configuration says that number draws the same masks at every place."""
    model, other = small_model(family), small_model(family, **dict.fromkeys(own(family), 0.25))
    before = model.config.to_dict()
    start_training(model, 0.25)
    other.train()
    assert dropout_probabilities(model) == [0.25]
    assert torch.equal(output(model, 1), output(other, 1))
    assert not torch.equal(output(model, 1), output(model, 2))
    assert model.config.to_dict() == before


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_no_other_probability_is_in_the_configuration(family: str) -> None:
    """Those of heads for classification aside, and one that transformers' Phi-3 doesn't use."""
    names = {name for name in small_model(family).config.to_dict() if "drop" in name}
    others = {"summary_first_dropout", "classifier_dropout"}
    others |= {"embd_pdrop"} if family == "phi3" else set()
    assert names - others == set(own(family))


def test_adapters_keep_their_own() -> None:
    lora = AdaptationConfig(kind=Adaptation.lora, rank=2, dropout=0.4)
    model: Any = adapt(small_model("gpt2"), lora)
    start_training(model, 0.0)
    adapters = {
        module.p
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and "lora_dropout" in name
    }
    assert adapters == {0.4}
    assert dropout_probabilities(model) == [0.0]
