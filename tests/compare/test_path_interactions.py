"""Interactions of pairs on games with known values, and on small models edited by hand."""

from __future__ import annotations

import copy
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc.compare.path.interaction_summary import interaction_rows, interaction_summary
from sumcirc.compare.path.interactions import Interactions, interactions_of, pair_subsets
from sumcirc.compare.path.path_attribution import attribute_path
from sumcirc.compare.path.subsets import Subsets
from sumcirc.compare.path.units import Unit
from sumcirc.reporting.kinds import NotDrawableError
from sumcirc.reporting.views.interaction_views import interaction_table, interaction_view
from sumcirc.schema import Grain, PathOptions
from tests.compare.edited import (
    base_of,
    changed_everywhere,
    some_items,
    weights_in_memory,
    with_adapter,
)
from tests.compare.naive_path import (
    in_layer,
    low_rank_change,
    metric,
    named,
    nowhere_else,
    whole_change,
)
from tests.compare.test_path_subsets import DOCUMENTS, Game


def of(game: Game) -> tuple[Interactions, Subsets]:
    subsets = Subsets(game.units, game)
    for number in range(2**game.units):
        subsets.value([unit for unit in range(game.units) if number >> unit & 1])
    found = interactions_of(subsets, exact=True)
    assert found is not None
    return found, subsets


def test_interactions_are_what_a_pair_does_beyond_each() -> None:
    game = Game(5, additive=False)
    found, _ = of(game)
    everything, none = set(range(5)), game.of()
    assert found.pairs == list(combinations(range(5), 2))
    for (i, j), alone, removed in zip(
        found.pairs, found.values["add"], found.values["remove"], strict=True
    ):
        gains = [game.of(*members) - none for members in ((i, j), (i,), (j,))]
        np.testing.assert_allclose(alone, gains[0] - gains[1] - gains[2], atol=1e-12)
        losses = [
            game.of(*everything) - game.of(*(everything - set(members)))
            for members in ((i, j), (i,), (j,))
        ]
        np.testing.assert_allclose(removed, losses[1] + losses[2] - losses[0], atol=1e-12)


def test_the_shapley_index_is_a_mean_over_orders_with_the_pair_as_one() -> None:
    game = Game(5, additive=False)
    found, _ = of(game)
    for pair, index in zip(found.pairs, found.values["shapley"], strict=True):
        others = [unit for unit in range(5) if unit not in pair]
        i, j = pair
        orders = list(permutations([*others, -1]))
        expected = np.zeros(DOCUMENTS)
        for order in orders:
            first = order[: order.index(-1)]
            expected += game.of(*first, i, j) - game.of(*first, i) - game.of(*first, j)
            expected += game.of(*first)
        np.testing.assert_allclose(index, expected / len(orders), atol=1e-12)


def test_units_that_add_up_do_not_interact() -> None:
    """All but the first two, which have 3 more together."""
    found, _ = of(Game(5, additive=True))
    for values in found.values.values():
        np.testing.assert_allclose(values[0], 3, atol=1e-12)
        np.testing.assert_allclose(values[1:], 0, atol=1e-12)


@pytest.mark.parametrize("units", [2, 3, 4, 6])
def test_only_the_needed_subsets_are_run(units: int) -> None:
    game = Game(units, additive=False)
    found = interactions_of(Subsets(units, game), exact=False)
    assert found is not None
    assert set(found.values) == {"add", "remove"}
    assert game.runs == len(pair_subsets(units)) <= 2 + units * (units + 1)


def test_a_single_unit_has_no_pair() -> None:
    assert interactions_of(Subsets(1, Game(1, additive=False)), exact=True) is None


