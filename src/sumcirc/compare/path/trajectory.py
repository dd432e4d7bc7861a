"""Attribution of the gain along the training trajectory, from checkpoint to checkpoint.

With W_0 the weights before fine-tuning, W_1, ..., W_K those of the saved checkpoints and M the
metric of an item, the score of a unit u on segment k is the part of the gain that arises from its
change while the weights go from W_(k-1) to W_k in a straight line:

    score(u, k) = integral from 0 to 1 of < dM/dW at W(k, lambda), (W_k - W_(k-1))_u > d lambda

This is loss change allocation (J. Lan, R. Liu, H. Zhou and J. Yosinski, LCA: Loss Change Allocation
for Neural Network Training, NeurIPS 2019), with segments between checkpoints in place of steps, and
the adaptive quadrature of `compare.path.quadrature` in place of fixed points. All scores of a
segment add up to its gain, so a unit's scores summed over segments are scores of its part in the
whole gain, as are path scores along the straight line from W_0 to W_K.

A segment may err by (|g_k| / sum |g| + 1 / K) / 2 of the tolerances, with g_k its mean gain, so
that the sums over segments stay within them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.compare.deltas.deltas import Before
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.path.path_attribution import PathAttribution, PathRuns
from sumcirc.compare.path.quadrature import FIRST, Errors, Goal, integrate
from sumcirc.compare.path.segment_change import State, put, segment_tensors
from sumcirc.compare.path.unit_change import held, unit_order
from sumcirc.compare.path.units import Unit
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import inference
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import Grain, PathOptions

GRAINS = (Grain.layer, Grain.module, Grain.head)  # singular directions differ between segments
LEAST = 2  # checkpoints
_SAME = 1e-5  # of a tensor's largest entry: rounding of averaged weights

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Checkpoint:
    """A state of training.

    Attributes:
        step: number of optimizer steps.
        state: the trained parameters by their names in the model; those of an adapted model are
            named as in the model without PEFT's wrapper around it. They are only read, so they may
            be mapped from a file.
    """

    step: int
    state: State


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Scores of units on the segments between checkpoints.

    Attributes:
        items: ids of the items.
        steps: [segments + 1] optimizer steps of the ends of the segments, from 0.
        units: the units of each grain of GRAINS that changed on any segment.
        metric: [segments + 1, items] metric of each item before training and at each checkpoint.
        scores: for each grain, [segments, units, items] scores, in the metric's unit.
        straight: for each grain, [units, items] path scores along the straight line.
        errors: errors of the sums over segments, as shares of the gain.
        evaluations: [segments] number of points at which gradients were taken.
    """

    items: list[str]
    steps: list[int]
    units: dict[Grain, list[Unit]]
    metric: Values
    scores: dict[Grain, Values]
    straight: dict[Grain, Values]
    errors: Errors
    evaluations: list[int]

    @property
    def gain(self) -> Values:
        """[items] metric at the last checkpoint minus metric before training."""
        return self.metric[-1] - self.metric[0]

    @property
    def converged(self) -> bool:
        """Whether the errors are within their tolerances."""
        return self.errors.size <= 1


def attribute_trajectory(
    model: PreTrainedModel | PeftModel,
    before: Before,
    items: ItemSet,
    checkpoints: Sequence[Checkpoint],
    straight: PathAttribution,
    options: PathOptions | None = None,
    batch_size: int = 4,
    counted: Counted = silent,
) -> Trajectory:
    """Attribute the gain of a fine-tuned model to the units of its change, by segment of training.

    Args:
        model: the model after fine-tuning; it is restored exactly.
        before: weights of the model before fine-tuning, by name; None if `model` has an adapter,
            and the model before is `model` without it.
        items: the items whose metric is attributed, one by one.
        checkpoints: states of the training, the oldest first. One of the last must have the weights
            of `model`; later ones are left out.
        straight: the gain attributed along the straight line, on the same items.
        options: the settings; None for the defaults. `nodes` holds for each segment.
        batch_size: number of items in a batch where no gradient is taken.
        counted: shows the progress, as `runtime.progress.counted` does.

    Raises:
        UserError: fewer than two checkpoints remain, none has the weights of `model`, or the change
            can't be followed; see `segment_tensors`.
    """
    options = PathOptions() if options is None else options
    hooked = HookedModel(model)
    some = _until(hooked, checkpoints)
    metric = [straight.before]
    with counted("metric at the checkpoints", len(some)) as done:
        for one in some[:-1]:
            with _in_state(hooked, one.state):
                metric.append(items.values(hooked, batch_size))
            done(1)
        done(1)
    metric.append(straight.after)
    gains = np.diff(np.mean(metric, axis=1))
    allowed = (np.abs(gains) / np.abs(gains).sum() + 1 / len(gains)) / 2
    steps = [0, *(one.step for one in some)]
    found: list[_Segment] = []
    start: State | None = None
    for number, one in enumerate(some):
        last = number == len(some) - 1
        end = _trained(hooked, one.state) if last else one.state
        label = f"steps {steps[number]} to {one.step}: attribute along the change"
        ends = FIRST if number == 0 else (0.0, 1.0)  # a LoRA's metric bends where it begins
        goal = Goal(float(straight.gain.mean()), float(allowed[number]), ends, label)
        tensors = partial(segment_tensors, hooked, before, start, end, options.neuron_groups)
        with held(hooked, tensors) as change:
            if change.parameters:
                run = PathRuns(hooked, change, items, batch_size)
                integral = integrate(
                    run.slopes, run.metric, change.summed, options.nodes, counted, goal
                )
                moved = np.sum([panel.fine - panel.coarse for panel in integral.panels], axis=0)
                scores, moves = (change.by_grain(one) for one in (integral.values, moved))
                found.append(_Segment(change.units, scores, moves, integral.evaluations))
            else:
                found.append(_Segment({}, {}, {}, 0))
        start = end
    return _joined(items.ids, steps, np.stack(metric), found, straight)


