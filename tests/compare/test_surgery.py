"""Scaled changes against weights computed by hand, and arms against plain runs of edited models."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

from sumcirc.compare.changes import EMBEDDING, FINAL, NORMS, Target, all_targets, scaled, targets_of
from sumcirc.compare.items import NOTHING, Item, Items
from sumcirc.compare.surgery import MODULE, ONLY, REMOVE, WHOLE, Arm, arms_of, runs, surgery
from sumcirc.compare.weights import store_weights, weights_in_memory
from sumcirc.errors import UserError
from sumcirc.modeling.anatomy import FAMILIES, anatomy
from sumcirc.modeling.modes import inference
from sumcirc.modeling.parts import Parts, base_model
from sumcirc.schema import MODULES
from tests.compare.planted import planted_adapter, planted_head, planted_linears, planted_mlp
from tests.support.small_models import VOCABULARY, adapted, scrambled, small_model

LENGTHS = (9, 5, 12)
FAMILY_AND_TIES = [*((family, None) for family in FAMILIES), ("gpt2", False), ("llama", True)]


def tokens(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(VOCABULARY, size=length)


def some_items() -> Items:
    found = []
    for number, length in enumerate(LENGTHS):
        ids = tokens(length, number)
        good = np.full(length, NOTHING)
        good[-4:-1] = ids[-3:]
        found.append(Item(str(number), ids, good, np.full(length, NOTHING)))
    return Items(found)


TEXT = [tokens(7, 10), tokens(11, 11)]


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


def state(model: Any) -> dict[str, Any]:
    """All that an edit may leave behind."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "asking": {name: p.requires_grad for name, p in model.named_parameters()},
        "places": [parameter.data_ptr() for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "scaling": [dict(m.scaling) for m in model.modules() if isinstance(m, LoraLayer)],
        "off": [m.disable_adapters for m in model.modules() if hasattr(m, "disable_adapters")],
    }


def same_state(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name, value in first.pop("weights").items():
        assert torch.equal(value, second["weights"][name]), name
    second.pop("weights")
    assert first == second


def ties(tied: bool | None) -> dict[str, bool]:
    return {} if tied is None else {"tie_word_embeddings": tied}


# ---- full pairs


@pytest.mark.parametrize(("family", "tied"), FAMILY_AND_TIES)
def test_all_targets_hold_every_weight(family: str, tied: bool | None) -> None:
    """All at 0 is before exactly, all at 1 after; one target at 0 edits its weights alone."""
    before = scrambled(family, **ties(tied))
    after = changed_everywhere(before)
    kept = state(after)
    weights = weights_in_memory(before)
    targets = targets_of(Parts(after), weights)
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
    names = anatomy(model.config)
    if not name.startswith(f"{names.layers}."):
        ends = (names.final_norm, "lm_head", "embed_out")
        return Target(None, FINAL if name.startswith(ends) else EMBEDDING)
    layer = int(name.removeprefix(f"{names.layers}.").split(".")[0])
    for module in MODULES:
        if name.startswith(tuple(f"{one}." for one in names.linears(layer, module))):
            return Target(layer, module)
    assert "norm" in name or "ln_" in name
    return Target(layer, NORMS)


@pytest.mark.parametrize("family", FAMILIES)
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
    with scaled(after, stored, dict.fromkeys(targets_of(Parts(after), stored), 0.0)):
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
        targets_of(Parts(apart), dict(before.named_parameters()))
    with pytest.raises(UserError, match="are tied in the model after"):
        targets_of(Parts(before), weights_in_memory(apart))
    with pytest.raises(UserError, match="merge"):
        targets_of(Parts(adapted(small_model("gpt2"))), weights_in_memory(before))
    with pytest.raises(UserError, match="has no adapter"):
        targets_of(Parts(before), None)
    with (
        pytest.raises(UserError, match="has no `layer 2 qkv`"),
        scaled(before, weights_in_memory(before), {Target(2, "qkv"): 0.0}),
    ):
        pass
    before.transformer.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"`transformer.extra` .* none of the parts"):
        targets_of(Parts(before), weights_in_memory(before))


