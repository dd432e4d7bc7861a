"""Learned masks: gradients, sets, planted changes and the best chain of all, in float64."""

from __future__ import annotations

import copy
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import kstest

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.masks.judging import MASKS, RANDOM_NORM, RANDOM_WEIGHTS
from sumcirc.compare.masks.learned_masks import LearnedMasks, extent_of, learn_masks
from sumcirc.compare.masks.training import Training, learn_graft, learn_nested
from sumcirc.compare.path.path_attribution import NoGainError, PathRuns
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import Grain, MaskOptions, Shares
from sumcirc.statistics.relaxed_top_k import relaxed_set, score_gradient
from tests.compare.edited import (
    base_of,
    changed_everywhere,
    logits,
    same_state,
    state,
    weights_in_memory,
    with_adapter,
    with_gradients,
)
from tests.compare.masked import changes, masked, predicted, selected
from tests.compare.naive_path import metric
from tests.compare.planted import planted_head, planted_linears
from tests.support.small_models import small_model

FAMILIES = ("gpt2", "qwen2")
KINDS = [(family, low_rank) for family in FAMILIES for low_rank in (False, True)]


def two(family: str, low_rank: bool) -> tuple[Any, Any, Any]:
    """A model before, one after, and the weights before as `learn_masks` takes them."""
    base = base_of(family)
    if low_rank:
        after = with_adapter(base, dora=False)
        with torch.no_grad():
            for name, parameter in after.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(6)
        return base, after, None
    return base, changed_everywhere(base, 0.05), weights_in_memory(base)


def quick(**changed: Any) -> MaskOptions:
    options: dict[str, Any] = {
        "grain": Grain.layer,
        "sizes": [0.3, 0.6],
        "seeds": 2,
        "steps": 3,
        "random": 2,
        "neuron_groups": 3,
    }
    return MaskOptions(**{**options, **changed})


@pytest.mark.parametrize(("family", "low_rank"), KINDS)
def test_the_gradient_by_scores_is_that_of_hand_made_masks(family: str, low_rank: bool) -> None:
    base, after, weights = two(family, low_rank)
    items, change = predicted(after, 4), changes(base, after, low_rank)
    units = selected(family, low_rank)
    grain = Grain.module if low_rank else Grain.layer
    end, start = metric(after, items), metric(base, items)
    gain = float((end - start).mean())
    with unit_change(HookedModel(after), weights, 3, 0) as live:
        labels = [unit.label for unit in live.units[grain]]
        assert sorted(labels) == sorted(units)
        shares = extent_of(live, quick(grain=grain)).sized
        run = PathRuns(HookedModel(after), live, items, 3)
        training = Training(partial(run.mean_slope, grain), shares, end, gain)
        scores = np.random.default_rng(2).normal(size=len(labels))
        mask = relaxed_set(scores, shares, 0.55, 0.7)
        loss, slopes = training.lost(mask, range(4))
        found = score_gradient(mask, slopes, shares, 0.55, 0.7)

    def naive(values: np.ndarray) -> float:
        mask = dict(zip(labels, relaxed_set(values, shares, 0.55, 0.7), strict=True))
        return float((end - metric(masked(base, change, units, mask), items)).mean()) / gain

    assert loss == pytest.approx(naive(scores), abs=1e-9)
    assert np.abs(found).max() > 1e-3
    for unit in range(len(labels)):
        moved = np.zeros(len(labels))
        moved[unit] = 1e-4
        expected = (naive(scores + moved) - naive(scores - moved)) / 2e-4
        assert found[unit] == pytest.approx(expected, abs=1e-6), labels[unit]


