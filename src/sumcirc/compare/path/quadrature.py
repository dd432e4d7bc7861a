"""Integrals over lambda from 0 to 1 whose nodes lie where the metric bends, with error estimates.

[0, 1] is divided into panels. On each panel the integral is computed by the Gauss-Legendre rule of
3 nodes and by the Kronrod rule of 7 nodes, which contains them (A. S. Kronrod, Nodes and Weights of
Quadrature Formulas, 1965; the panels are divided as in QUADPACK, R. Piessens et al., 1983). Since
the units' scores add up to the derivative of the metric, their integral over a panel is known: it
is the metric at the panel's end minus that at its start. A panel's error is the largest of

    |7 nodes - 3 nodes| of any unit's mean over documents     relative to UNIT_TOLERANCE of the gain
    |sum of the units - metric difference|, mean               relative to SUM_TOLERANCE of the gain
    |sum of the units - metric difference|, any document       relative to SUM_TOLERANCE of the gain

and the panel with the largest error is divided until the same three, summed over panels, are at
most 1, or too few nodes are left. The first panels are short at 0, where a LoRA's metric bends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sumcirc.runtime.progress import Counted, silent

UNIT_TOLERANCE, SUM_TOLERANCE = 0.02, 0.01  # shares of the gain
FIRST = (0.0, 0.125, 1.0)  # ends of the first panels
NODES = 7  # of a panel

# nodes from the middle of [-1, 1] to its end, with the weights of both rules
_X = np.array([0.0, 0.434243749346802558, 0.774596669241483377, 0.960491268708020283])
_FINE = np.array(
    [0.450916538658474142, 0.401397414775962223, 0.268488089868333441, 0.104656226026467265]
)
_COARSE = np.array([8 / 9, 0.0, 5 / 9, 0.0])
POINTS = np.concatenate([-_X[:0:-1], _X])
FINE_WEIGHTS = np.concatenate([_FINE[:0:-1], _FINE])
COARSE_WEIGHTS = np.concatenate([_COARSE[:0:-1], _COARSE])

Function = Callable[[float], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Panel:
    """An interval of lambda with the integrals over it.

    Attributes:
        start, end: ends of the interval.
        coarse, fine: [documents, units] integrals by 3 and by 7 nodes.
        rise: [documents] the metric at the end minus that at the start.
    """

    start: float
    end: float
    coarse: NDArray[np.float64]
    fine: NDArray[np.float64]
    rise: NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Errors of integrals, as shares of the gain.

    Attributes:
        unit: largest difference of a unit's mean score between 3 and 7 nodes in every panel.
        total: difference between the mean sum of all units and the gain.
        document: largest difference between a document's sum of all units and its gain, as a share
            of the mean gain.
    """

    unit: float
    total: float
    document: float

    @property
    def size(self) -> float:
        """The largest error relative to its tolerance; the integrals have converged up to 1."""
        sums = max(self.total, self.document) / SUM_TOLERANCE
        return max(self.unit / UNIT_TOLERANCE, sums)


@dataclass(frozen=True, eq=False)
class Integral:
    """Integrals over lambda from 0 to 1.

    Attributes:
        panels: the panels, in order.
        errors: errors of the integrals.
        evaluations: number of lambdas at which gradients were taken, including those in panels that
            were divided.
    """

    panels: list[Panel]
    errors: Errors
    evaluations: int

    @property
    def values(self) -> NDArray[np.float64]:
        """[documents, units] the integrals."""
        return np.sum([panel.fine for panel in self.panels], axis=0)

    @property
    def moved(self) -> NDArray[np.float64]:
        """[units] change of the mean integral between 3 and 7 nodes in every panel."""
        return np.sum([panel.fine - panel.coarse for panel in self.panels], axis=0).mean(0)

    @property
    def converged(self) -> bool:
        """Whether all errors are within their tolerances."""
        return self.errors.size <= 1


@dataclass(frozen=True)
class Goal:
    """What the errors of an integral are compared with; the defaults are those of a whole change.

    Attributes:
        gain: mean gain of which errors are shares.
        allowed: largest error relative to its tolerance.
        first: ends of the first panels.
        label: what the progress is shown as.
    """

    gain: float
    allowed: float = 1.0
    first: Sequence[float] = FIRST
    label: str = "attribute along the change"


def integrate(
    slope: Function,
    metric: Function,
    summed: slice,
    nodes: int,
    counted: Counted = silent,
    goal: Goal | None = None,
) -> Integral:
    """Integrate the scores of all units over lambda from 0 to 1.

    Args:
        slope: function of lambda that returns [documents, units] the products of gradient and
            change.
        metric: function of lambda that returns [documents] the metric; it is called for the end of
            a panel as often as the panel's neighbours are divided.
        summed: the units that partition the change, so that they add up to the metric's derivative.
        nodes: largest number of lambdas at which `slope` is called, at least NODES for each of the
            first panels.
        counted: shows the progress, as `runtime.progress.counted` does: of the first panels, and
            then of each two into which a panel is divided, since how many there will be isn't known
            beforehand.
        goal: what errors are shares of, and how large they may be; None for shares of the gain over
            this lambda, up to their tolerances.
    """
    if goal is None:
        goal = Goal(float((metric(1.0) - metric(0.0)).mean()))
    gain = goal.gain

    def panel(start: float, end: float, done: Callable[[int], None]) -> Panel:
        half = (end - start) / 2
        values = []
        for x in POINTS:
            values.append(slope(start + half * (1 + x)))
            done(1)
        coarse, fine = (
            half * np.tensordot(weights, values, 1) for weights in (COARSE_WEIGHTS, FINE_WEIGHTS)
        )
        return Panel(start, end, coarse, fine, metric(end) - metric(start))

    def panels_between(ends: Sequence[float]) -> list[Panel]:
        with counted(goal.label, NODES * (len(ends) - 1)) as done:
            return [panel(start, end, done) for start, end in pairwise(ends)]

    panels = panels_between(goal.first)
    evaluations = NODES * len(panels)
    while True:
        errors = errors_of(panels, gain, summed)
        if errors.size <= goal.allowed or evaluations + 2 * NODES > nodes:
            return Integral(panels, errors, evaluations)
        sizes = [errors_of([one], gain, summed).size for one in panels]
        worst = int(np.argmax(sizes))
        start, end = panels[worst].start, panels[worst].end
        middle = start + (end - start) * (0.25 if start == 0 else 0.5)
        panels[worst : worst + 1] = panels_between((start, middle, end))
        evaluations += 2 * NODES


def errors_of(panels: list[Panel], gain: float, summed: slice) -> Errors:
    """Return the errors of the integrals over some panels.

    Args:
        panels: the panels.
        gain: mean metric at 1 minus mean metric at 0, of which errors are shares.
        summed: the units that partition the change.
    """
    moved = np.sum([one.fine - one.coarse for one in panels], axis=0).mean(0)
    missed = np.sum([one.fine[:, summed].sum(1) - one.rise for one in panels], axis=0)
    found = np.abs(moved).max(), np.abs(missed.mean()), np.abs(missed).max()
    return Errors(*(float(one) / abs(gain) for one in found))
