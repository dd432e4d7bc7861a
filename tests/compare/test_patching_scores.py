"""Scores, sets of parts and pairs of them; that passes are shared makes no difference."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sumcirc.compare.patching import patching_scores
from sumcirc.compare.patching.components import Component, components
from sumcirc.compare.patching.cross_model_patching import Receiver
from sumcirc.compare.patching.patching_scores import (
    MOST_COPIES,
    PatchingResult,
    first_sets,
    halves,
    pairs_of,
    random_sets,
    synergy,
)
from sumcirc.data.examples import TokenExample
from sumcirc.models.activations.hooked_model import HookedModel
from tests.compare.cases import Naive, naive_metric, naive_patched, other, some_items, two_models
from tests.compare.crossings import PLENTY, crossing
from tests.support.small_models import scrambled

EXACT = 1e-9
ITEMS = some_items(lengths=(9, 6, 12, 7, 8))
PARTS = [Component(layer, kind) for layer in range(3) for kind in ("output", "mlp")]


@cache
def models(family: str) -> tuple[Any, Any]:
    return two_models(family)


def made(effects: np.ndarray, gap: np.ndarray) -> PatchingResult:
    """As if parts had been moved."""
    receiver = np.linspace(-1, 1, len(gap))
    return PatchingResult(PARTS[: len(effects)], receiver, receiver + gap, effects, effects)


# ---- scores


def test_a_score_is_a_ratio_of_means() -> None:
    draw = np.random.default_rng(0)
    effects, gap = draw.normal(size=(4, 10)), draw.normal(2, 1, size=10)
    moved = made(effects, gap)
    mean, low, high = moved.scores(effects)
    np.testing.assert_allclose(mean, effects.mean(1) / gap.mean(), rtol=1e-12)
    assert ((low < mean) & (mean < high)).all()
    one, lowest, highest = moved.scores(moved.gap)
    assert [float(one), float(lowest), float(highest)] == pytest.approx([1, 1, 1])


def test_equal_models_have_no_scores(tmp_path: Path) -> None:
    model = models("gpt2")[0]
    across = crossing((model, model), ITEMS, tmp_path)
    moved = across.each(list(components(across.hooked.shape, ["output", "mlp"])))
    # passes that begin in the middle may add in another order
    np.testing.assert_allclose(moved.effects, 0, atol=EXACT)
    np.testing.assert_allclose(moved.attributed, 0, atol=EXACT)
    assert not moved.gap.any()
    for found in moved.scores(moved.effects):
        assert found.shape == (len(moved.parts),)
        assert np.isnan(found).all()


def test_effects_and_metrics_are_in_the_order_of_items(tmp_path: Path) -> None:
    before, after = models("llama")
    moved = crossing((before, after), ITEMS, tmp_path, size=2).each([Component(3, "unembedding")])
    np.testing.assert_allclose(moved.receiver, ITEMS.values(HookedModel(before), 1), atol=1e-6)
    np.testing.assert_allclose(moved.donor, ITEMS.values(HookedModel(after), 1), atol=1e-6)
    for place, item in enumerate(ITEMS.items):
        own, donor = (Naive(model, item.ids) for model in (before, after))
        logits = naive_patched(own, donor, moved.parts, np.ones(len(item.ids), dtype=bool))
        expected = naive_metric(item, logits) - moved.receiver[place]
        assert moved.effects[0, place] == pytest.approx(expected, abs=1e-6)


# ---- passes


@pytest.mark.parametrize("positions", ["last", "all"])
def test_copies_and_batches_make_no_difference(
    positions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = models("gpt_neox")
    shape = HookedModel(before).shape
    parts = list(components(shape, ["value", "mlp", "unembedding"]))
    sets = [parts[:3], [], [parts[-1], parts[5]], parts[6:8]]
    passes: list[int] = []
    original = Receiver.patched

    def counting(self: Receiver, some: Any) -> torch.Tensor:
        passes.append(len(some))
        return original(self, some)

    monkeypatch.setattr(Receiver, "patched", counting)
    found, most = [], []
    for size, memory in ((5, PLENTY), (5, 1), (2, PLENTY)):
        across = crossing((before, after), ITEMS, tmp_path, positions, size, memory)
        passes.clear()
        done: list[int] = []
        moved = across.each(parts, done.append)
        assert sum(done) == len(ITEMS)
        most.append(max(passes))
        found.append(np.concatenate([moved.effects, moved.attributed, across.together(sets)]))
    assert most[1] == 1
    assert min(most[0], most[2]) > 1
    assert max(most) <= MOST_COPIES
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], atol=EXACT)
    assert (np.ptp(found[0], axis=0) > 0.1).all()


def test_passes_with_few_rows_take_sets_of_several_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    across = crossing(models("llama"), ITEMS, tmp_path, "last", 1)
    parts = list(components(across.hooked.shape, ["output", "mlp"]))
    passes: list[int] = []
    original = Receiver.patched

    def counting(self: Receiver, some: Any) -> torch.Tensor:
        passes.append(len(some))
        return original(self, some)

    monkeypatch.setattr(Receiver, "patched", counting)
    found = []
    for few in (0, patching_scores.FEW_ROWS):
        monkeypatch.setattr(patching_scores, "FEW_ROWS", few)
        passes.clear()
        found.append((across.each(parts).effects, len(passes)))
    layers = across.hooked.shape.layers
    assert [count for _, count in found] == [layers * len(ITEMS), len(ITEMS)]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=EXACT)


def test_no_set_is_no_pass(tmp_path: Path) -> None:
    across = crossing(models("gpt2"), ITEMS, tmp_path)
    assert across.together([]).shape == (0, len(ITEMS))


# ---- sets


def test_first_sets_are_chosen_on_one_half() -> None:
    draw = np.random.default_rng(3)
    effects, gap = draw.normal(size=(6, 9)), draw.normal(1, 0.1, size=9)
    chosen, judged = halves(9)
    assert sorted([*chosen, *judged]) == list(range(9))
    found = first_sets(made(effects, gap), 4)
    order = np.argsort(-effects[:, chosen].mean(1))
    assert found == [[PARTS[i] for i in order[:size]] for size in (1, 2, 3, 4)]
    elsewhere = effects.copy()
    elsewhere[:, judged] = draw.normal(size=(6, len(judged))) * 100
    other_gap = gap.copy()
    other_gap[judged] *= -100
    assert first_sets(made(elsewhere, other_gap), 4) == found


def test_first_is_what_goes_towards_the_donor() -> None:
    effects = np.array([[1.0, 1.0], [-3.0, -3.0], [0.0, 0.0]])
    up, down = (first_sets(made(effects, np.full(2, sign)), 9) for sign in (1.0, -1.0))
    assert up[-1] == [PARTS[0], PARTS[2], PARTS[1]]
    assert down[-1] == [PARTS[1], PARTS[2], PARTS[0]]
    assert [len(one) for one in up] == [1, 2, 3]  # no more than there are


def test_random_sets_are_nested_and_the_same_each_time() -> None:
    found = random_sets(PARTS, [1, 2, 4], draws=5, seed=7)
    assert found == random_sets(PARTS, [1, 2, 4], draws=5, seed=7)
    assert found != random_sets(PARTS, [1, 2, 4], draws=5, seed=8)
    # fewer draws are the first of them
    assert random_sets(PARTS, [1, 2, 4], draws=2, seed=7) == found[:6]
    assert len(found) == 15
    for start in range(0, 15, 3):
        one, two, four = found[start : start + 3]
        assert (one, two) == (four[:1], four[:2])
        assert len(set(four)) == 4
    assert len({tuple(one) for one in found[2::3]}) > 1


# ---- synergy


def test_pairs_are_all_twos() -> None:
    found = pairs_of(PARTS[:3])
    assert found == [[PARTS[0], PARTS[1]], [PARTS[0], PARTS[2]], [PARTS[1], PARTS[2]]]


def test_parts_that_write_into_a_linear_read_have_none(tmp_path: Path) -> None:
    """Parallel attention and MLP of the last layer, and no norm after them."""
    before = scrambled("gpt_neox").double()
    before.gpt_neox.final_layer_norm = nn.Identity()
    after = other(before)
    across = crossing((before, after), ITEMS, tmp_path)
    last = [*(Component(2, "output", head) for head in range(4)), Component(2, "mlp")]
    parts = [*last, Component(1, "mlp"), Component(0, "output", 1)]
    moved = across.each(parts)
    pairs = pairs_of(parts)
    found = synergy(moved, pairs, across.together(pairs))
    assert found.shape == (len(pairs), len(ITEMS))
    assert np.abs(moved.effects).min(0).max() > 1e-3
    for pair, values in zip(pairs, found, strict=True):
        additive = set(pair) <= set(last)
        assert (np.abs(values).max() < EXACT) == additive, pair


def test_synergy_is_as_naively(tmp_path: Path) -> None:
    before, after = models("qwen2")
    parts = [Component(0, "mlp"), Component(1, "output", 2), Component(2, "mlp")]
    across = crossing((before, after), ITEMS, tmp_path)
    moved, pairs = across.each(parts), pairs_of(parts)
    found = synergy(moved, pairs, across.together(pairs))
    for place, item in enumerate(ITEMS.items):
        own, donor = (Naive(model, item.ids) for model in (before, after))
        everywhere = np.ones(len(item.ids), dtype=bool)

        def effect(
            some: list[Component],
            own: Naive = own,
            donor: Naive = donor,
            item: TokenExample = item,
            everywhere: np.ndarray = everywhere,
        ) -> float:
            alone = naive_metric(item, own.logits)
            return naive_metric(item, naive_patched(own, donor, some, everywhere)) - alone

        for row, (one, two) in enumerate(pairs):
            expected = effect([one, two]) - effect([one]) - effect([two])
            assert found[row, place] == pytest.approx(expected, abs=1e-6)
    assert np.abs(found).max() > 1e-3


def test_no_pair_has_no_synergy() -> None:
    moved = made(np.ones((2, 3)), np.ones(3))
    assert synergy(moved, [], np.empty((0, 3))).shape == (0, 3)
