"""A pair that differs in one planted place is found there by every method that moves or attributes.

`test_differences` and `test_surgery` find planted places with theirs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sumcirc.compare.direct_attribution import direct_attribution
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import KINDS, RESIDUAL, Component, components
from sumcirc.compare.patching.patching_scores import PatchingResult
from sumcirc.compare.span_attention import span_attention
from sumcirc.data.examples import ALL, NONE, TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES, Shape
from tests.compare.cases import some_items, two_models
from tests.compare.crossings import crossing, moved_one_by_one
from tests.compare.planted import (
    KEY,
    OUTPUT,
    QUERY,
    VALUE,
    planted_adapter,
    planted_head,
    planted_mlp,
)
from tests.support.small_models import POST_NORM, scrambled
from tests.support.trained_models import repeater, repetitions

LAYER, HEAD = 1, 2
EXACT = 1e-6  # of the largest gap: RMSNorm works in float32, whatever the model is in
ITEMS = some_items(lengths=(9, 6, 12, 8))
# elsewhere a changed head changes the norm that scales the other heads of its layer
ALONE = [family for family in ARCHITECTURES if family not in POST_NORM]
PLANTS = (OUTPUT, QUERY, KEY, VALUE, "mlp", "adapter")


@cache
def base(family: str) -> Any:
    return scrambled(family).double()


@cache
def pair(family: str, plant: str) -> tuple[Any, Any]:
    """Before and after."""
    before = base(family)
    if plant == "mlp":
        return before, planted_mlp(before, LAYER)
    if plant == "adapter":
        return before, planted_adapter(before, LAYER)
    index = HEAD // HookedModel(before).shape.group if plant in (KEY, VALUE) else HEAD
    return before, planted_head(before, LAYER, index, plant)


def carriers(plant: str, shape: Shape) -> set[Component]:
    """Parts that are the whole of what differs, or from which on all differs."""
    group = HEAD // shape.group
    alone = {
        OUTPUT: {("output", HEAD)},
        QUERY: {("query", HEAD), ("pattern", HEAD), ("output", HEAD)},
        KEY: {("key", group)},
        VALUE: {("value", group)},
        "mlp": {("mlp", 0)},
        "adapter": set(),
    }[plant]
    if shape.group == 1 and plant in (KEY, VALUE):
        alone |= {("output", HEAD)}
    if shape.group == 1 and plant == KEY:
        alone |= {("pattern", HEAD)}
    if plant != "mlp":
        alone |= {("attention", 0)}
    later = {Component(layer, RESIDUAL) for layer in range(LAYER + 1, shape.layers + 1)}
    return {Component(LAYER, kind, index) for kind, index in alone} | later


def concerned(plant: str, shape: Shape) -> set[Component]:
    """Parts by head of the planted layer that differ between the models."""
    if plant == "mlp":
        return set()
    by_head = {one for one in components(shape, KINDS) if one.by_head and one.layer == LAYER}
    if plant == "adapter":
        return by_head
    group = HEAD // shape.group
    heads = set(Component(LAYER, KEY, group).heads(shape)) if plant in (KEY, VALUE) else {HEAD}
    kinds = {
        OUTPUT: {"output"},
        QUERY: {"output", "query", "pattern"},
        KEY: {"output", "key", "pattern"},
        VALUE: {"output", "value"},
    }[plant]
    return {
        one
        for one in by_head
        if one.kind in kinds and one.index in ({group} if one.kind in (KEY, VALUE) else heads)
    }


def quiet(part: Component, plant: str, shape: Shape) -> bool:
    """Whether a part does the same in both models, and comes before what differs or beside it."""
    if part.kind == RESIDUAL:
        return part.layer <= LAYER
    if part.layer == LAYER:
        return part.by_head and part not in concerned(plant, shape)
    return part.layer < LAYER or part.kind == "unembedding"


def weighted(moved: PatchingResult, effects: np.ndarray) -> np.ndarray:
    """Shares of the gap where items count by their gap, so that signs don't cancel."""
    return effects @ moved.gap / (moved.gap @ moved.gap)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    ("family", "direction"),
    [
        *((family, "sufficiency") for family in ALONE),
        *((family, "necessity") for family in ("gpt2", "gpt_neox", "qwen3")),
    ],
)
def test_the_planted_part_is_all_of_the_gap(
    family: str, plant: str, direction: str, tmp_path: Path
) -> None:
    before, after = pair(family, plant)
    models = (before, after) if direction == "sufficiency" else (after, before)
    moved = moved_one_by_one(models, ITEMS, tmp_path)
    shape = HookedModel(before).shape
    most = np.abs(moved.gap).max()
    assert most > 0.01
    silent = 0
    expected = carriers(plant, shape)
    for part, effect, told in zip(moved.parts, moved.effects, moved.attributed, strict=True):
        if part in expected:
            np.testing.assert_allclose(effect, moved.gap, atol=EXACT * most, err_msg=str(part))
            expected.remove(part)
        if quiet(part, plant, shape):
            np.testing.assert_allclose(effect, 0, atol=EXACT * most, err_msg=str(part))
            np.testing.assert_allclose(told, 0, atol=EXACT * most, err_msg=str(part))
            silent += 1
    assert not expected
    assert silent > 15


