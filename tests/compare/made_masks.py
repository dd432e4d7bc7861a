"""Learned masks of a game with four units, of which the first two do the same."""

from __future__ import annotations

import numpy as np

from sumcirc.compare.masks.forgetting import Forgetting
from sumcirc.compare.masks.judging import (
    ADD,
    GRAFTING,
    INVERTED,
    MASKS,
    PATH,
    PATH_DENSITY,
    REMOVE,
    Extent,
    Judged,
    Ranking,
    judge,
)
from sumcirc.compare.masks.learned_masks import LearnedMasks
from sumcirc.compare.path.subsets import Subsets
from sumcirc.compare.path.units import Unit
from sumcirc.schema import MaskOptions

COUNT = 8  # items
TEXTS = 9
SIZES = [0.25, 0.5]
WORTH = np.array([4.0, 4.0, 2.0, 1.0])


def game(factors: np.ndarray) -> np.ndarray:
    """The first two units are worth 4 together or alone, the others 2 and 1."""
    draw = np.random.default_rng(4)
    noise = draw.normal(size=COUNT)
    worth = draw.normal(1, 0.1, size=COUNT)
    value = 4 * max(factors[:2]) + factors[2:] @ WORTH[2:]
    return noise + worth * value


def made_masks() -> LearnedMasks:
    """Two seeds of masks, grafting and inverted; all other rankings once; three random ones."""
    units = [Unit(f"layer {i // 2} {name}", i // 2, name) for i, name in enumerate("abcd")]
    best = np.array([[4.0, 1.0, 3.0, 2.0], [1.0, 4.0, 3.0, 2.0]])
    rankings = [Ranking(MASKS, seed, one) for seed, one in enumerate(best)]
    rankings += [Ranking(GRAFTING, seed, one[::-1].copy()) for seed, one in enumerate(best)]
    rankings += [Ranking(name, 0, WORTH) for name in (PATH, PATH_DENSITY, ADD)]
    rankings.append(Ranking(REMOVE, 0, np.array([0.0, 0.0, 2.0, 1.0])))
    rankings += [Ranking(INVERTED, seed, -one) for seed, one in enumerate(best)]
    draws = [np.random.default_rng(seed).permutation(4).astype(float) for seed in range(3)]
    random = [Ranking("", seed, one) for seed, one in enumerate(draws)]
    extent = Extent(np.full(4, 0.25), np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1]))
    judged = judge(rankings, random, Subsets(4, game), extent, SIZES)
    losses = {(MASKS, seed): np.linspace(1, 0.2, 40) for seed in range(2)}
    items = [f"item-{number}" for number in range(COUNT)]
    options = MaskOptions(sizes=SIZES, seeds=2, retention=True)
    about = (True, options, made_forgetting(judged))
    return LearnedMasks(items, items[:3], units, extent, judged, losses, *about)


def made_forgetting(judged: Judged) -> Forgetting:
    """Texts whose loss rises by 0.1, and whose KL by 0.2, times what a set's units are worth."""
    worth = np.array([[WORTH[members].sum() for members in some] for some in judged.sets])
    text = np.linspace(0.8, 1.2, TEXTS)
    before = np.linspace(2, 3, TEXTS)
    effect = worth[..., None] * text
    whole = WORTH.sum() * text
    return Forgetting(
        before + 0.1 * effect, 0.2 * effect, before, before + 0.1 * whole, 0.2 * whole
    )
