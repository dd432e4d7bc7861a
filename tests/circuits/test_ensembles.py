"""Ensembles of rankings against sums written out edge by edge."""

from __future__ import annotations

import numpy as np
import pytest

from sumcirc.circuits.ensembles import mean_rank, mean_share
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.models.architectures import Shape

SMALL = Graph(Shape(2, 2, 1, 8, 16, 64, 100, False))
PLACES = [(row, column) for _, row, column in SMALL.edge_names()]


def drawn(seed: int) -> np.ndarray:
    """Scores of both signs, some equal in size."""
    return np.random.default_rng(seed).integers(-5, 6, SMALL.exists.shape) / 3


def test_ranks_and_shares_are_averaged_by_edge() -> None:
    scores = [drawn(0), 1000 * drawn(1), drawn(2) ** 3]
    ranks, shares = mean_rank(scores, SMALL), mean_share(scores, SMALL)
    for place in PLACES:
        rank = share = 0.0
        for one in scores:
            sizes = [abs(one[other]) for other in PLACES]
            below = sum(size < abs(one[place]) for size in sizes)
            equal = sum(size == abs(one[place]) for size in sizes)
            rank += (below + (equal + 1) / 2) / 3
            share += abs(one[place]) / sum(sizes) / 3
        assert ranks[place] == pytest.approx(rank)
        assert shares[place] == pytest.approx(share)
    assert shares.sum() == pytest.approx(1)
    assert not ranks[~SMALL.exists].any()


def test_what_is_refused() -> None:
    for combine in (mean_rank, mean_share):
        with pytest.raises(UserError, match="ensemble of 1: give the scores of two"):
            combine([drawn(0)], SMALL)
        with pytest.raises(UserError, match=r"scores 1 of 2 .* are all 0"):
            combine([drawn(0), 0 * drawn(1)], SMALL)
        with pytest.raises(UserError, match=r"scores 0 of 2 .* NaN"):
            combine([np.nan * drawn(0), drawn(1)], SMALL)
        with pytest.raises(ValueError, match="shape"):
            combine([drawn(0)[:-1], drawn(1)], SMALL)