@pytest.mark.parametrize(("family", "low_rank"), KINDS)
def test_sets_are_those_of_weights_edited_by_hand(family: str, low_rank: bool) -> None:
    base, after, weights = two(family, low_rank)
    items, change = predicted(after), changes(base, after, low_rank)
    units = selected(family, low_rank)
    options = quick(grain=Grain.module if low_rank else Grain.layer, seeds=1, random=1)
    found = learn_masks(after, weights, items, options)
    judged = found.judged
    some = ItemSet(items.items[1::2])
    assert found.items == some.ids
    assert found.trained_on == [item.id for item in items.items[::2]]
    np.testing.assert_allclose(judged.before, metric(base, some), rtol=1e-9)
    np.testing.assert_allclose(judged.after, metric(after, some), rtol=1e-9)
    different = {
        frozenset(members): (i, j)
        for i, sets in enumerate(judged.sets)
        for j, members in enumerate(sets)
    }
    assert len(different) > 2
    for members, place in different.items():
        inside = {found.units[member].label for member in members}
        kept = {label: float(label in inside) for label in units}
        left = {label: 1 - value for label, value in kept.items()}
        for values, mask in ((judged.kept, kept), (judged.left, left)):
            expected = metric(masked(base, change, units, mask), some)
            np.testing.assert_allclose(values[place], expected, rtol=1e-8)


@pytest.mark.parametrize(("family", "low_rank"), KINDS)
def test_units_have_the_size_of_their_dense_change(family: str, low_rank: bool) -> None:
    base, after, weights = two(family, low_rank)
    change, units = changes(base, after, low_rank), selected(family, low_rank)
    grain = Grain.module if low_rank else Grain.layer
    with unit_change(HookedModel(after), weights, 3, 0) as live:
        found = zip(live.units[grain], live.weights(grain), live.squares(grain), strict=True)
        for unit, count, square in found:
            select = units[unit.label]
            parts = [(delta, select(name, delta)) for name, delta in change.items()]
            whole = [delta for delta, own in parts if own]
            assert count == sum(delta.numel() for delta in whole), unit
            assert square == pytest.approx(sum(float((delta**2).sum()) for delta in whole)), unit
        heads = live.weights(Grain.head).sum(), live.squares(Grain.head).sum()
        assert heads == pytest.approx((live.weights(grain).sum(), live.squares(grain).sum()))


@pytest.mark.parametrize("kind", ["module", "head"])
def test_a_planted_change_is_ranked_first(kind: str) -> None:
    """Everything changed a little, and one module or head a lot."""
    base = base_of("gpt2")
    if kind == "module":
        after, label = planted_linears(base, 1, "mlp_out", 0.3), "layer 1 mlp_out"
    else:
        after, label = planted_head(base, 0, 2, "output", 2.0), "head.0.2"
    after = changed_everywhere(after, 1e-4)
    options = quick(grain=Grain[kind], steps=40, shares=Shares.units, sizes=[0.1, 0.5])
    found = learn_masks(after, weights_in_memory(base), predicted(after), options)
    assert found.order[0] == label
    for name in (MASKS, "path", "add", "remove"):
        for i in found.judged.of(name):
            ranking = found.judged.rankings[i]
            assert found.units[ranking.order[0]].label == label, name
            share = found.judged.kept[i, 0] - found.judged.before
            assert share.mean() / found.judged.area("kept")[i].mean() > 0.95
    for i in found.judged.of("inverted"):
        assert found.units[found.judged.rankings[i].order[-1]].label == label


