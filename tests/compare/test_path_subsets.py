"""Effects of subsets of units on games whose values are known."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from sumcirc.compare.path.subsets import Effects, Subsets, effects_of, planned
from sumcirc.schema import Grain

DOCUMENTS = 9


class Game:
    """A random value of every subset, or units that add up but for one pair; counts its runs."""

    def __init__(self, units: int, additive: bool) -> None:
        draw = np.random.default_rng(units)
        self.units, self.runs = units, 0
        self.table = draw.normal(size=(2**units, DOCUMENTS))
        self.worth = draw.normal(size=(units, DOCUMENTS))
        self.additive = additive

    def __call__(self, factors: np.ndarray) -> np.ndarray:
        self.runs += 1
        assert set(factors.tolist()) <= {0.0, 1.0}
        if self.additive:
            return factors @ self.worth + 3 * factors[0] * factors[1]
        return self.table[int(factors @ 2 ** np.arange(self.units))]

    def of(self, *members: int) -> np.ndarray:
        runs = self.runs
        factors = np.zeros(self.units)
        factors[list(members)] = 1
        value = self(factors)
        self.runs = runs
        return value


def found_in(game: Game, models: int) -> tuple[Effects, Any]:
    done: list[int] = []
    scores = np.arange(game.units, dtype=float) % 3
    subsets = Subsets(game.units, game, done.append)
    effects = effects_of(Grain.layer, subsets, scores, models)
    assert sum(done) == game.runs == effects.models <= planned(game.units, models)[0]
    return effects, subsets


def test_shapley_values_are_means_over_all_orders() -> None:
    game = Game(4, additive=False)
    effects, _ = found_in(game, 16)
    assert effects.exact
    assert effects.shapley is not None
    orders = list(permutations(range(4)))
    for unit in range(4):
        expected = np.zeros(DOCUMENTS)
        for order in orders:
            before = order[: order.index(unit)]
            expected += game.of(*before, unit) - game.of(*before)
        np.testing.assert_allclose(effects.shapley[0, unit], expected / len(orders), atol=1e-12)
    gain = game.of(0, 1, 2, 3) - game.of()
    np.testing.assert_allclose(effects.shapley[0].sum(0), gain, atol=1e-12)
    assert game.runs == 16
    assert effects.random is not None
    ones = np.mean([game.of(i) for i in range(4)], axis=0)
    np.testing.assert_allclose(effects.random[1], ones, atol=1e-12)


def test_units_alone_and_the_others_without_them() -> None:
    game = Game(5, additive=False)
    effects, _ = found_in(game, 1)
    assert effects.order.tolist() == [2, 1, 4, 0, 3]  # scores 0 1 2 0 1
    for unit in range(5):
        rest = set(range(5)) - {unit}
        np.testing.assert_array_equal(effects.add[unit], game.of(unit) - game.of())
        whole = game.of(*range(5))
        np.testing.assert_array_equal(effects.remove[unit], whole - game.of(*rest))
    for size in range(6):
        first, rest = effects.order[:size], effects.order[size:]
        np.testing.assert_array_equal(effects.keep[size], game.of(*first))
        np.testing.assert_array_equal(effects.drop[size], game.of(*rest))
    assert effects.shapley is None
    assert effects.random is None
    assert effects.left_out.endswith("at least 24 models; compare.path.models is 1")


def test_drawn_orders_give_the_value_of_units_that_add_up() -> None:
    """Only the first two units depend on the order, and share 3 between them."""
    game = Game(8, additive=True)
    effects, _ = found_in(game, 100)
    assert not effects.exact
    assert effects.shapley is not None
    assert effects.shapley.shape == (7, 8, DOCUMENTS)
    worth = game.worth.copy()
    worth[:2] += 1.5  # an order and its reverse give each of them 3 once
    np.testing.assert_allclose(effects.shapley.mean(0), worth, atol=1e-12)
    whole = game.of(*range(8))
    assert effects.random is not None
    np.testing.assert_allclose(effects.random[-1], whole, atol=1e-12)
    assert planned(8, 41)[1] == 0  # fewer than three pairs of orders have no interval
    assert planned(8, 42)[1] == 3


def test_a_single_unit() -> None:
    game = Game(1, additive=False)
    effects, _ = found_in(game, 2)
    assert effects.shapley is not None
    gain = game.of(0) - game.of()
    for values in (effects.add[0], effects.remove[0], effects.shapley[0, 0]):
        np.testing.assert_allclose(values, gain)
    assert game.runs == 2
