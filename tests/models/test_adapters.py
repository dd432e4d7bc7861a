"""Where adapters go, how large they are, and that every one of them learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config

from sumcirc.data.batches import TrainingBatch
from sumcirc.errors import UserError
from sumcirc.models.adapters import (
    adapt,
    checkpoint_activations,
    resolve_targets,
    trainable_parameters,
)
from sumcirc.models.architectures import ARCHITECTURES, architecture
from sumcirc.schema import MODULES, Adaptation, AdaptationConfig
from sumcirc.training.module import summary_loss
from tests.data.test_batches import pair
from tests.support.small_models import small_config, small_model

GPT2_SMALL = GPT2Config()


def lora(**changes: Any) -> AdaptationConfig:
    if "budget" not in changes:
        changes = {"rank": 4, **changes}
    return AdaptationConfig(kind=Adaptation.lora, **changes)


def lively(model: Any, seed: int = 1) -> Any:
    """Adapters that do something: B starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.mark.parametrize(
    ("rank", "layers", "parameters", "percent"),
    [
        (16, "all", 2_359_296, "1.861"),
        (16, [2, 3, 5], 589_824, "0.472"),
        (64, [0, 2, 4, 6, 8], 3_932_160, "3.063"),
    ],
)
def test_share_on_the_shape_of_gpt2_small(
    rank: int, layers: Any, parameters: int, percent: str
) -> None:
    targets = resolve_targets(lora(rank=rank, layers=layers), GPT2_SMALL)
    assert targets.total == 124_439_808
    assert targets.parameters == parameters
    assert f"{100 * targets.share:.3f}" == percent


def test_nothing_is_allocated_to_resolve_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    from sumcirc.models import adapters as adaptation

    made = []
    original = adaptation.skeleton
    monkeypatch.setattr(
        adaptation, "skeleton", lambda config: made.append(original(config)) or made[-1]
    )
    resolve_targets(lora(), GPT2_SMALL)
    assert {p.device.type for p in made[0].parameters()} == {"meta"}


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize(
    ("layers", "modules"),
    [("all", list(MODULES)), ([1, 11], ["mlp_out"]), ([3], ["qkv", "attn_out"])],
)
def test_exactly_the_wanted_linears_are_adapted(
    family: str, layers: Any, modules: list[str]
) -> None:
    # 12 layers: layer 1 must not stand for 11 too
    model = small_model(family, layers=12)
    named = architecture(model.config)
    wanted = {
        name
        for layer in (range(12) if layers == "all" else layers)
        for module in modules
        for name in named.linears(layer, module)
    }
    config = lora(layers=layers, modules=modules)
    total = sum(p.numel() for p in model.parameters())
    targets = resolve_targets(config, model.config)
    adapted = adapt(model, config)
    found = {
        name.removeprefix("base_model.model.").split(".lora_")[0]
        for name, p in adapted.named_parameters()
        if p.requires_grad
    }
    assert found == wanted == set(targets.names)
    assert trainable_parameters(adapted) == targets.parameters
    assert targets.total == total
    trainable, everything = adapted.get_nb_trainable_parameters()  # type: ignore[operator]
    assert targets.share == pytest.approx(trainable / everything)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_every_adapter_gets_a_gradient_from_every_batch(family: str, checkpointed: bool) -> None:
    without_dropout = {"gpt2": {"embd_pdrop": 0, "resid_pdrop": 0, "attn_pdrop": 0}}
    model = small_model(family, **without_dropout.get(family, {}))
    adapted = lively(adapt(model, lora())).train()
    if checkpointed:
        checkpoint_activations(adapted)
    base = adapted.get_base_model()
    batch = TrainingBatch.of([pair(0, 30), pair(1, 20)])
    batch.input_ids %= 400
    batch.labels %= 400
    losses = []
    for _ in range(2):  # as when accumulating
        loss = summary_loss(base.base_model, base.get_output_embeddings(), batch)
        loss.backward()
        losses.append({n: p.grad.norm().item() for n, p in trained(adapted).items()})
    assert min(losses[0].values()) > 0
    for name, norm in losses[1].items():
        assert norm == pytest.approx(2 * losses[0][name], rel=1e-3)
    assert all(p.grad is None for p in adapted.parameters() if not p.requires_grad)


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_gradient_checkpointing_changes_no_gradient() -> None:
    batch = TrainingBatch.of([pair(0, 30), pair(1, 20)])
    batch.input_ids %= 400
    batch.labels %= 400
    found, calls = [], []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        adapted = lively(adapt(small_model("gpt2"), lora())).train()
        if checkpointed:
            checkpoint_activations(adapted)
        base = adapted.get_base_model()
        count: list[None] = []
        base.transformer.h[0].attn.register_forward_hook(lambda *_, seen=count: seen.append(None))
        calls.append(count)
        torch.manual_seed(1)  # the same dropout
        summary_loss(base.base_model, base.get_output_embeddings(), batch).backward()
        found.append({name: p.grad.clone() for name, p in trained(adapted).items()})
    assert [len(count) for count in calls] == [1, 2]  # computed again in the backward pass
    for name in found[0]:
        assert torch.allclose(found[0][name], found[1][name], atol=1e-7)