def edited(base: Any, change: Any, selects: list[Any]) -> np.ndarray:
    """The metric of a model with some units of the change, edited by hand."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, delta in change.items():
            for select in selects:
                model.get_parameter(name).add_(select(name, delta) * delta)
    return metric(model, some_items())


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gpt_neox"])
def test_layers_of_whole_weights(family: str) -> None:
    """From all 16 models of four units."""
    base = base_of(family)
    after = changed_everywhere(base, 0.05)
    options = PathOptions(nodes=14, directions=0, models=16)
    found = attribute_path(after, weights_in_memory(base), some_items(), options)
    selects = {
        "embedding": nowhere_else(("transformer.w", "gpt_neox.embed_in", "model.embed"), family),
        "layer 0": in_layer(family, 0),
        "layer 1": in_layer(family, 1),
    }
    compare(found, base, whole_change(base, after), selects, shapley=True)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_modules_of_a_lora(family: str) -> None:
    """Computed on request, though not all subsets are run."""
    base = base_of(family)
    tuned = with_adapter(base, dora=False)
    options = PathOptions(nodes=14, directions=0, models=1, effects=Grain.module, interactions=True)
    found = attribute_path(tuned, None, some_items(), options)
    selects = {
        "layer 0 qkv": named(family, 0, "q_proj", "k_proj", "v_proj"),
        "layer 1 attn_out": named(family, 1, "o_proj"),
        "layer 1 mlp_out": named(family, 1, "down_proj"),
    }
    compare(found, base, low_rank_change(base, tuned), selects, shapley=False)
    asked = PathOptions(nodes=14, directions=0, models=1, effects=Grain.module)
    assert attribute_path(tuned, None, some_items(), asked).interactions is None


def compare(found: Any, base: Any, change: Any, selects: Any, shapley: bool) -> None:
    assert ("shapley" in found.interactions.values) == shapley
    labels = [unit.label for unit in found.units[found.effects.grain]]
    scale = float(np.abs(found.gain).max())
    none, whole = metric(base, some_items()), edited(base, change, [everything])
    for one, other in combinations(selects, 2):
        place = found.interactions.pairs.index(tuple(sorted(map(labels.index, (one, other)))))
        pair = [[selects[one], selects[other]], [selects[one]], [selects[other]]]
        gains = [edited(base, change, some) - none for some in pair]
        left = [whole - edited(base, change, [but(some)]) for some in pair]
        alone, removed = (found.interactions.values[kind][place] for kind in ("add", "remove"))
        np.testing.assert_allclose(alone, gains[0] - gains[1] - gains[2], atol=1e-6 * scale)
        np.testing.assert_allclose(removed, left[1] + left[2] - left[0], atol=1e-6 * scale)
        assert np.abs(alone).max() > 1e-4 * scale


def everything(name: str, delta: torch.Tensor) -> float:
    return 1.0


def but(selects: list[Any]) -> Any:
    return lambda name, delta: 1.0 - sum(select(name, delta) for select in selects)


def test_summary_table_view_and_rows_state_the_interactions() -> None:
    draw = np.random.default_rng(0)
    units = [Unit(f"layer {layer}", layer, "layer") for layer in range(3)]
    gain = draw.normal(4, 0.1, size=12)
    values = np.stack([draw.normal(mean, 0.1, size=12) for mean in (-1, 0.5, 0)])
    values[2] -= values[2].mean()
    made = Interactions([(0, 1), (0, 2), (1, 2)], {"add": values, "remove": -values})
    rows = interaction_summary(made, units, gain)
    assert rows[0]["units"] == ["layer 0", "layer 1"]
    assert rows[0]["add"]["mean"] == pytest.approx(values[0].mean() / gain.mean())
    assert rows[0]["add"]["low"] < rows[0]["add"]["mean"] < rows[0]["add"]["high"] < 0
    assert [row["add"]["significant"] for row in rows] == [True, True, False]
    effects = {"grain": "layer", "interactions": rows}
    table = interaction_table(effects, 2)
    assert table is not None
    assert list(table.headings) == ["pair", "alone", "on removal"]
    assert [row[0] for row in table.rows] == ["layer 0 and layer 1", "layer 0 and layer 2"]
    assert "alone: 1 of 3 pairs stand in for each other, 1 need each other" in table.title
    view = interaction_view(effects)
    first, second = view.panels[0]
    assert first.values[0, 1] == first.values[1, 0] == rows[0]["add"]["mean"]  # type: ignore[union-attr]
    assert second.values[2, 0] == rows[1]["remove"]["mean"]  # type: ignore[union-attr]
    assert interaction_table({"grain": "layer"}, 2) is None
    with pytest.raises(NotDrawableError, match="they were not computed"):
        interaction_view({"grain": "layer"})
    items = [str(item) for item in range(12)]
    written = list(interaction_rows(made, units, items, "layer"))
    assert len(written) == 2 * 3 * 12
    assert written[1] == {
        **{"kind": "add", "grain": "layer", "unit": "layer 0", "other": "layer 1"},
        **{"item": "1", "value": values[0, 1]},
    }
