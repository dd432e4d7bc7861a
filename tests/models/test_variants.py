"""Sizes of the adapter variants, their names of modules and fields, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GPT2Config

from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt, lora_config, resolve_targets, trainable_parameters
from sumcirc.schema import Adaptation, AdaptationConfig, Variant
from tests.support.small_models import WIDTH, small_config, small_model

FAMILIES = ("gpt2", "llama")
OUT = {"gpt2": (3 * WIDTH, WIDTH, 4 * WIDTH, WIDTH), "llama": (32, 16, 16, 32, 48, 48, 32)}
IN = {"gpt2": (WIDTH, WIDTH, WIDTH, 4 * WIDTH), "llama": (32, 32, 32, 32, 32, 32, 48)}


def config_of(variant: str = "lora", **changes: Any) -> AdaptationConfig:
    if not changes.keys() & {"rank", "budget"} and variant != "ia3":
        changes = {"rank": 4, **changes}
    return AdaptationConfig(kind=Adaptation.lora, variant=Variant(variant), layers=[1], **changes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [1, 5])
def test_what_counts_as_a_parameter(family: str, rank: int) -> None:
    """The sizes in docs/howto/adapters.md, here written out once more."""
    ins, outs, linears = sum(IN[family]), sum(OUT[family]), len(IN[family])
    expected = {
        **dict.fromkeys(("lora", "rslora", "pissa", "eva", "loraga"), rank * (ins + outs)),
        "dora": rank * (ins + outs) + outs,
        "adalora": rank * (ins + outs + linears),
        "vera": rank * linears + outs,
        # inputs of the MLPs' output projections, else outputs
        "ia3": sum(OUT[family][:-1]) + IN[family][-1],
    }
    for variant, parameters in expected.items():
        size = {} if variant == "ia3" else {"rank": rank}
        config = config_of(variant, **size)
        targets = resolve_targets(config, small_config(family))
        assert targets.parameters == parameters, variant
        if variant not in ("eva", "loraga"):  # these start from data: tests/training
            adapted = adapt(small_model(family), config)
            assert trainable_parameters(adapted) == parameters


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", ["rslora", "dora", "pissa", "adalora", "vera"])
def test_a_budget_is_used_and_never_exceeded(family: str, variant: str) -> None:
    config = config_of(variant, budget=3001, **({"rslora": False} if variant == "pissa" else {}))
    targets = resolve_targets(config, small_config(family))
    one = len(IN[family]) if variant == "vera" else sum(IN[family]) + sum(OUT[family]) + 9
    assert 3001 - one < targets.parameters <= 3001
    assert trainable_parameters(adapt(small_model(family), config)) == targets.parameters
    # VeRA and AdaLoRA have one rank for all linears
    assert not (variant in ("adalora", "vera") and targets.raised)


def test_a_budget_counts_what_no_rank_can_lower() -> None:
    with pytest.raises(UserError, match=r"budget=500: rank 1 on these 4 linears takes 800 "):
        resolve_targets(config_of("dora", budget=500), small_config("gpt2"))


def test_fields_of_peft_count_too() -> None:
    config = config_of(peft={"use_dora": True, "init_lora_weights": "gaussian"})
    assert (
        resolve_targets(config, small_config("gpt2")).parameters
        == resolve_targets(config_of("dora"), small_config("gpt2")).parameters
    )
    made = lora_config(config, resolve_targets(config, small_config("gpt2")))
    assert (made.use_dora, made.init_lora_weights) == (True, "gaussian")
    plain = resolve_targets(config_of(), small_config("gpt2")).parameters
    saved = config_of(peft={"modules_to_save": ["ln_f"]})
    assert resolve_targets(saved, small_config("gpt2")).parameters == plain + 2 * WIDTH


@pytest.mark.parametrize(
    ("family", "modules", "names"),
    [
        ("gpt2", ["c_attn"], ["attn.c_attn"]),
        ("gpt2", ["c_proj"], ["attn.c_proj", "mlp.c_proj"]),
        ("gpt2", ["mlp.c_proj", "qkv"], ["mlp.c_proj", "attn.c_attn"]),
        ("llama", ["q_proj", "v_proj"], ["self_attn.q_proj", "self_attn.v_proj"]),
        ("llama", ["gate_proj"], ["mlp.gate_proj"]),
        ("gpt2", ["all-linear"], ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    ],
)
def test_names_of_modules_as_in_peft(family: str, modules: list[str], names: list[str]) -> None:
    found = resolve_targets(config_of(modules=modules), small_config(family)).names
    assert [name.split(".1.")[1] for name in found] == names


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("gpt2", {"modules": ["q_proj"]}, r"adaptation\.modules=q_proj: unknown; .*c_attn"),
        ("llama", {"modules": ["qkv", "q_proj"]}, r"adaptation\.modules=.*named twice"),
        ("gpt2", {"variant": "olora"}, r"adaptation=olora: PEFT's olora takes Conv1D's .*pissa"),
        ("gpt2", {"peft": {"init_lora_weights": "olora"}}, r"adaptation\.peft=.*Conv1D"),
        ("gpt2", {"peft": {"r": 8}}, r"adaptation\.peft=\{r: 8\}: is set by adaptation\.rank"),
        ("gpt2", {"peft": {"target_modules": "x"}}, r"is set by adaptation\.modules"),
        ("gpt2", {"peft": {"use_dorra": True}}, r"no such field; did you mean use_dora"),
        ("gpt2", {"peft": {"init_lora_weights": "corda"}}, r"corda needs PEFT's preprocess_corda"),
        ("gpt2", {"peft": {"init_lora_weights": "loftq"}}, r"adaptation\.peft=.*(loftq|LoftQ)"),
        ("gpt2", {"peft": {"init_lora_weights": False}}, r"starts with an adapter that changes"),
        ("gpt2", {"peft": {"init_lora_weights": "pissa_niter_4"}}, r"at random"),
        ("gpt2", {"peft": {"init_lora_weights": "nonsense"}}, r"peft=.*refused by PEFT"),
        ("gpt2", {"peft": {"bias": "all"}}, r"bias=all trains biases of the base"),
        ("gpt2", {"peft": {"alora_invocation_tokens": [1]}}, r"aLoRA"),
        ("llama", {"peft": {"layer_replication": [[0, 2]]}}, r"layer_replication"),
        ("gpt2", {"variant": "pissa", "peft": {"use_dora": True}}, r"use_dora can't be combined"),
        ("gpt2", {"variant": "pissa", "rank": 33}, r"adaptation\.rank=33: .*enough for rank 32"),
        ("gpt2", {"variant": "loraga", "rank": 17}, r"adaptation\.rank=17: .*enough for rank 16"),
        (
            "gpt2",
            {"variant": "eva", "budget": 9999, "peft": {"eva_config": {"rho": 2}}},
            r"rho: 2\}\}: moves ranks .*give adaptation\.rank",
        ),
        ("gpt2", {"variant": "vera", "peft": {"use_dora": True}}, r"VeraConfig has no such field"),
    ],
)  # fmt: skip
def test_refusals_before_weights_are_read(
    family: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        resolve_targets(config_of(**config), small_config(family))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("variant", ["adalora", "vera", "ia3"])
def test_a_variant_without_a_lora_config_is_refused_where_one_is_written(variant: str) -> None:
    config = config_of(variant)
    targets = resolve_targets(config, GPT2Config())
    with pytest.raises(UserError, match=f"adaptation={variant}: PEFT has no LoraConfig"):
        lora_config(config, targets)