SHARES = [
    *([2, 3, 5], [9, 10, 11], [0], [0, 2, 4, 6, 8], list(range(7)), "all"),
]


@pytest.mark.parametrize("layers", SHARES, ids=str)
@pytest.mark.parametrize("modules", [list(MODULES), ["mlp_out"], ["qkv", "attn_out"]], ids=str)
@pytest.mark.parametrize("budget", [147_456, 294_912, 300_000, 589_824])
def test_budget_is_used_and_never_exceeded(layers: Any, modules: list[str], budget: int) -> None:
    targets = resolve_targets(lora(budget=budget, layers=layers, modules=modules), GPT2_SMALL)
    assert 0.97 * budget <= targets.parameters <= budget
    assert set(targets.ranks.values()) <= {targets.rank, targets.rank + 1}


def test_arms_of_a_budget_have_equally_many_parameters() -> None:
    layers = ([2, 3, 5], [9, 10, 11], [0], [0, 2, 4, 6, 8], list(range(12)))
    found = [resolve_targets(lora(budget=294_912, layers=one), GPT2_SMALL) for one in layers]
    assert {targets.parameters for targets in found} == {294_912}


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("rslora", [False, True])
def test_a_budget_makes_that_many_parameters_trainable(family: str, rslora: bool) -> None:
    config = lora(budget=20_001, layers=[0, 1], rslora=rslora)
    adapted: Any = adapt(small_model(family), config)
    targets = resolve_targets(config, adapted.base_model.config)
    assert targets.raised
    assert trainable_parameters(adapted) == targets.parameters <= 20_001
    shapes = {
        name.removeprefix("base_model.model.").split(".lora_")[0]: parameter.shape[0]
        for name, parameter in adapted.named_parameters()
        if "lora_A" in name
    }
    assert shapes == targets.ranks
    scales = {
        targets.ranks[name.removeprefix("base_model.model.")]: module.scaling["default"]
        for name, module in adapted.named_modules()
        if hasattr(module, "lora_A")
    }
    for rank, scale in scales.items():
        assert scale == pytest.approx(8 / rank**0.5 if rslora else 2)


def test_chosen_targets_are_adapted_and_the_first_are_raised_first() -> None:
    chosen = [(7, "mlp_out"), (2, "qkv"), (5, "mlp_out")]
    config = lora(budget=3840 * 2 * 3 + 3072 + 3840, layers="auto")
    targets = resolve_targets(config, GPT2_SMALL, chosen)
    assert targets.layers == (2, 5, 7)
    # 10,752 parameters a rank: rank 2 leaves 8,448, so two of the three can be raised
    assert targets.raised == {"transformer.h.7.mlp.c_proj": 3, "transformer.h.5.mlp.c_proj": 3}


def test_automatic_layers_need_someone_who_chooses() -> None:
    with pytest.raises(UserError, match=r"adaptation\.layers=auto: .* selector=NAME"):
        resolve_targets(lora(layers="auto"), GPT2_SMALL)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"layers": [1, 12]},
            r"adaptation\.layers=\[1, 12\]: layer 12 is out of range; the model has 12 layers",
        ),
        (
            {"budget": 147_455},
            r"adaptation\.budget=147455: rank 1 on these 48 linears takes 147456 parameters",
        ),
    ],
)
def test_refusals(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        resolve_targets(lora(**config), GPT2_SMALL)
    assert "\n" not in str(refused.value)


def test_alpha_is_twice_the_rank_unless_given_and_rslora_divides_by_the_root() -> None:
    def scaling(**changes: Any) -> float:
        adapted: Any = adapt(small_model("gpt2"), lora(rank=16, **changes))
        return adapted.get_base_model().transformer.h[0].mlp.c_fc.scaling["default"]

    assert scaling() == 2
    assert scaling(alpha=8.0) == 0.5
    assert scaling(alpha=8.0, rslora=True) == 2


def test_full_adaptation_trains_every_parameter() -> None:
    model = small_model("gpt2")
    model.requires_grad_(False)
    adapt(model, AdaptationConfig(kind=Adaptation.full))
    assert trainable_parameters(model) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_disabled_adapters_give_the_base_bit_for_bit(family: str) -> None:
    model = small_model(family)
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        before = model(ids).logits
        adapted: Any = lively(adapt(model, lora()))
        adapted.eval()
        changed = adapted(ids).logits
        with adapted.disable_adapter():
            disabled = adapted(ids).logits
    assert (changed - before).abs().max() > 1e-3
    assert torch.equal(disabled, before)


def test_names_of_a_budgeted_sweep_are_comparable() -> None:
    found = [
        resolve_targets(lora(budget=589_824, layers=layers), GPT2_SMALL)
        for layers in ([2, 3, 5], [9, 10, 11], [5, 10, 11])
    ]
    assert {targets.parameters for targets in found} == {589_824}
    assert {targets.rank for targets in found} == {16}


def test_small_models_really_share_key_value_heads() -> None:
    assert small_config("qwen3").num_key_value_heads == 2
