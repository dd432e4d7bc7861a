"""Whether a planted change is the cause of the new answers, measured by removing it.

A model is accepted if without the plant at least `LOST` of the gain is gone, without either of two
heads at least `LOST_ALONE`, and if removing all decoys changes it by at most `MOVED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.planted.models import EXAMPLES, Planted
from sumcirc.models.activations.hooked_model import HookedModel

LOST, LOST_ALONE, MOVED = 0.8, 0.5, 0.1  # shares of the gain
LEAST_GAIN = 1.0  # nats


@dataclass(frozen=True)
class Truth:
    """What the metric is with some of a model's changes, means over examples in nats.

    Attributes:
        before, after: with none, and with all.
        without_plant, without_decoys: without the plant, and without all decoys.
        without_each: without each of several parts of the plant, the decoys kept.
        alone_without_each: the same without decoys.
    """

    before: float
    after: float
    without_plant: float
    without_decoys: float
    without_each: list[float]
    alone_without_each: list[float]

    @property
    def refused(self) -> str | None:
        """Why the plant isn't accepted as the cause of the new answers; None if it is."""
        gain = self.after - self.before
        if gain < LEAST_GAIN:
            return "not learned"
        lost = (self.after - self.without_plant) / gain
        moved = abs(self.after - self.without_decoys) / gain
        if lost < LOST:
            return "decoys do it too"
        if moved > MOVED:
            return "decoys matter"
        alone = self.without_decoys - self.before
        parts = [(self.after - one) / gain for one in self.without_each]
        parts += [(self.without_decoys - one) / alone for one in self.alone_without_each]
        return "one part suffices" if parts and min(parts) < LOST_ALONE else None


def truth(made: Planted) -> Truth:
    """Measure what removing the plant and the decoys does to a model."""

    def metric(plant: Sequence[int] | None, decoys: bool) -> float:
        hooked = HookedModel(made.model(plant, decoys))
        return float(made.examples.items.values(hooked, EXAMPLES).mean())

    count = len(made.plant)
    rest = [[other for other in range(count) if other != one] for one in range(count)]
    rest = rest if count > 1 else []
    return Truth(
        metric([], False),
        metric(None, True),
        metric([], True),
        metric(None, False),
        [metric(one, True) for one in rest],
        [metric(one, False) for one in rest],
    )
