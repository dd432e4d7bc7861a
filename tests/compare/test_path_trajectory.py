"""Scores along a trajectory against dense weights and finite differences on every segment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from sumcirc.compare.path.path_attribution import attribute_path
from sumcirc.compare.path.segment_change import put, segment_tensors
from sumcirc.compare.path.trajectory import GRAINS, Checkpoint, Trajectory, attribute_trajectory
from sumcirc.compare.path.unit_change import held
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
)
from tests.compare.naive_path import (
    in_layer,
    low_rank_change,
    metric,
    naive_scores,
    named,
    of_head,
    whole_change,
)
from tests.support.small_models import small_model

OPTIONS = PathOptions(neuron_groups=3, directions=0, effects=None)


def trained(model: Any) -> dict[str, Tensor]:
    """A copy of the parameters that training changes, as a checkpoint has them."""
    low_rank = hasattr(model, "peft_config")
    return {
        name.removeprefix("base_model.model."): parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if not low_rank or "lora_" in name
    }


def moved(model: Any, by: float, seed: int) -> Any:
    """A copy of a model after further training: other values of whatever is trained."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    names = trained(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.removeprefix("base_model.model.") in names:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(by * noise.to(parameter.dtype))
    return other


def three_states(base: Any, low_rank: bool) -> list[Any]:
    """Models at three checkpoints; the path between them is far from straight."""
    first = with_adapter(base, dora=False) if low_rank else changed_everywhere(base, 0.02)
    second = moved(first, 0.05 if low_rank else 0.02, 21)
    return [first, second, moved(second, 0.04 if low_rank else 0.015, 22)]


def checkpoints(states: list[Any]) -> list[Checkpoint]:
    return [Checkpoint(10 * (number + 1), trained(one)) for number, one in enumerate(states)]


def follow(base: Any, states: list[Any], low_rank: bool, options: PathOptions) -> Trajectory:
    weights, after = None if low_rank else weights_in_memory(base), states[-1]
    straight = attribute_path(after, weights, some_items(), options)
    return attribute_trajectory(
        after, weights, some_items(), checkpoints(states), straight, options
    )


def dense(base: Any, model: Any, low_rank: bool) -> dict[str, Tensor]:
    return low_rank_change(base, model) if low_rank else whole_change(base, model)


