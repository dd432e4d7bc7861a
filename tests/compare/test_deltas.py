"""Scaled changes of weights and adapters, against weights computed by hand."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from sumcirc.compare.deltas.delta_scaling import scale_deltas
from sumcirc.compare.deltas.deltas import (
    EMBEDDING,
    FINAL,
    NORMS,
    Target,
    all_targets,
    scaled,
    targets_of,
)
from sumcirc.compare.deltas.weight_deltas import store_weights
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES, architecture
from sumcirc.models.unwrapping import base_model
from sumcirc.schema import MODULES
from tests.compare.edited import (
    FAMILY_AND_TIES,
    TEXT,
    changed_everywhere,
    logits,
    same_state,
    some_items,
    state,
    ties,
    weights_in_memory,
)
from tests.compare.planted import planted_adapter
from tests.support.small_models import adapted, scrambled, small_model


@pytest.mark.parametrize(("family", "tied"), FAMILY_AND_TIES)
def test_all_targets_hold_every_weight(family: str, tied: bool | None) -> None:
    """All at 0 is before exactly, all at 1 after; one target at 0 edits its weights alone."""
    before = scrambled(family, **ties(tied))
    after = changed_everywhere(before)
    kept = state(after)
    weights = weights_in_memory(before)
    targets = targets_of(HookedModel(after), weights)
    assert targets == all_targets(3)
    names = dict(after.named_parameters())
    edited: Counter[str] = Counter()
    for target in targets:
        with scaled(after, weights, {target: 0.0}):
            edited.update(
                name for name, p in names.items() if not torch.equal(p, kept["weights"][name])
            )
    assert edited == Counter(list(names))  # each in one target, none left out
    own = logits(after)
    assert not torch.equal(own, logits(before))
    with scaled(after, weights, dict.fromkeys(targets, 0.0)):
        assert torch.equal(logits(after), logits(before))
    with scaled(after, weights, dict.fromkeys(targets, 1.0)):
        assert torch.equal(logits(after), own)
    same_state(kept, state(after))


def holder(model: Any, name: str) -> Target:
    """The target of a weight, told by its name alone."""
    names = architecture(model.config)
    if not name.startswith(f"{names.layers}."):
        ends = (names.final_norm, "lm_head", "embed_out")
        return Target(None, FINAL if name.startswith(ends) else EMBEDDING)
    layer = int(name.removeprefix(f"{names.layers}.").split(".")[0])
    for module in MODULES:
        if name.startswith(tuple(f"{one}." for one in names.linears(layer, module))):
            return Target(layer, module)
    assert "norm" in name or "ln_" in name
    return Target(layer, NORMS)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_scaled_change_is_the_line_through_both_models(family: str) -> None:
    """Every target at a lambda of its own, against weights and logits computed by hand."""
    before = scrambled(family).double()
    after = changed_everywhere(before)
    amounts = {target: 0.1 * number for number, target in enumerate(all_targets(3))}
    expected = copy.deepcopy(after)
    with torch.no_grad():
        for (name, parameter), old in zip(
            expected.named_parameters(), before.parameters(), strict=True
        ):
            parameter.copy_(old + amounts[holder(after, name)] * (parameter - old))
    with scaled(after, weights_in_memory(before), amounts):
        torch.testing.assert_close(logits(after), logits(expected), rtol=1e-9, atol=1e-9)


def test_half_precision_is_mixed_in_float32_and_put_back() -> None:
    before, after = (model.bfloat16() for model in (scrambled("llama"), scrambled("llama")))
    after = changed_everywhere(after)
    kept = state(after)
    name = "model.layers.1.mlp.down_proj.weight"
    old, new = before.get_parameter(name).float(), after.get_parameter(name).float()
    with scaled(after, weights_in_memory(before), {Target(1, "mlp_out"): 0.3}):
        found = after.get_parameter(name)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, (old + 0.3 * (new - old)).bfloat16())
    same_state(kept, state(after))


@pytest.mark.parametrize("tied", [True, False])
def test_stored_weights_are_those_in_memory(tied: bool, tmp_path: Path) -> None:
    before = small_model("gpt2", tie_word_embeddings=tied)
    stored, memory = store_weights(before, tmp_path / "before"), weights_in_memory(before)
    assert set(stored) == set(memory)
    assert len(stored) == len(memory)
    assert all(torch.equal(stored[name], memory[name]) for name in memory)
    after = changed_everywhere(before)
    with scaled(after, stored, dict.fromkeys(targets_of(HookedModel(after), stored), 0.0)):
        assert torch.equal(logits(after), logits(before))


def test_an_error_on_the_way_leaves_the_model_as_it_was() -> None:
    before = small_model("gpt2")
    after = changed_everywhere(before)
    kept = state(after)
    weights = weights_in_memory(before)
    weights["transformer.h.1.mlp.c_fc.weight"] = torch.zeros(3)
    with (
        pytest.raises(UserError, match=r"`transformer.h.1.mlp.c_fc.weight` is \[3\] before"),
        scaled(after, weights, dict.fromkeys(all_targets(2), 0.0)),
    ):
        pass
    same_state(kept, state(after))


def test_pairs_that_do_not_fit_are_refused() -> None:
    before = small_model("gpt2")
    apart = small_model("gpt2", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"no weight `lm_head.weight`"):
        targets_of(HookedModel(apart), dict(before.named_parameters()))
    with pytest.raises(UserError, match="are tied in the model after"):
        targets_of(HookedModel(before), weights_in_memory(apart))
    with pytest.raises(UserError, match="merge"):
        targets_of(HookedModel(adapted(small_model("gpt2"))), weights_in_memory(before))
    with pytest.raises(UserError, match="has no adapter"):
        targets_of(HookedModel(before), None)
    with (
        pytest.raises(UserError, match="has no `layer 2 qkv`"),
        scaled(before, weights_in_memory(before), {Target(2, "qkv"): 0.0}),
    ):
        pass
    before.transformer.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"`transformer.extra` .* none of the parts"):
        targets_of(HookedModel(before), weights_in_memory(before))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_an_adapter_is_scaled_as_its_weights_would_be(family: str) -> None:
    """All at 0 is the base exactly; lambdas against the base with B A added by hand."""
    base = scrambled(family).double()
    tuned = adapted(copy.deepcopy(base)).double()
    tuned.train()
    tuned.base_model.model.get_submodule(architecture(base.config).final_norm).eval()
    kept = state(tuned)
    targets = targets_of(HookedModel(tuned), None)
    modules = ("qkv", "attn_out", "mlp_out")
    assert targets == [Target(layer, module) for layer in range(3) for module in modules]
    own = logits(tuned)
    with scaled(tuned, None, dict.fromkeys(targets, 0.0)):
        assert torch.equal(logits(tuned), logits(base))
    with scaled(tuned, None, dict.fromkeys(targets, 1.0)):
        assert torch.equal(logits(tuned), own)
    amounts = {target: 0.3 * number for number, target in enumerate(targets)}
    with torch.no_grad():
        for name, linear in base_model(tuned).named_modules():
            if isinstance(linear, LoraLayer):
                adapter: Any = linear
                a, b = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
                delta = amounts[holder(base, f"{name}.")] * 7 / 3 * (b @ a)
                weight = base.get_parameter(f"{name}.weight")
                weight += delta.T if family == "gpt2" else delta
    with scaled(tuned, None, amounts):
        torch.testing.assert_close(logits(tuned), logits(base), rtol=1e-9, atol=1e-9)
    same_state(kept, state(tuned))


def test_rank_stabilized_and_two_active_adapters_are_scaled_together() -> None:
    base = small_model("gpt2")
    tuned = planted_adapter(base, 1, use_rslora=True)
    tuned.add_adapter("second", LoraConfig(r=1, target_modules=["c_fc"], fan_in_fan_out=True))
    tuned.base_model.set_adapter(["default", "second"])
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B.second" in name:
                parameter.add_(0.3)
    kept = state(tuned)
    targets = targets_of(HookedModel(tuned), None)
    assert targets == [Target(0, "mlp_in"), Target(1, "qkv"), Target(1, "mlp_in")]
    with scaled(tuned, None, {Target(1, "qkv"): 0.5, Target(0, "mlp_in"): 0.0}):
        layer = tuned.base_model.model.transformer.h[1].attn.c_attn
        assert layer.scaling["default"] == pytest.approx(0.5 * 8 / 2**0.5)
    with scaled(tuned, None, dict.fromkeys(targets, 0.0)):
        assert torch.equal(logits(tuned), logits(base))
    same_state(kept, state(tuned))


def test_dora_is_switched_off_or_refused() -> None:
    base = small_model("llama")
    tuned = planted_adapter(base, 1, "attn_out", use_dora=True)
    tuned.train()
    kept = state(tuned)
    targets = targets_of(HookedModel(tuned), None)
    own = logits(tuned)
    with scaled(tuned, None, dict.fromkeys(targets, 0.0)):
        assert torch.equal(logits(tuned), logits(base))
    assert torch.equal(logits(tuned), own)
    same_state(kept, state(tuned))
    message = r"lambda=0.5: the change of layer 0 qkv is by Dora, which can only be on or off"
    with pytest.raises(UserError, match=message):
        scale_deltas(tuned, None, some_items(), TEXT, [0.5], 2)


def test_modules_that_an_adapter_holds_whole_are_mixed() -> None:
    base = small_model("llama")
    options = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["norm", "lm_head"]}
    tuned: Any = get_peft_model(copy.deepcopy(base), LoraConfig(**options)).eval()
    head = tuned.base_model.model.lm_head.modules_to_save["default"].weight
    with torch.no_grad():
        head.add_(0.1)
    kept = state(tuned)
    assert targets_of(HookedModel(tuned), None) == [Target(None, FINAL)]
    with scaled(tuned, None, {Target(None, FINAL): 0.0}):
        assert torch.equal(logits(tuned), logits(base))
    expected = copy.deepcopy(base)
    with torch.no_grad():
        expected.lm_head.weight.add_(0.05)
    with scaled(tuned, None, {Target(None, FINAL): 0.5}):
        torch.testing.assert_close(logits(tuned), logits(expected), rtol=1e-5, atol=1e-5)
    same_state(kept, state(tuned))


def test_adapters_that_can_not_be_taken_off_are_refused() -> None:
    tuned = adapted(small_model("llama"))
    tuned.merge_adapter()
    with pytest.raises(UserError, match="merged or switched off"):
        targets_of(HookedModel(tuned), None)
    tuned.unmerge_adapter()
    with tuned.disable_adapter(), pytest.raises(UserError, match="merged or switched off"):
        targets_of(HookedModel(tuned), None)
    with pytest.raises(UserError, match="bias=lora_only"):
        targets_of(HookedModel(planted_adapter(small_model("gpt2"), 1, bias="lora_only")), None)