def _until(hooked: HookedModel, checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """Return the checkpoints up to the one that has the model's weights."""
    for count in range(len(checkpoints), LEAST - 1, -1):
        if _is_model(hooked, checkpoints[count - 1].state):
            return checkpoints[:count]
    raise UserError(
        f"compare.path.trajectory=true: of {len(checkpoints)} checkpoints no second or later one"
        " has the weights of the model after; it was saved from another step (trainer.load_best) or"
        " converted, so leave the trajectory out"
    )


def _is_model(hooked: HookedModel, state: State) -> bool:
    """Return whether a state is that of the model in memory, up to rounding."""
    parameters = dict(hooked.model.named_parameters())
    for name, value in state.items():
        if name not in parameters or parameters[name].shape != value.shape:
            return False
        own = parameters[name].data
        apart = (own - value.to(own)).abs().max()
        if float(apart) > _SAME * float(own.abs().max()):
            return False
    return True


def _trained(hooked: HookedModel, state: State) -> dict[str, Tensor]:
    """Return the values in memory of the parameters that a state has."""
    return {name: hooked.model.get_parameter(name).data for name in state}


@contextmanager
def _in_state(hooked: HookedModel, state: State) -> Iterator[None]:
    with ExitStack() as stack, inference(hooked.model):
        for name, value in state.items():
            put(hooked.model.get_parameter(name), value, stack)
        yield


@dataclass(frozen=True, eq=False)
class _Segment:
    """Results for one segment.

    Attributes:
        units: the units of each grain that changed.
        scores: for each grain, [items, units] scores.
        moved: for each grain, [items, units] change of the scores between 3 and 7 nodes a panel.
        evaluations: number of points.
    """

    units: dict[Grain, list[Unit]]
    scores: dict[Grain, Values]
    moved: dict[Grain, Values]
    evaluations: int


def _joined(
    items: list[str],
    steps: list[int],
    metric: Values,
    found: Sequence[_Segment],
    straight: PathAttribution,
) -> Trajectory:
    """Return the segments' scores with the same units for all."""
    units: dict[Grain, list[Unit]] = {}
    scores: dict[Grain, Values] = {}
    lines: dict[Grain, Values] = {}
    gain = float(abs(straight.gain.mean()))
    largest = 0.0
    for grain in GRAINS:
        seen = {unit for one in found for unit in one.units.get(grain, ())}
        own = units[grain] = sorted(seen.union(straight.units[grain]), key=unit_order)
        place = {unit: number for number, unit in enumerate(own)}
        values = scores[grain] = np.zeros((len(found), len(own), len(items)))
        moved = np.zeros(len(own))
        for number, one in enumerate(found):
            if one.units:
                at = [place[unit] for unit in one.units[grain]]
                values[number, at] = one.scores[grain].T
                moved[at] += one.moved[grain].mean(0)
        line = lines[grain] = np.zeros((len(own), len(items)))
        line[[place[unit] for unit in straight.units[grain]]] = straight.scores[grain]
        largest = max(largest, float(np.abs(moved).max()))
    missed = scores[Grain.layer].sum((0, 1)) - (metric[-1] - metric[0])
    sums = (float(np.abs(missed.mean())), float(np.abs(missed).max()))
    errors = Errors(largest / gain, *(one / gain for one in sums))
    evaluations = [one.evaluations for one in found]
    return Trajectory(items, steps, units, metric, scores, lines, errors, evaluations)
