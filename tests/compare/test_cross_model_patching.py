"""Patching across models against a naive implementation, item by item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import KINDS, Component, components
from sumcirc.compare.patching.cross_model_patching import Receiver
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.data.examples import TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from tests.compare.cases import Naive, naive_metric, naive_patched, some_items, two_models

EXACT = 1e-9
ITEMS = some_items()
RUNS: dict[tuple[int, str, int], Naive] = {}  # each holds its model, so that ids stay their own


def patched(
    models: tuple[Any, Any],
    sets: list[list[Component]],
    positions: str,
    folder: Path,
    items: ItemSet = ITEMS,
    sources: str | None = None,
    size: int | None = None,
) -> np.ndarray:
    """Before with parts of after, [sets, items]."""
    before, after = models
    size = size or len(items)
    donor = Donor.record(HookedModel(after), items, size, [positions], folder, unembedding=True)
    found = np.empty((len(sets), len(items)))
    for number, batch in enumerate(items.batches(size)):
        receiver = Receiver(
            HookedModel(before),
            batch,
            donor,
            number,
            batch.at(positions),
            None if sources is None else batch.at(sources),
        )
        found[:, batch.places] = receiver.patched(sets).numpy()
    return found


def _naive(model: Any, item: TokenExample) -> Naive:
    key = (id(model), item.id, len(item.ids))
    if key not in RUNS:
        RUNS[key] = Naive(model, item.ids)
    return RUNS[key]


def naively(
    models: tuple[Any, Any],
    sets: list[list[Component]],
    positions: str,
    items: ItemSet = ITEMS,
    sources: str | None = None,
) -> np.ndarray:
    before, after = models
    found = np.empty((len(sets), len(items)))
    for place, item in enumerate(items.items):
        own, other = (_naive(model, item) for model in (before, after))
        last = np.zeros(len(item.ids), dtype=bool)
        last[np.flatnonzero(item.reads)[-1]] = True
        named = {"last": last, "read": item.reads, "all": np.ones_like(last), **item.spans}
        where = None if sources is None else named[sources]
        for row, one in enumerate(sets):
            logits = naive_patched(own, other, one, named[positions], where)
            found[row, place] = naive_metric(item, logits)
    return found


@pytest.fixture(scope="module", params=ARCHITECTURES)
def models(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return two_models(request.param)


@pytest.mark.parametrize("positions", ["last", "early"])
def test_every_part_is_moved_as_naively(
    models: tuple[Any, Any], positions: str, tmp_path: Path
) -> None:
    sets = [[part] for part in components(HookedModel(models[0]).shape, KINDS)]
    found = patched(models, sets, positions, tmp_path)
    expected = naively(models, sets, positions)
    np.testing.assert_allclose(found, expected, atol=EXACT)
    assert (np.ptp(expected, axis=0) > 0.1).all()  # parts differ in what they do


def test_sets_over_several_layers_are_moved_together(
    models: tuple[Any, Any], tmp_path: Path
) -> None:
    sets = [
        [Component(0, "output", 1), Component(2, "output", 3), Component(1, "mlp")],
        [Component(1, "output", 0), Component(1, "output", 2)],
        [Component(0, "mlp"), Component(1, "residual"), Component(3, "unembedding")],
        [Component(1, "attention"), Component(2, "mlp")],
        [],
    ]
    found = patched(models, sets, "read", tmp_path)
    np.testing.assert_allclose(found, naively(models, sets, "read"), atol=EXACT)


def test_query_and_key_are_the_pattern(models: tuple[Any, Any], tmp_path: Path) -> None:
    group = HookedModel(models[0]).shape.group
    both = [Component(1, "query", 3), Component(1, "key", 3 // group)]
    found = patched(models, [both, [Component(1, "pattern", 3)]], "late", tmp_path)
    if group == 1:
        np.testing.assert_allclose(found[0], found[1], atol=EXACT)
    else:
        assert (np.abs(found[0] - found[1]) > 1e-6).any()  # the key is the whole group's


def test_keys_and_values_of_some_positions(models: tuple[Any, Any], tmp_path: Path) -> None:
    sets = [[Component(1, kind, 0)] for kind in ("key", "value", "pattern")]
    found = patched(models, sets, "late", tmp_path, sources="early")
    np.testing.assert_allclose(found, naively(models, sets, "late", sources="early"), atol=EXACT)


def test_everything_moved_is_the_donor(models: tuple[Any, Any], tmp_path: Path) -> None:
    shape = HookedModel(models[0]).shape
    unembedding = Component(shape.layers, "unembedding")
    whole = [*components(shape, ["attention", "mlp"]), Component(0, "residual"), unembedding]
    last_stream = [Component(shape.layers, "residual"), unembedding]
    found = patched(models, [whole, last_stream], "all", tmp_path)
    after = ITEMS.values(HookedModel(models[1]), 1)
    np.testing.assert_allclose(found, [after, after], atol=EXACT)


def test_nothing_changes_between_equal_models(models: tuple[Any, Any], tmp_path: Path) -> None:
    before = models[0]
    sets = [[part] for part in components(HookedModel(before).shape, KINDS)]
    found = patched((before, before), sets, "all", tmp_path)
    expected = ITEMS.values(HookedModel(before), 2)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=EXACT)


def test_log_probability_and_other_batches(tmp_path: Path) -> None:
    items = some_items(answers=False)
    pair = two_models("llama")
    sets = [[Component(1, "value", 1)], [Component(2, "output", 0)]]
    found = patched(pair, sets, "read", tmp_path, items, size=2)
    np.testing.assert_allclose(found, naively(pair, sets, "read", items), atol=EXACT)


def test_a_window_is_kept(tmp_path: Path) -> None:
    pair = two_models("mistral", sliding_window=3)
    kinds = ("query", "key", "value", "pattern", "output")
    sets = [[Component(1, kind, 1)] for kind in kinds]
    items = some_items(lengths=(12, 10))
    found = patched(pair, sets, "last", tmp_path, items)
    np.testing.assert_allclose(found, naively(pair, sets, "last", items), atol=EXACT)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    before, after = two_models("qwen2")
    weights = {name: p.clone() for name, p in before.named_parameters()}
    implementation = before.config._attn_implementation
    before.train()
    patched((before, after), [[Component(2, "mlp")]], "last", tmp_path)
    assert before.training
    assert before.config._attn_implementation == implementation
    blocks = HookedModel(before).blocks
    assert not any("forward" in vars(block.whole) for block in blocks)
    assert not any(module._forward_hooks for module in before.modules())
    assert not any(module._forward_pre_hooks for module in before.modules())
    for name, parameter in before.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.requires_grad
