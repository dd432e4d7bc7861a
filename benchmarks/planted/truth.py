"""Whether a planted change is the cause of the new answers, measured by removing it.

A model is accepted if without the plant at least `LOST` of the gain is gone, without either of two
heads at least `LOST_ALONE`, and if removing all decoys changes it by at most `MOVED`. With a route,
at least `LOST` has to be gone as well while the planted head doesn't read its span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.planted.cuts import without_reading
from benchmarks.planted.models import EXAMPLES, KINDS, ROUTE, Planted
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
        without_reading: while the head of a route doesn't read a span, by the span's name.
    """

    before: float
    after: float
    without_plant: float
    without_decoys: float
    without_each: list[float]
    alone_without_each: list[float]
    without_reading: dict[str, float] = field(default_factory=dict)

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
        if parts and min(parts) < LOST_ALONE:
            return "one part suffices"
        cut = self.without_reading.get(ROUTE, self.before)
        return "reads it elsewhere" if (self.after - cut) / gain < LOST else None


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
        _without_reading(made),
    )


def _without_reading(made: Planted) -> dict[str, float]:
    """Return the metric while the planted head doesn't read a span; nothing if it is no route."""
    if not KINDS[made.kind].route:
        return {}
    hooked, items = HookedModel(made.model()), made.examples.items
    return {
        span: float(without_reading(hooked, items, made.plant[0], span, EXAMPLES).mean())
        for span in items.spans
    }
