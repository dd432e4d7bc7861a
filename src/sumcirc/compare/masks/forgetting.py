"""What a model forgets with parts of its change: plain texts, read with each set's change alone.

A set that keeps the gain may also keep what fine-tuning did to other texts. For each set that is
judged (`judging.py`), the model with the change of the set alone reads plain texts: its mean
negative log-likelihood, and KL(model before || model with the set), both per token and text
(`evaluation.retention`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sumcirc.compare.masks.judging import Judged
from sumcirc.compare.path.subsets import Subsets
from sumcirc.compare.path.unit_change import UnitChange
from sumcirc.evaluation.retention import KeptBase
from sumcirc.schema import Grain

Values = NDArray[np.float64]
Texts = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class Forgetting:
    """How well plain texts are predicted with the change of each ranking's sets alone.

    Attributes:
        nll: [rankings, sizes, texts] mean negative log-likelihood, in nats a token.
        kl: [rankings, sizes, texts] mean KL(model before || model with the set), in nats a token.
        before: [texts] negative log-likelihood of the model before.
        after_nll, after_kl: [texts] values of the model after.
    """

    nll: Values
    kl: Values
    before: Values
    after_nll: Values
    after_kl: Values


def measure_forgetting(
    judged: Judged,
    change: UnitChange,
    grain: Grain,
    kept: KeptBase,
    done: Callable[[int], None],
) -> Forgetting:
    """Read plain texts with the change of every judged set alone.

    Args:
        judged: the rankings with their sets.
        change: the change of the model in memory, which is scaled.
        grain: the grain of the ranked units.
        kept: the texts as the model before predicts them.
        done: called with 1 after each set.
    """

    def read(factors: Values) -> Values:
        change.scale_units(grain, factors)
        losses = kept.losses()
        return np.array([[one.nll for one in losses], [one.kl for one in losses]], dtype=np.float64)

    units = len(change.units[grain])
    subsets = Subsets(units, read, done)
    values = np.array([[subsets.value(some) for some in found] for found in judged.sets])
    before, after = subsets.value(()), subsets.value(range(units))
    return Forgetting(values[:, :, 0], values[:, :, 1], before[0], *after)