# ---- adapter pairs


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_scaled_as_its_weights_would_be(family: str) -> None:
    """All at 0 is the base exactly; lambdas against the base with B A added by hand."""
    base = scrambled(family).double()
    tuned = adapted(copy.deepcopy(base)).double()
    tuned.train()
    tuned.base_model.model.get_submodule(anatomy(base.config).final_norm).eval()
    kept = state(tuned)
    targets = targets_of(Parts(tuned), None)
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
    targets = targets_of(Parts(tuned), None)
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
    targets = targets_of(Parts(tuned), None)
    own = logits(tuned)
    with scaled(tuned, None, dict.fromkeys(targets, 0.0)):
        assert torch.equal(logits(tuned), logits(base))
    assert torch.equal(logits(tuned), own)
    same_state(kept, state(tuned))
    message = r"lambda=0.5: the change of layer 0 qkv is by Dora, which is on or off"
    with pytest.raises(UserError, match=message):
        surgery(tuned, None, some_items(), TEXT, [0.5], 2)


def test_modules_that_an_adapter_holds_whole_are_mixed() -> None:
    base = small_model("llama")
    options = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["norm", "lm_head"]}
    tuned: Any = get_peft_model(copy.deepcopy(base), LoraConfig(**options)).eval()
    head = tuned.base_model.model.lm_head.modules_to_save["default"].weight
    with torch.no_grad():
        head.add_(0.1)
    kept = state(tuned)
    assert targets_of(Parts(tuned), None) == [Target(None, FINAL)]
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
        targets_of(Parts(tuned), None)
    tuned.unmerge_adapter()
    with tuned.disable_adapter(), pytest.raises(UserError, match="merged or switched off"):
        targets_of(Parts(tuned), None)
    with pytest.raises(UserError, match="bias=lora_only"):
        targets_of(Parts(planted_adapter(small_model("gpt2"), 1, bias="lora_only")), None)


# ---- arms


def test_arms_name_every_layer_and_what_changed_elsewhere() -> None:
    targets = [Target(None, EMBEDDING), Target(1, "qkv"), Target(1, NORMS)]
    arms = arms_of(2, targets, [0.5, 1])
    assert Counter(arm.kind for arm in arms) == {WHOLE: 3, REMOVE: 9, MODULE: 2, ONLY: 3}
    assert [arm for arm in arms if arm.kind == ONLY] == [
        Arm(ONLY, None, EMBEDDING, 1.0),
        Arm(ONLY, 0, None, 1.0),
        Arm(ONLY, 1, None, 1.0),
    ]
    assert Arm(REMOVE, 1, None, 0.5).amounts(targets) == {targets[1]: 0.5, targets[2]: 0.5}
    assert Arm(MODULE, 1, NORMS, 0.0).amounts(targets) == {targets[2]: 0.0}
    assert Arm(ONLY, 1, None, 1.0).amounts(targets) == {targets[0]: 0.0}
    assert Arm(REMOVE, 0, None, 0.5).amounts(targets) == {}
    # before, after, whole .5; embedding and layer 1 at 0 (`only` of the other) and .5; its modules
    assert runs(arms, targets) == 3 + 4 + 2
    with pytest.raises(UserError, match="finite"):
        arms_of(2, targets, [float("nan")])


def naive(model: Any, items: Items) -> tuple[list[float], list[float]]:
    """Metric of the items and losses of the texts, one at a time by the model's own logits."""
    metric, losses = [], []
    with torch.no_grad():
        for item in items.items:
            rows = model(torch.from_numpy(item.ids)[None]).logits[0].log_softmax(-1)
            places = np.flatnonzero(item.good != NOTHING)
            metric.append(float(np.mean([rows[p, item.good[p]].item() for p in places])))
        for ids in TEXT:
            found = torch.from_numpy(ids)
            rows = model(found[None]).logits[0].log_softmax(-1)
            losses.append(-rows[:-1].gather(1, found[1:, None]).mean().item())
    return metric, losses