@pytest.mark.parametrize("plant", [OUTPUT, QUERY, KEY, VALUE, "mlp"])
@pytest.mark.parametrize("family", ALONE)
def test_the_planted_part_is_first_of_its_kind(family: str, plant: str, tmp_path: Path) -> None:
    before, after = pair(family, plant)
    shape = HookedModel(before).shape
    kinds = ["output", "mlp"] if plant in (OUTPUT, "mlp") else [plant]
    moved = moved_one_by_one((before, after), ITEMS, tmp_path, kinds)
    index = HEAD // shape.group if plant in (KEY, VALUE) else HEAD
    planted = Component(LAYER, plant, 0 if plant == "mlp" else index)
    for effects in (moved.effects, moved.attributed):
        shares = weighted(moved, effects)
        order = np.argsort(-np.abs(shares))
        assert moved.parts[order[0]] == planted, dict(zip(moved.parts, shares, strict=True))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_heads_of_the_planted_layer_together_are_all_of_the_gap(
    family: str, tmp_path: Path
) -> None:
    before, after = pair(family, "adapter")
    shape = HookedModel(before).shape
    heads = [Component(LAYER, "output", head) for head in range(shape.heads)]
    across = crossing((before, after), ITEMS, tmp_path)
    gap = ITEMS.values(HookedModel(after), 4) - ITEMS.values(HookedModel(before), 4)
    found = across.together([heads, heads[1:]])
    np.testing.assert_allclose(found[0], gap, atol=EXACT * np.abs(gap).max())
    assert np.abs(found[1] - gap).max() > 0.01 * np.abs(gap).max()


@pytest.mark.parametrize("module", ["attn_out", "mlp_in", "mlp_out"])
def test_an_adapter_with_its_switch_is_found(module: str, tmp_path: Path) -> None:
    """Before and after are one module, as in the command."""
    after = planted_adapter(base("qwen2"), LAYER, module)
    kinds = ["attention", "mlp"]
    with after.disable_adapter():
        across = crossing((after, after), ITEMS, tmp_path)  # recorded with adapters off
    with_adapter = across.each(list(components(across.hooked.shape, kinds)))
    planted = Component(LAYER, "attention" if module == "attn_out" else "mlp")
    effects = dict(zip(with_adapter.parts, with_adapter.effects, strict=True))
    most = np.abs(with_adapter.gap).max()
    assert most > 0.01
    np.testing.assert_allclose(effects[planted], with_adapter.gap, atol=EXACT * most)
    for kind in kinds:
        np.testing.assert_allclose(effects[Component(0, kind)], 0, atol=EXACT * most)


def read_once() -> ItemSet:
    """The items, of which the last position alone is read."""
    found = []
    for item in ITEMS.items:
        good, bad = item.good.copy(), item.bad.copy()
        good[:-1] = bad[:-1] = NONE
        found.append(TokenExample(item.id, item.ids, good, bad, item.spans))
    return ItemSet(found)


@pytest.mark.parametrize("plant", [OUTPUT, QUERY, VALUE, "mlp"])
@pytest.mark.parametrize("family", ALONE)
def test_direct_contributions_change_from_the_planted_part_on(family: str, plant: str) -> None:
    """The final norm's scale is each run's own: up to it nothing before the plant changes."""
    items = read_once()
    before, after = (direct_attribution(HookedModel(one), items, 4) for one in pair(family, plant))
    scale = after.embedding / before.embedding  # [items]
    assert (np.abs(scale - 1) > 1e-5).all()
    rows = {"output": after.heads / scale - before.heads, "mlp": after.mlps / scale - before.mlps}
    shape = HookedModel(base(family)).shape
    changed = {one.index for one in concerned(plant, shape) if one.kind == "output"}
    largest = np.abs(before.heads).max()
    for head in range(shape.heads):
        at_layer = np.abs(rows["output"][LAYER, head]).max()
        assert (at_layer > 1e-3 * largest) if head in changed else (at_layer < EXACT * largest)
    assert np.abs(rows["output"][0]).max() < EXACT * largest
    assert np.abs(rows["mlp"][0]).max() < EXACT * largest
    if plant == "mlp":
        assert np.abs(rows["mlp"][LAYER]).max() > 1e-3 * largest


