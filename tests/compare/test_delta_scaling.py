"""Arms of surgery, against plain runs of edited models."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from sumcirc.compare.deltas.delta_scaling import (
    MODULE,
    ONLY,
    REMOVE,
    WHOLE,
    ScalingArm,
    arms_of,
    runs,
    scale_deltas,
)
from sumcirc.compare.deltas.deltas import EMBEDDING, NORMS, Target, scaled
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.data.examples import NONE
from sumcirc.errors import UserError
from sumcirc.models.architectures import ARCHITECTURES
from tests.compare.edited import (
    TEXT,
    changed_everywhere,
    same_state,
    some_items,
    state,
    tokens,
    weights_in_memory,
)
from tests.compare.planted import planted_adapter, planted_head, planted_linears, planted_mlp
from tests.support.small_models import adapted, in_float64, scrambled, small_model


def test_arms_name_every_layer_and_what_changed_elsewhere() -> None:
    targets = [Target(None, EMBEDDING), Target(1, "qkv"), Target(1, NORMS)]
    arms = arms_of(2, targets, [0.5, 1])
    assert Counter(arm.kind for arm in arms) == {WHOLE: 3, REMOVE: 9, MODULE: 2, ONLY: 3}
    assert [arm for arm in arms if arm.kind == ONLY] == [
        ScalingArm(ONLY, None, EMBEDDING, 1.0),
        ScalingArm(ONLY, 0, None, 1.0),
        ScalingArm(ONLY, 1, None, 1.0),
    ]
    assert ScalingArm(REMOVE, 1, None, 0.5).amounts(targets) == {targets[1]: 0.5, targets[2]: 0.5}
    assert ScalingArm(MODULE, 1, NORMS, 0.0).amounts(targets) == {targets[2]: 0.0}
    assert ScalingArm(ONLY, 1, None, 1.0).amounts(targets) == {targets[0]: 0.0}
    assert ScalingArm(REMOVE, 0, None, 0.5).amounts(targets) == {}
    # before, after, whole .5; embedding and layer 1 at 0 (`only` of the other) and .5; its modules
    assert runs(arms, targets) == 3 + 4 + 2
    with pytest.raises(UserError, match="finite"):
        arms_of(2, targets, [float("nan")])


def naive(model: Any, items: ItemSet) -> tuple[list[float], list[float]]:
    """Metric of the items and losses of the texts, one at a time by the model's own logits."""
    metric, losses = [], []
    with torch.no_grad():
        for item in items.items:
            rows = model(torch.from_numpy(item.ids)[None]).logits[0].log_softmax(-1)
            places = np.flatnonzero(item.good != NONE)
            metric.append(float(np.mean([rows[p, item.good[p]].item() for p in places])))
        for ids in TEXT:
            found = torch.from_numpy(ids)
            rows = model(found[None]).logits[0].log_softmax(-1)
            losses.append(-rows[:-1].gather(1, found[1:, None]).mean().item())
    return metric, losses


@pytest.mark.parametrize(
    ("family", "lora"),
    [*((family, False) for family in ARCHITECTURES), ("gpt2", True), ("qwen3", True)],
)
def test_arms_are_plain_runs_of_edited_models(family: str, lora: bool) -> None:
    base = in_float64(scrambled(family))
    after = adapted(copy.deepcopy(base)).double() if lora else changed_everywhere(base)
    before = None if lora else weights_in_memory(base)
    kept = state(after)
    items, done = some_items(), []
    found = scale_deltas(after, before, items, TEXT, [0.5], 2, done.append)
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
        (ScalingArm(REMOVE, 1, None, 0.5), {Target(1, module): 0.5 for _, module in modules}),
        (ScalingArm(MODULE, 2, "qkv", 0.0), {Target(2, "qkv"): 0.0}),
        (ScalingArm(ONLY, 0, None, 1.0), {t: 0.0 for t in found.targets if t.layer != 0}),
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
    found = scale_deltas(after, before, some_items(), TEXT, [0.5, 1.5], 3)
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
                    value, values[found.arms.index(ScalingArm(WHOLE, None, None, arm.amount))]
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
    found = scale_deltas(model, weights_in_memory(model), some_items(), [], [0.5], 2, done.append)
    assert found.targets == []
    assert done == [1]
    assert (found.metric == found.metric[0]).all()
    assert found.losses.shape == (len(found.arms), 0)


@pytest.mark.parametrize("length", [1, 129])
def test_texts_of_no_use_are_refused(length: int) -> None:
    model, text = small_model("gpt2"), [TEXT[0], tokens(length, 0)]
    with pytest.raises(UserError, match=f"plain text 1 has {length} tokens; give 2 to 128"):
        scale_deltas(model, weights_in_memory(model), some_items(), text, [1], 2)