@pytest.mark.parametrize("low_rank", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gpt_neox", "phi3"])
def test_every_segment_is_the_naive_integral(family: str, low_rank: bool) -> None:
    """Of a layer, a module of output features, one of input features and a head of each segment."""
    base = base_of(family)
    states = three_states(base, low_rank)
    found = follow(base, states, low_rank, OPTIONS)
    assert found.steps == [0, 10, 20, 30]
    grouped = HookedModel(base).shape.group > 1
    units: dict[tuple[Grain, str], Any] = {
        (Grain.layer, "layer 1"): in_layer(family, 1),
        (Grain.module, "layer 0 attn_out"): named(
            family, 0, "o_proj.weight", "attn.c_proj.weight", "attention.dense.weight"
        ),
        (Grain.module, "layer 1 qkv"): named(
            *(family, 1),
            *("c_attn.weight", "query_key_value.weight", "qkv_proj.weight"),
            *("q_proj.weight", "k_proj.weight", "v_proj.weight"),
        ),
        (Grain.head, "head.1.2"): of_head(family, 1, 2, grouped),
    }
    changes = [dense(base, one, low_rank) for one in states]
    scale = float(np.abs(found.gain).max())
    at, done = base, {name: torch.zeros_like(value) for name, value in changes[0].items()}
    for segment, change in enumerate(changes):
        step = {name: value - done[name] for name, value in change.items()}
        for (grain, label), select in units.items():
            expected = naive_scores(at, step, some_items(), select)
            assert np.abs(expected).max() > 1e-4 * scale, label
            number = [unit.label for unit in found.units[grain]].index(label)
            np.testing.assert_allclose(
                *(found.scores[grain][segment, number], expected),
                **{"atol": 1e-5 * scale, "err_msg": f"{label}, segment {segment}"},
            )
        at, done = with_change(base, change), change
        np.testing.assert_allclose(found.metric[segment + 1], metric(at, some_items()), rtol=1e-9)
    for grain in GRAINS:
        np.testing.assert_allclose(found.scores[grain].sum((0, 1)), found.gain, atol=1e-5 * scale)
    assert found.converged


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_the_norm_of_a_low_rank_segment_is_that_of_its_product(family: str) -> None:
    base = base_of(family)
    first, second, _ = three_states(base, low_rank=True)
    hooked = HookedModel(copy.deepcopy(second))
    tensors = partial(segment_tensors, hooked, None, trained(first), trained(second), 3)
    step = {
        name: value - dense(base, first, low_rank=True)[name]
        for name, value in dense(base, second, low_rank=True).items()
    }
    with held(hooked, tensors) as change:
        squares = change.squares(Grain.layer)
        weights = change.weights(Grain.layer)
    for layer in (0, 1):
        own = [delta for name, delta in step.items() if in_layer(family, layer)(name, delta)]
        assert squares[layer] == pytest.approx(sum(float(one.square().sum()) for one in own))
        assert weights[layer] == sum(one.numel() for one in own)


def with_change(base: Any, change: Mapping[str, Tensor]) -> Any:
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, delta in change.items():
            model.get_parameter(name).add_(delta)
    return model


def test_segments_share_the_tolerances() -> None:
    """Errors are shares of the whole gain, also where a segment gains nothing."""
    base = base_of("gpt2")
    states = three_states(base, low_rank=False)
    states[1] = moved(states[0], 1e-4, 5)
    states[2] = moved(states[1], 0.2, 6)
    few = follow(base, states, low_rank=False, options=PathOptions(nodes=14, effects=None))
    assert few.evaluations[1] == 7
    missed = few.scores[Grain.layer].sum((0, 1)) - few.gain
    assert few.errors.document == pytest.approx(np.abs(missed).max() / abs(few.gain.mean()))
    assert few.errors.total == pytest.approx(abs(missed.mean()) / abs(few.gain.mean()))
    many = follow(base, states, low_rank=False, options=PathOptions(nodes=400, effects=None))
    assert many.converged
    assert many.evaluations[2] > few.evaluations[2]


def test_what_is_put_into_a_parameter_is_a_copy() -> None:
    """A state may be mapped from a file: what is written to it would stay in memory."""
    parameter, value = torch.nn.Parameter(torch.zeros(2)), torch.ones(2)
    with ExitStack() as stack:
        put(parameter, value, stack)
        assert torch.equal(parameter.data, value)
        parameter.data.mul_(3)
    assert torch.equal(value, torch.ones(2))
    assert torch.equal(parameter.data, torch.zeros(2))


@pytest.mark.parametrize("low_rank", [False, True], ids=["whole", "lora"])
def test_nothing_is_left_changed(low_rank: bool) -> None:
    base = small_model("llama")
    states = [one.float() for one in three_states(base, low_rank)]
    saved = checkpoints(states)
    tuned = copy.deepcopy(states[-1]).train()
    next(tuned.modules()).eval()
    for number, parameter in enumerate(tuned.parameters()):
        parameter.requires_grad_(number % 2 == 0)
        parameter.grad = torch.full_like(parameter, 0.5) if number % 3 == 0 else None
    kept, drawn, own = state(tuned), torch.get_rng_state(), logits(tuned)
    weights = None if low_rank else weights_in_memory(base)
    options = PathOptions(nodes=14, directions=2, effects=None)
    straight = attribute_path(tuned, weights, some_items(), options)
    attribute_trajectory(tuned, weights, some_items(), saved, straight, options)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tuned, weights, saved)
    assert torch.equal(drawn, torch.get_rng_state())
    for number, parameter in enumerate(tuned.parameters()):
        if number % 3 == 0:
            assert parameter.grad is not None
            assert bool((parameter.grad == 0.5).all())
        else:
            assert parameter.grad is None
    assert torch.equal(own, logits(tuned))
    same_state(kept, state(tuned))


def interrupted(model: Any, weights: Any, saved: list[Checkpoint]) -> None:
    hooked = HookedModel(model)
    first, second = (one.state for one in saved[:2])
    with held(hooked, partial(segment_tensors, hooked, weights, first, second, 3)) as change:
        change.scale(0.3)
        raise KeyboardInterrupt


def test_it_ends_at_the_checkpoint_that_the_run_saved() -> None:
    base = base_of("gpt2")
    states = three_states(base, low_rank=True)
    later = moved(states[-1], 0.01, 30)
    after = states[-1]
    straight = attribute_path(after, None, some_items(), OPTIONS)
    found = attribute_trajectory(
        after, None, some_items(), checkpoints([*states, later]), straight, OPTIONS
    )
    assert found.steps == [0, 10, 20, 30]
    with pytest.raises(UserError, match=r"of 2 checkpoints no second .* has the weights of the"):
        attribute_trajectory(after, None, some_items(), checkpoints(states[:2]), straight, OPTIONS)


def test_what_cannot_be_followed_is_refused() -> None:
    base = base_of("gpt2")
    tuned: Any = get_peft_model(
        copy.deepcopy(base),
        LoraConfig(target_modules=["c_attn"], use_dora=True, fan_in_fan_out=True),
    ).double()
    tuned = moved(tuned, 0.1, 3)
    straight = attribute_path(tuned, None, some_items(), OPTIONS)
    with pytest.raises(UserError, match="is by Dora; only LoRA and whole weights are followed"):
        attribute_trajectory(
            tuned, None, some_items(), checkpoints([tuned, tuned]), straight, OPTIONS
        )