def test_the_ranking_is_near_the_best_chain_of_all() -> None:
    """All orders of four modules, judged on the same items."""
    base, after = base_of("gpt2"), base_of("gpt2")
    for layer, module, by in ((0, "qkv", 0.2), (0, "mlp_out", 0.15), (1, "qkv", 0.1)):
        after = planted_linears(after, layer, module, by)
    after = planted_linears(after, 1, "mlp_in", 0.12)
    sizes = [0.25, 0.5, 0.75]
    options = quick(grain=Grain.module, shares=Shares.units, sizes=sizes, steps=60, seeds=2)
    items = predicted(after, 32)
    found = learn_masks(after, weights_in_memory(base), items, options)
    judged, change = found.judged, changes(base, after, low_rank=False)
    labels = [unit.label for unit in found.units]
    assert len(labels) == 4
    words = {"qkv": "c_attn.weight", "mlp_in": "c_fc.weight", "mlp_out": "mlp.c_proj.weight"}
    some, gain = ItemSet(items.items[1::2]), (judged.after - judged.before).mean()

    def value(members: tuple[str, ...]) -> float:
        model = copy.deepcopy(base)
        with torch.no_grad():
            for label in members:
                _, layer, module = label.split()
                name = next(
                    one for one in change if f".{layer}." in one and one.endswith(words[module])
                )
                model.get_parameter(name).add_(change[name])
        return float((metric(model, some) - judged.before).mean() / gain)

    known = {
        frozenset(members): value(members)
        for count in range(5)
        for members in permutations(labels, count)
        if list(members) == sorted(members)
    }
    assert len(known) == 16

    def area(order: tuple[str, ...]) -> float:
        curve = [known[frozenset(order[:size])] for size in range(5)]
        return float(np.trapezoid(curve, dx=0.25))

    areas = {order: area(order) for order in permutations(labels)}
    assert max(areas.values()) - min(areas.values()) > 0.1
    for i in judged.of(MASKS):
        order = tuple(labels[unit] for unit in judged.rankings[i].order)
        mean = judged.area("kept")[i].mean() / gain
        assert mean == pytest.approx(areas[order], abs=1e-9)
        assert areas[order] > max(areas.values()) - 0.02