@pytest.mark.parametrize(
    ("family", "lora"), [*((family, False) for family in FAMILIES), ("gpt2", True), ("qwen3", True)]
)
def test_arms_are_plain_runs_of_edited_models(family: str, lora: bool) -> None:
    base = scrambled(family).double()
    after = adapted(copy.deepcopy(base)).double() if lora else changed_everywhere(base)
    before = None if lora else weights_in_memory(base)
    kept = state(after)
    items, done = some_items(), []
    found = surgery(after, before, items, TEXT, [0.5], 2, done.append)
    same_state(kept, state(after))
    assert len(done) == runs(found.arms, found.targets)
    assert found.metric.shape == (len(found.arms), 3)
    assert found.losses.shape == (len(found.arms), 2)
    modules = {(target.layer, target.module) for target in found.targets}
    tried = [
        (found.before, naive(base, items)),
        (found.after, naive(after, items)),
    ]
    for arm, off in [
        (Arm(REMOVE, 1, None, 0.5), {Target(1, module): 0.5 for _, module in modules}),
        (Arm(MODULE, 2, "qkv", 0.0), {Target(2, "qkv"): 0.0}),
        (Arm(ONLY, 0, None, 1.0), {t: 0.0 for t in found.targets if t.layer != 0}),
    ]:
        off = {target: amount for target, amount in off.items() if target in found.targets}
        with scaled(after, before, off):
            tried.append((found.arms.index(arm), naive(after, items)))
    for place, (metric, losses) in tried:
        np.testing.assert_allclose(found.metric[place], metric, rtol=1e-9)
        np.testing.assert_allclose(found.losses[place], losses, rtol=1e-9)
    assert len({tuple(metric) for _, (metric, _) in tried}) == 5


@pytest.mark.parametrize(
    ("plant", "modules"),
    [
        (lambda base: planted_adapter(base, 1, "mlp_in"), ["mlp_in"]),
        (lambda base: planted_head(base, 1, 0, "value"), ["qkv"]),
        (lambda base: planted_linears(base, 1, "attn_out"), ["attn_out"]),
        (lambda base: planted_mlp(base, 1), ["mlp_in", "mlp_out"]),
    ],
    ids=["adapter", "head", "linear", "mlp"],
)
def test_the_layer_that_was_changed_is_found(
    plant: Callable[[Any], Any], modules: list[str]
) -> None:
    base = scrambled("qwen2").double()
    after = plant(base)
    before = None if isinstance(after, PeftModel) else weights_in_memory(base)
    found = surgery(after, before, some_items(), TEXT, [0.5, 1.5], 3)
    assert found.targets == [Target(1, module) for module in modules]
    for values in (found.metric, found.losses):
        old, new = values[found.before], values[found.after]
        assert np.abs(new - old).min() > 1e-5
        for arm, value in zip(found.arms, values, strict=True):
            if arm.layer is None:
                continue
            here = arm.layer == 1
            if arm.kind == REMOVE and here:
                assert np.array_equal(
                    value, values[found.arms.index(Arm(WHOLE, None, None, arm.amount))]
                )
            elif arm.kind == MODULE and len(modules) == 1:
                assert np.array_equal(value, old)
            elif arm.kind == REMOVE or (arm.kind == ONLY and here):
                assert np.array_equal(value, new)
            elif arm.kind == ONLY:
                assert np.array_equal(value, old)


def test_a_model_beside_itself_has_nothing_to_scale() -> None:
    model = small_model("gpt2")
    done: list[int] = []
    found = surgery(model, weights_in_memory(model), some_items(), [], [0.5], 2, done.append)
    assert found.targets == []
    assert done == [1]
    assert (found.metric == found.metric[0]).all()
    assert found.losses.shape == (len(found.arms), 0)


@pytest.mark.parametrize("length", [1, 129])
def test_texts_of_no_use_are_refused(length: int) -> None:
    model, text = small_model("gpt2"), [TEXT[0], tokens(length, 0)]
    with pytest.raises(UserError, match=f"plain text 1 has {length} tokens; give 2 to 128"):
        surgery(model, weights_in_memory(model), some_items(), text, [1], 2)
