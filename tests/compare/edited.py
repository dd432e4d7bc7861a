"""Small models whose weights were changed everywhere, with items and texts to see it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import NONE, TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from sumcirc.models.modes import inference
from tests.support.small_models import VOCABULARY, adapted, exact_norms, linears, small_model

LENGTHS = (9, 5, 12)


FAMILY_AND_TIES = [*((family, None) for family in ARCHITECTURES), ("gpt2", False), ("llama", True)]


def tokens(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(VOCABULARY, size=length)


def some_items() -> ItemSet:
    found = []
    for number, length in enumerate(LENGTHS):
        ids = tokens(length, number)
        good = np.full(length, NONE)
        good[-4:-1] = ids[-3:]
        found.append(TokenExample(str(number), ids, good, np.full(length, NONE)))
    return ItemSet(found)


TEXT = [tokens(7, 10), tokens(11, 11)]


def weights_in_memory(model: Any) -> dict[str, torch.Tensor]:
    """Return all parameters by name; a tied parameter appears under each of its names."""
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def logits(model: Any) -> torch.Tensor:
    with inference(model):
        return model(torch.from_numpy(tokens(13, 20))[None]).logits


def changed_everywhere(model: Any, by: float = 0.05) -> Any:
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(by * noise.to(parameter.dtype))
    return other


def with_gradients(model: Any) -> Any:
    """Let every second parameter ask for a gradient, and give every third one."""
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 2 == 0)
        parameter.grad = torch.full_like(parameter, 0.5) if number % 3 == 0 else None
    return model


def state(model: Any) -> dict[str, Any]:
    """All that an edit may leave behind."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
        "asking": {name: p.requires_grad for name, p in model.named_parameters()},
        "places": [parameter.data_ptr() for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "scaling": [dict(m.scaling) for m in model.modules() if isinstance(m, LoraLayer)],
        "off": [m.disable_adapters for m in model.modules() if hasattr(m, "disable_adapters")],
    }


def same_state(first: dict[str, Any], second: dict[str, Any]) -> None:
    for kind in ("weights", "gradients"):
        values, others = first.pop(kind), second.pop(kind)
        assert values.keys() == others.keys()
        for name, value in values.items():
            assert torch.equal(value, others[name]), name
    assert first == second


def ties(tied: bool | None) -> dict[str, bool]:
    return {} if tied is None else {"tie_word_embeddings": tied}


def base_of(family: str) -> Any:
    """A model none of whose parameters is zero, in float64."""
    return exact_norms(changed_everywhere(small_model(family).double(), 0.1))


def with_adapter(base: Any, dora: bool) -> Any:
    """LoRA or DoRA on all linears but the MLP's first, small enough for a smooth metric."""
    if not dora:
        tuned: Any = adapted(copy.deepcopy(base)).double()
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(0.3)
        return tuned
    model = copy.deepcopy(base)
    hooked = HookedModel(model)
    wanted = set(linears(hooked))
    names = [name for name, module in model.named_modules() if module in wanted]
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=7, target_modules=names, use_dora=True)
    config.fan_in_fan_out = base.config.model_type == "gpt2"
    tuned = get_peft_model(model, config).double().eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.03 * noise)
    return tuned