@pytest.mark.parametrize("plant", [OUTPUT, QUERY, VALUE])
@pytest.mark.parametrize("family", ALONE)
def test_a_changed_query_alone_looks_elsewhere(family: str, plant: str) -> None:
    pairs = [("early", ALL)]
    before, after = (
        span_attention(HookedModel(one), ITEMS, pairs, 4).values[0] for one in pair(family, plant)
    )
    change = np.abs(after - before).max(-1)  # [layers, heads]
    others = np.delete(change[LAYER], HEAD)
    assert max(change[0].max(), others.max()) < EXACT
    assert (change[LAYER, HEAD] > 1e-3) == (plant == QUERY)
    assert change[LAYER + 1].max() > 1e-5  # what comes later looks elsewhere too


# ---- grouped queries against heads of their own


def expanded(model: Any) -> Any:
    """The same model with a key/value head for each query head."""
    config = type(model.config)(**model.config.to_dict())
    config.num_key_value_heads = config.num_attention_heads
    found = AutoModelForCausalLM.from_config(config).to(model.dtype).eval()
    weights = model.state_dict()
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    for name, tensor in weights.items():
        if "k_proj" in name or "v_proj" in name:
            by_head = tensor.unflatten(0, (-1, model.config.head_dim))
            weights[name] = by_head.repeat_interleave(group, 0).flatten(0, 1)
    found.load_state_dict(weights)
    return found


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def grouped(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return two_models(request.param)


def test_a_group_is_its_expanded_heads_together(grouped: tuple[Any, Any], tmp_path: Path) -> None:
    own = expanded(grouped[0]), expanded(grouped[1])
    shape, wide = (HookedModel(one[0]).shape for one in (grouped, own))
    assert (shape.group, wide.group) == (2, 1)
    few = moved_one_by_one(grouped, ITEMS, tmp_path)
    many = moved_one_by_one(own, ITEMS, tmp_path)
    np.testing.assert_allclose(few.gap, many.gap, atol=EXACT)
    sets = [
        [Component(part.layer, part.kind, head) for head in part.heads(shape)] for part in few.parts
    ]
    together = crossing(own, ITEMS, tmp_path).together(sets)
    alone = dict(zip(many.parts, many.effects, strict=True))
    told = dict(zip(many.parts, many.attributed, strict=True))
    assert any(len(one) == 2 for one in sets)
    most = np.abs(few.effects).max()
    for i, (part, members) in enumerate(zip(few.parts, sets, strict=True)):
        np.testing.assert_allclose(few.effects[i], together[i], atol=EXACT * most)
        if part.kind in (KEY, VALUE):
            if part.kind == VALUE:  # a pattern is not linear in its keys
                summed = np.sum([told[one] for one in members], axis=0)
                np.testing.assert_allclose(few.attributed[i], summed, atol=EXACT * most)
            assert np.abs(few.effects[i] - alone[members[0]]).max() > 1e-4
        else:
            np.testing.assert_allclose(few.effects[i], alone[part], atol=EXACT * most)
            np.testing.assert_allclose(few.attributed[i], told[part], atol=EXACT * most)


# ---- a trained model


@pytest.fixture(scope="module")
def trained() -> tuple[Any, ItemSet]:
    """A Llama that continues repeated sequences, and four of those."""
    with torch.random.fork_rng():
        model = repeater()
        rows = repetitions(4)
    found = []
    for number, ids in enumerate(rows.numpy()):
        good, bad = np.full((2, len(ids) - 1), NONE)
        good[8:] = ids[9:]
        found.append(TokenExample(str(number), ids[:-1], good, bad))
    return model, ItemSet(found)


@pytest.mark.parametrize("direction", ["sufficiency", "necessity"])
def test_an_altered_value_group_of_a_trained_model_is_found(
    direction: str, trained: tuple[Any, ItemSet], tmp_path: Path
) -> None:
    """Three layers, eight heads on four key/value heads."""
    before, items = trained
    layer, group = 2, 1
    after = planted_head(before, layer, group, VALUE, by=0.03)  # more is not linear at all
    moved = moved_one_by_one(
        (before, after) if direction == "sufficiency" else (after, before),
        items,
        tmp_path,
        ["value", "pattern", "output"],
    )
    assert HookedModel(before).shape.group == 2
    planted = moved.parts.index(Component(layer, "value", group))
    most = np.abs(moved.gap).max()
    assert most > 0.01
    np.testing.assert_allclose(moved.effects[planted], moved.gap, atol=1e-3 * most)
    shares = dict(zip(moved.parts, weighted(moved, moved.effects), strict=True))
    for part, share in shares.items():
        beside = part.kind == "output" and part.index // 2 == group
        if part.layer < layer or (part.layer == layer and not beside):
            assert abs(share) < 1e-3 or part == moved.parts[planted], part
    values = [one for one in moved.parts if one.kind == "value"]
    for effects in (moved.effects, moved.attributed):
        found = dict(zip(moved.parts, weighted(moved, effects), strict=True))
        assert max(values, key=lambda one: abs(found[one])) == moved.parts[planted]
