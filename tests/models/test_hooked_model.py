"""The parts of every family add up to what the model computes, with and without adapters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.utils.parametrize import register_parametrization

from sumcirc.models.activations.activation_cache import ActivationCache, HookPoint
from sumcirc.models.activations.effective_weights import effective_weight, input_width
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES, shape
from sumcirc.models.unwrapping import base_model
from tests.support.small_models import VOCABULARY, adapted, columns, linears, scrambled, small_model

TOKENS = torch.arange(2 * 11).reshape(2, 11) * 17 % VOCABULARY


def tapped(model: Any) -> tuple[ActivationCache, list[Tensor]]:
    """Activations of one run, and its attention matrices."""
    hooked = HookedModel(model)
    points = (HookPoint.RESIDUAL, HookPoint.ATTENTION_NORM, HookPoint.MLP_OUTPUT)
    with hooked.caching(hooked.every(*points, *hooked.head_points)) as cache, torch.no_grad():
        output = model(TOKENS, output_attentions=True)
    return cache, output.attentions


FORMS = [*ARCHITECTURES, "gpt_neox sequential", "gpt2 + lora", "qwen3 + lora", "gpt_neox + lora"]


def model_of(form: str) -> Any:
    family, *rest = form.split(" ", 1)
    changes = {"use_parallel_residual": False} if rest == ["sequential"] else {}
    model = scrambled(family, **changes, attn_implementation="eager")
    return adapted(model) if rest == ["+ lora"] else model


@pytest.mark.parametrize("form", FORMS)
def test_sources_add_up_to_the_last_residual_stream(form: str) -> None:
    """Embedding + every head + biases of output projections + MLPs, to 1e-5 of its size."""
    model = model_of(form)
    hooked, (found, _) = HookedModel(model), tapped(model)
    total, final = (found[HookPoint.RESIDUAL, layer].clone() for layer in (0, hooked.shape.layers))
    for layer in range(hooked.shape.layers):
        output = hooked.attention_output(layer)
        z = hooked.scaled_heads(found, layer)
        z = z.unflatten(-1, (hooked.shape.heads, hooked.shape.head_width))
        heads = torch.einsum("bthw,hwd->bhtd", z, output.weight)
        assert heads.shape[1] == hooked.shape.heads
        total += heads.sum(1) + output.bias + found[HookPoint.MLP_OUTPUT, layer]
    scale = final.abs().max()
    torch.testing.assert_close(total / scale, final / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_each_head_is_its_pattern_on_its_values(form: str) -> None:
    """The value weights belong to the head (and group) that the architecture has."""
    model = model_of(form)
    hooked, (found, patterns) = HookedModel(model), tapped(model)
    for layer in range(hooked.shape.layers):
        _, _, value = columns(hooked, layer)
        assert value.weight.shape[0] == hooked.shape.key_value_heads
        normed = found[HookPoint.ATTENTION_NORM, layer]
        values = torch.einsum("btd,hdw->bhtw", normed, value.weight)
        values = (values + value.bias[None, :, None]).repeat_interleave(hooked.shape.group, 1)
        z = patterns[layer] @ values
        expected = found[HookPoint.HEAD_OUTPUTS, layer]
        expected = expected.unflatten(-1, (hooked.shape.heads, -1)).transpose(1, 2)
        torch.testing.assert_close(z, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_queries_and_keys_are_those_of_the_linears(family: str) -> None:
    """By name: a mixed-up order of query and key would pass where only values are looked at."""
    hooked = HookedModel(scrambled(family, attn_implementation="eager"))
    x = torch.randn(1, 5, hooked.shape.width)
    query, key, _ = columns(hooked, 1)
    if family == "llama":
        expected = [linear(x) for linear in hooked.blocks[1].qkv[:2]]
    elif family == "gpt2":
        expected = list(hooked.blocks[1].qkv[0](x).split(hooked.shape.width, -1)[:2])
    else:
        by_head = hooked.blocks[1].qkv[0](x).unflatten(-1, (hooked.shape.heads, 3, -1))
        expected = [by_head[..., 0, :].flatten(-2), by_head[..., 1, :].flatten(-2)]
    for weights, wanted in zip((query, key), expected, strict=True):
        made = torch.einsum("btd,hdw->bthw", x, weights.weight) + weights.bias
        torch.testing.assert_close(made.flatten(-2), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_effective_weights_are_the_merged_ones(family: str) -> None:
    model = adapted(scrambled(family, attn_implementation="eager"))
    hooked = HookedModel(model)
    before = [effective_weight(linear) for linear in linears(hooked)]
    plain = [linear.base_layer.weight.clone() for linear in linears(hooked)]
    merged = linears(HookedModel(model.merge_and_unload()))
    for (weight, _), linear, old in zip(before, merged, plain, strict=True):
        expected = linear.weight if hasattr(linear, "nx") else linear.weight.T
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=0)
        assert (linear.weight - old).abs().max() > 0.01  # the adapter matters


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_effective_weights_of_plain_linears_are_copies_of_what_they_compute(family: str) -> None:
    for linear in linears(HookedModel(scrambled(family))):
        weight, bias = effective_weight(linear)
        kept = weight.clone()
        with torch.no_grad():
            computed = linear(torch.eye(len(weight)))
            torch.testing.assert_close(weight + bias, computed, atol=1e-6, rtol=0)
            linear.weight.mul_(2)
        assert torch.equal(weight, kept), "training on must not change what was read"
        assert weight.is_contiguous()
        assert not weight.requires_grad
        assert not bias.requires_grad


def test_effective_weight_is_of_what_a_changed_linear_computes() -> None:
    """A hook, a replaced method and a parametrization each double the weight."""
    hooked, patched, parametrized = (torch.nn.Linear(3, 2, bias=False) for _ in range(3))
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    patched.forward = lambda x: 2 * torch.nn.functional.linear(x, patched.weight)
    plain = [linear.weight.detach().T.clone() for linear in (hooked, patched, parametrized)]
    register_parametrization(parametrized, "weight", Doubled())
    for linear, weight in zip((hooked, patched, parametrized), plain, strict=True):
        torch.testing.assert_close(effective_weight(linear)[0], 2 * weight)


class Doubled(torch.nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_effective_weight_leaves_modes_alone_and_switches_dropout_off() -> None:
    model = small_model("gpt2")
    adapter = LoraConfig(r=2, lora_dropout=0.5, target_modules=["c_fc"], fan_in_fan_out=True)
    linear = get_peft_model(model, adapter).base_model.model.transformer.h[0].mlp.c_fc
    linear.train()
    linear.lora_dropout.eval()
    modes = {name: module.training for name, module in linear.named_modules()}
    with torch.no_grad():
        linear.lora_B["default"].weight.fill_(1.0)
    first, second = effective_weight(linear), effective_weight(linear)
    assert torch.equal(first[0], second[0])
    assert {name: module.training for name, module in linear.named_modules()} == modes
    assert not first[0].requires_grad


def test_input_width_of_both_kinds() -> None:
    gpt2, llama = HookedModel(small_model("gpt2")), HookedModel(small_model("llama"))
    assert input_width(gpt2.blocks[0].mlp_out) == gpt2.shape.neurons == 128
    assert input_width(llama.blocks[0].mlp_out) == llama.shape.neurons == 48


def test_shape_of_grouped_queries() -> None:
    found = shape(small_model("llama").config)
    assert (found.heads, found.key_value_heads, found.group, found.head_width) == (4, 2, 2, 8)
    assert shape(small_model("gpt_neox").config).parallel
    assert not shape(small_model("gpt2").config).parallel


def test_base_model_is_found_under_an_adapter() -> None:
    model = small_model("gpt2")
    assert base_model(model) is model
    assert base_model(adapted(model)) is model