def test_other_rankings_are_those_of_edits_on_the_items_trained_on() -> None:
    base, after, weights = two("gpt2", low_rank=False)
    change, units = changes(base, after, low_rank=False), selected("gpt2", low_rank=False)
    items = predicted(after)
    found = learn_masks(after, weights, items, quick(seeds=1, random=1))
    some = ItemSet(items.items[::2])

    def value(inside: set[str]) -> float:
        mask = {label: float(label in inside) for label in units}
        return float(metric(masked(base, change, units, mask), some).mean())

    scores, everything = {one.name: one.scores for one in found.judged.rankings}, set(units)
    labels = [unit.label for unit in found.units]
    added = [value({label}) - value(set()) for label in labels]
    removed = [value(everything) - value(everything - {label}) for label in labels]
    np.testing.assert_allclose(scores["add"], added, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(scores["remove"], removed, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(scores["inverted"], -scores[MASKS])
    np.testing.assert_allclose(scores["path_density"] * found.extent.weights, scores["path"])


def test_the_sizes_of_the_steps_are_log_uniform() -> None:
    sizes, count = [], 10

    def slope(mask: np.ndarray, places: Any) -> tuple[float, np.ndarray]:
        sizes.append(mask.mean())
        return 0.0, np.zeros(count)

    training = Training(slope, np.full(count, 1 / count), np.ones(8), 1.0)
    learn_nested(training, quick(steps=500), 0, lambda done: None)
    assert kstest(np.log(sizes) / np.log(1 / count), "uniform").pvalue > 0.05


def test_grafting_keeps_to_its_size() -> None:
    """Of three equal units only one helps and two harm; a large penalty empties the mask."""
    worth = np.array([1.0, -0.2, -0.1])

    def slope(mask: np.ndarray, places: Any) -> tuple[float, np.ndarray]:
        return float(mask @ worth), worth

    training = Training(slope, np.full(3, 1 / 3), np.ones(8), 1.0)
    options = quick(steps=400, graft_size=1 / 3, penalty=0.1)
    scores = learn_graft(training, options, 0, lambda done: None).scores
    assert scores[0] > 0 > max(scores[1:])
    harsh = quick(steps=400, graft_size=0.01, penalty=10.0)
    assert learn_graft(training, harsh, 0, lambda done: None).scores.max() < 0
    # of two units that help alike, only the small one is worth its size
    worth, shares = np.array([0.2, 0.2]), np.array([0.9, 0.1])
    training = Training(slope, shares, np.ones(8), 1.0)
    options = quick(steps=400, graft_size=0.2, penalty=1.0)
    scores = learn_graft(training, options, 0, lambda done: None).scores
    assert scores[1] > 0 > scores[0]


def found_for(seed_options: MaskOptions) -> LearnedMasks:
    _, after, weights = two("gpt2", low_rank=False)
    return learn_masks(after, weights, predicted(after), seed_options)


def test_seeds_give_the_same_again_and_others_something_else() -> None:
    first, second = found_for(quick(grain=Grain.head)), found_for(quick(grain=Grain.head))
    for one, other in zip(first.judged.rankings, second.judged.rankings, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(first.judged.kept, second.judged.kept)
    own = [first.judged.rankings[i].scores for i in first.judged.of(MASKS)]
    assert np.abs(own[0] - own[1]).max() > 1e-3


def test_random_sets_are_matched() -> None:
    options = quick(grain=Grain.head, sizes=[0.2, 0.5], random=4)
    judged, extent = (found := found_for(options)).judged, found.extent
    nested = judged.of(MASKS)
    for name, shares in ((RANDOM_WEIGHTS, extent.weights), (RANDOM_NORM, extent.squares)):
        assert len(judged.of(name)) == 4
        for j in range(2):
            own = np.mean([shares[judged.sets[i][j]].sum() for i in nested])
            for i in judged.of(name):
                rest = set(range(len(shares))) - set(judged.sets[i][j])
                smallest = min(shares[unit] for unit in rest)
                reached = shares[judged.sets[i][j]].sum()
                assert own - smallest - 1e-9 < reached <= own + 1e-6
    for i in nested:
        assert extent.sized[judged.sets[i][0]].sum() <= 0.2 + 1e-6


def random_numbers() -> Any:
    """The state of NumPy's global generator."""
    return np.random.get_state()[1]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["whole", "lora"])
def test_nothing_is_left_changed(kind: str) -> None:
    base = small_model("llama")
    tuned = changed_everywhere(base) if kind == "whole" else with_adapter(base, dora=False)
    weights = weights_in_memory(base) if kind == "whole" else None
    tuned = tuned.float().eval()
    items = predicted(tuned)
    tuned.train()
    with_gradients(tuned)
    kept, drawn = state(tuned), torch.get_rng_state()
    numbers, own = random_numbers(), logits(tuned)
    learn_masks(tuned, weights, items, quick(seeds=1, random=1))
    assert torch.equal(drawn, torch.get_rng_state())
    np.testing.assert_array_equal(numbers, random_numbers())
    assert torch.equal(own, logits(tuned))
    same_state(kept, state(tuned))


def test_what_can_not_be_ranked_is_refused() -> None:
    base, after, weights = two("gpt2", low_rank=False)
    items = predicted(after)
    for count, words in ((1, "there is 1 item;"), (15, "there are 15 items;")):
        with pytest.raises(UserError, match=rf"{words} .* takes 16 at least; raise compare.items"):
            learn_masks(after, weights, ItemSet(items.items[:count]), quick())
    with pytest.raises(NoGainError, match="no weight differs"):
        learn_masks(base, weights, items, quick())
    fresh = get_peft_model(copy.deepcopy(base), LoraConfig(fan_in_fan_out=True))
    with pytest.raises(NoGainError, match="no weight differs"):
        learn_masks(fresh, None, items, quick())
    with pytest.raises(NoGainError, match="which is rounding"):
        learn_masks(changed_everywhere(base, 1e-9), weights, items, quick())
    single = planted_linears(base, 1, "mlp_out", 0.3)
    with pytest.raises(NoGainError, match=r"only layer 1 has a change .*grain=layer.*finer grain"):
        learn_masks(single, weights, predicted(single), quick())
    for unknown in ("direction", "neuron"):
        words = rf"compare.masks.grain={unknown}: choose from layer, module, head$"
        with pytest.raises(UserError, match=words):
            quick(grain=unknown)
    for name, value in (("sizes", [0.5, 0.2]), ("sizes", [0.5, 1.0]), ("graft_size", 1.0)):
        with pytest.raises(UserError, match=rf"compare\.masks\.{name}="):
            quick(**{name: value})
