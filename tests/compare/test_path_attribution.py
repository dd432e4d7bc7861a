"""Path scores against dense weights and finite differences along lambda, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sumcirc.compare.path.path_attribution import NoGainError, PathAttribution, attribute_path
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import Grain, PathOptions
from tests.compare.edited import (
    base_of,
    changed_everywhere,
    logits,
    same_state,
    some_items,
    state,
    weights_in_memory,
    with_adapter,
    with_gradients,
)
from tests.compare.naive_path import (
    in_layer,
    low_rank_change,
    metric,
    naive_scores,
    named,
    nowhere_else,
    of_biases,
    of_direction,
    of_head,
    of_neurons,
    of_norms,
    whole_change,
)
from tests.support.small_models import small_model

FAMILIES = ("gpt2", "llama", "gpt_neox", "mistral", "qwen2", "qwen3", "phi3")
OPTIONS = PathOptions(neuron_groups=3, directions=2, effects=None)
# the linear of queries, whose singular directions are looked at, and the output projection
LINEAR = {
    "gpt2": "attn.c_attn",
    "gpt_neox": "attention.query_key_value",
    "phi3": "self_attn.qkv_proj",
}
OUTPUT = {"gpt2": "attn.c_proj", "gpt_neox": "attention.dense"}
BLOCKS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}


def check(
    found: PathAttribution, base: Any, change: Any, units: dict[str, Any], error: float
) -> None:
    """Every unit against the naive score, and the sums against the gain; `error` of quadrature."""
    scale = float(np.abs(found.gain).max())
    for label, select in units.items():
        expected = naive_scores(base, change, some_items(), select)
        assert np.abs(expected).max() > 1e-4 * scale, label
        np.testing.assert_allclose(
            found.score(label), expected, atol=max(1e-6, error) * scale, err_msg=label
        )
    for grain, values in found.scores.items():
        np.testing.assert_allclose(
            values.sum(0), found.gain, atol=error * scale, err_msg=str(grain)
        )
    moved = max(np.abs(values).max() for values in found.moved.values())
    assert moved / abs(found.gain.mean()) == pytest.approx(found.integral.errors.unit)


def head_units(family: str, hooked: HookedModel) -> dict[str, Any]:
    """One head with its name, and its group's keys and values where these are shared."""
    found = {"head.1.2": of_head(family, 1, 2, hooked.shape.group > 1)}
    if hooked.shape.group > 1:

        def shared(name: str, delta: torch.Tensor) -> Any:
            mask = torch.zeros_like(delta)
            if named(family, 1, "qkv_proj.weight")(name, delta):  # 32 rows of queries, 16 of keys
                mask[40:48] = mask[56:] = 1.0
            elif named(family, 1, "k_proj.weight", "v_proj.weight")(name, delta):
                mask[8:] = 1.0
            return mask

        found["key_value.1.1 (heads 2-3)"] = shared
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_weights(family: str) -> None:
    base = base_of(family)
    after = changed_everywhere(base, 0.02)
    found = attribute_path(after, weights_in_memory(base), some_items(), OPTIONS)
    change = whole_change(base, after)
    hooked = HookedModel(after)
    neurons = hooked.shape.neurons
    middle = range(-(-neurons // 3), -(-2 * neurons // 3))
    matrix = f"{BLOCKS.get(family, 'model.layers')}.0.{LINEAR.get(family, 'self_attn.q_proj')}"
    delta = change[f"{matrix}.weight"]
    name = f"layer 0 {LINEAR.get(family, 'self_attn.q_proj')} direction 0"
    units = {
        "layer 1": in_layer(family, 1),
        "layer 0 norms": of_norms(family, 0),
        **head_units(family, hooked),
        f"neurons.0.1 ({middle[0]}-{middle[-1]})": of_neurons(family, 0, middle),
        name: of_direction(f"{matrix}.weight", delta, 0),
        "embedding": nowhere_else(("transformer.w", "gpt_neox.embed_in", "model.embed"), family),
    }
    if family in ("gpt2", "gpt_neox", "qwen2"):
        units["layer 1 biases"] = of_biases(family, 1)
    check(found, base, change, units, 1e-8)
    assert found.converged
    np.testing.assert_allclose(found.before, metric(base, some_items()), rtol=1e-9)
    np.testing.assert_allclose(found.after, metric(after, some_items()), rtol=1e-9)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters(family: str, dora: bool) -> None:
    """LoRA from its factors, DoRA from the map that its module computes."""
    base = base_of(family)
    tuned = with_adapter(base, dora)
    found = attribute_path(tuned, None, some_items(), OPTIONS)
    change = low_rank_change(base, tuned)
    hooked = HookedModel(tuned)
    own = OUTPUT.get(family, "self_attn.o_proj")
    matrix = f"{BLOCKS.get(family, 'model.layers')}.0.{own}.weight"
    units = {
        "layer 1 qkv": named(family, 1, "c_attn", "query_key", "q_proj", "k_proj", "v_proj", "qkv"),
        **head_units(family, hooked),
        f"layer 0 {own} direction 1": of_direction(matrix, change[matrix], 1),
    }
    first = range(-(-hooked.shape.neurons // 3))
    units[f"neurons.0.0 (0-{len(first) - 1})"] = of_neurons(family, 0, first)
    check(found, base, change, units, 5e-5)
    assert found.converged
    assert not any(
        unit.part in ("norms", "biases", "embedding") for unit in found.units[Grain.module]
    )


def test_two_adapters_share_units_but_not_directions() -> None:
    """Both are scaled together; the product of each has singular directions of its own."""
    base = base_of("gpt2")
    tuned: Any = get_peft_model(copy.deepcopy(base), two_directions(3))
    tuned.add_adapter("other", two_directions(2))
    tuned.base_model.set_adapter(["default", "other"])
    generator = torch.Generator().manual_seed(6)
    tuned = tuned.double().eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.1 * noise)
    found = attribute_path(tuned, None, some_items(), OPTIONS)
    merged = copy.deepcopy(tuned).merge_and_unload()
    change = {one: delta for one, delta in whole_change(base, merged).items() if delta.any()}
    check(found, base, change, {"layer 0": in_layer("gpt2", 0)}, 1e-5)
    linear = tuned.base_model.model.transformer.h[0].attn.c_proj
    for adapter in ("default", "other"):
        own = {"transformer.h.0.attn.c_proj.weight": linear.get_delta_weight(adapter).detach()}
        (matrix, delta), *_ = own.items()
        mask = of_direction(matrix, delta, 1)
        expected = naive_scores(base, change, some_items(), scaled_to(mask, delta, change[matrix]))
        scale = np.abs(found.gain).max()
        label = f"layer 0 attn.c_proj ({adapter}) direction 1"
        np.testing.assert_allclose(found.score(label), expected, atol=1e-5 * scale)


def two_directions(rank: int) -> LoraConfig:
    return LoraConfig(r=rank, target_modules=["attn.c_proj"], fan_in_fan_out=True)


def scaled_to(select: Any, delta: torch.Tensor, whole: torch.Tensor) -> Any:
    """What `select` selects of one adapter's change, as a mask of the change by both."""

    def masked(name: str, change: torch.Tensor) -> Any:
        mask = select(name, change)
        return mask if isinstance(mask, float) else mask * delta / whole

    return masked


def test_a_unit_is_removed_by_removing_its_entries() -> None:
    """Factors of every grain on the live model, against weights edited by hand."""
    for family, low_rank in (("gpt2", False), ("gpt2", True), ("qwen2", False), ("qwen2", True)):
        base = base_of(family)
        after = with_adapter(base, dora=False) if low_rank else changed_everywhere(base, 0.05)
        weights = None if low_rank else weights_in_memory(base)
        change = low_rank_change(base, after) if low_rank else whole_change(base, after)
        own = OUTPUT.get(family, "self_attn.o_proj")
        matrix = f"{BLOCKS.get(family, 'model.layers')}.0.{own}.weight"
        units = {
            (Grain.layer, "layer 1"): in_layer(family, 1),
            (Grain.module, "layer 0 attn_out"): named(family, 0, "o_proj", "attn.c_proj.weight"),
            **{
                (Grain.head, name): one
                for name, one in head_units(family, HookedModel(after)).items()
            },
            (Grain.direction, f"layer 0 {own} direction 1"): of_direction(
                matrix, change[matrix], 1
            ),
        }
        hooked = HookedModel(after)
        with unit_change(hooked, weights, 3, 2) as live:
            for (grain, label), select in units.items():
                naive = copy.deepcopy(base)
                with torch.no_grad():
                    for name, delta in change.items():
                        kept = 1 - 0.7 * select(name, delta)
                        naive.get_parameter(name).add_(kept * delta)
                factors = np.ones(len(live.units[grain]))
                factors[[unit.label for unit in live.units[grain]].index(label)] = 0.3
                live.scale_units(grain, factors)
                torch.testing.assert_close(logits(after), logits(naive), rtol=1e-9, atol=1e-9)
            live.scale(0.0)
            torch.testing.assert_close(logits(after), logits(base), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["whole", "lora", "dora"])
def test_nothing_is_left_changed(kind: str) -> None:
    base = small_model("llama")
    tuned = changed_everywhere(base) if kind == "whole" else with_adapter(base, kind == "dora")
    weights = weights_in_memory(base) if kind == "whole" else None
    tuned = tuned.float().train()
    next(tuned.modules()).eval()
    with_gradients(tuned)
    kept, drawn = state(tuned), torch.get_rng_state()
    own = logits(tuned)
    options = PathOptions(nodes=14, directions=2, models=8)
    attribute_path(tuned, weights, some_items(), options)
    failed = False
    try:
        with unit_change(HookedModel(tuned), weights, 3, 2) as live:
            live.scale_units(Grain.head, np.linspace(0, 1, len(live.units[Grain.head])))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        failed = True
    assert failed
    assert torch.equal(drawn, torch.get_rng_state())
    assert torch.equal(own, logits(tuned))
    assert not any(
        "forward" in vars(m) for m in tuned.modules() if "RMSNorm" not in type(m).__name__
    )
    same_state(kept, state(tuned))


def test_units_partition_what_changed() -> None:
    """Each entry of each changed tensor is in one unit of every grain."""
    base = base_of("qwen2")
    after = changed_everywhere(base, 0.02)
    hooked = HookedModel(after)
    with unit_change(hooked, weights_in_memory(base), 3, 2) as live:
        ones = [torch.ones_like(one) for one in live.parameters]
        values = live.by_grain(live.scores(ones))
        changes = sum(float(delta.sum()) for delta in whole_change(base, after).values())
        for grain, found in values.items():
            assert found.sum() == pytest.approx(changes, rel=1e-9), grain
            labels = [unit.label for unit in live.units[grain]]
            assert len(set(labels)) == len(labels)
    assert [unit.label for unit in live.units[Grain.layer]] == [
        *("embedding", "layer 0", "layer 1", "final")
    ]
    first = [unit.label for unit in live.units[Grain.module]][:7]
    modules = ("qkv", "attn_out", "mlp_in", "mlp_out", "norms", "biases")
    assert first == ["embedding", *(f"layer 0 {module}" for module in modules)]


def test_only_what_changed_is_a_unit() -> None:
    base = base_of("gpt2")
    after = copy.deepcopy(base)
    with torch.no_grad():
        after.transformer.h[1].mlp.c_fc.weight[:, :40] += 0.05
    found = attribute_path(after, weights_in_memory(base), some_items(), OPTIONS)
    assert [unit.label for unit in found.units[Grain.layer]] == ["layer 1"]
    assert np.abs(found.score("neurons.1.1 (43-85)")).max() == 0  # changed in name only
    np.testing.assert_allclose(found.score("neurons.1.0 (0-42)"), found.gain, rtol=1e-6)
    with pytest.raises(UserError, match=r"`layer 0` has no parameter that changed; .*: layer 1 "):
        found.score("layer 0")


def test_without_a_change_or_a_gain_nothing_is_attributed() -> None:
    base = base_of("gpt2")
    with pytest.raises(NoGainError, match="no weight differs"):
        attribute_path(base, weights_in_memory(base), some_items())
    fresh = get_peft_model(copy.deepcopy(base), LoraConfig(fan_in_fan_out=True))
    with pytest.raises(NoGainError, match="no weight differs"):
        attribute_path(fresh, None, some_items())
    after = changed_everywhere(base, 1e-9)
    with pytest.raises(NoGainError, match="which is rounding"):
        attribute_path(after, weights_in_memory(base), some_items())


def test_a_change_that_is_no_affine_map_is_refused() -> None:
    config = LoraConfig(target_modules=["wte"], use_dora=True)
    tuned = get_peft_model(small_model("gpt2"), config)
    with pytest.raises(UserError, match=r"the change of embedding is .*leave path and masks out"):
        attribute_path(tuned, None, some_items())


def test_too_few_nodes_are_said() -> None:
    """The sum of a large change is right with 14 nodes, some of its units are not."""
    base = base_of("gpt2")
    after = changed_everywhere(base, 0.3)
    few = attribute_path(after, weights_in_memory(base), some_items(), PathOptions(nodes=14))
    assert few.integral.evaluations == 14
    assert not few.converged
    options = PathOptions(nodes=100, effects=None)
    many = attribute_path(after, weights_in_memory(base), some_items(), options)
    assert many.converged
    assert many.integral.evaluations > 14
    errors = np.abs(many.scores[Grain.layer].sum(0) - many.gain)
    assert errors.max() <= 0.01 * abs(many.gain.mean())
