"""Attribution of the gain to parts of the change, along the change itself.

With W(lambda) = W_before + lambda (W_after - W_before) and M the metric of an item, the score of a
unit u is the part of the gain that arises from its change dW_u while lambda goes from 0 to 1:

    score(u) = integral from 0 to 1 of < dM/dW at W(lambda), dW_u > d lambda

These are integrated gradients (M. Sundararajan et al. 2017, arXiv:1703.01365) of weights instead of
inputs, and loss change allocation (J. Lan et al., NeurIPS 2019) along the straight line instead of
the training trajectory. The scores of all units of a grain add up to M_after - M_before for every
item, which is checked. Of a LoRA only its factors are used; see `changed_tensors`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from sumcirc.compare.deltas.deltas import Before
from sumcirc.compare.items.item_set import ItemBatch, ItemSet
from sumcirc.compare.path.edge_writes import EdgePasses, EdgeWrites
from sumcirc.compare.path.interactions import Interactions, interactions_of, pair_subsets
from sumcirc.compare.path.quadrature import Integral, integrate
from sumcirc.compare.path.subsets import Effects, Subsets, effects_of, planned
from sumcirc.compare.path.unit_change import UnitChange, unit_change
from sumcirc.compare.path.units import Unit
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import Grain, PathOptions
from sumcirc.statistics.noise import no_gap

log = logging.getLogger(__name__)

Values = NDArray[np.float64]


class NoGainError(UserError):
    """Error that is raised if there is no change or no gain to attribute."""


@dataclass(frozen=True, eq=False)
class PathAttribution:
    """Path scores of all units, with their errors and with the effects of subsets of units.

    Attributes:
        items: ids of the items.
        units: the units of each grain that have a change.
        before, after: [items] metric of each item with the models before and after.
        scores: for each grain, [units, items] path scores, in the metric's unit.
        moved: for each grain, [units] change of the mean score between 3 and 7 nodes a panel.
        integral: the quadrature, with its errors.
        effects: effects of subsets of units; None if they were not requested.
        interactions: interactions of pairs of these units; None if not all subsets were run and
            they were not requested.
        edges: the scores divided by edge; None if that was not requested.
    """

    items: list[str]
    units: dict[Grain, list[Unit]]
    before: Values
    after: Values
    scores: dict[Grain, Values]
    moved: dict[Grain, Values]
    integral: Integral
    effects: Effects | None
    interactions: Interactions | None = None
    edges: EdgeWrites | None = None

    @property
    def gain(self) -> Values:
        """[items] metric after minus metric before."""
        return self.after - self.before

    @property
    def converged(self) -> bool:
        """Whether the errors of the integrals are within their tolerances."""
        return self.integral.converged

    def score(self, label: str) -> Values:
        """Return the scores of one unit by its label, [items].

        Raises:
            UserError: no unit with a change has this label.
        """
        for grain, units in self.units.items():
            for number, unit in enumerate(units):
                if unit.label == label:
                    return self.scores[grain][number]
        known = ", ".join(unit.label for unit in self.units[Grain.layer])
        raise UserError(
            f"path: `{label}` has no parameter that changed; layers with a change: {known} (all"
            " units are in .units)"
        )


def attribute_path(
    model: PreTrainedModel | PeftModel,
    before: Before,
    items: ItemSet,
    options: PathOptions | None = None,
    batch_size: int = 4,
    counted: Counted = silent,
) -> PathAttribution:
    """Attribute the gain of a fine-tuned model to the units of its change.

    Args:
        model: the model after fine-tuning; it is restored exactly.
        before: weights of the model before fine-tuning, by name; None if `model` has an adapter,
            and the model before is `model` without it.
        items: the items whose metric is attributed, one by one.
        options: the settings; None for the defaults.
        batch_size: number of items in a batch where no gradient is taken.
        counted: shows the progress, as `runtime.progress.counted` does.

    Raises:
        NoGainError: no weight differs, or the gain can't be distinguished from zero.
        UserError: the change can't be scaled (see `changed_tensors`), or not be divided by edge
            (see `EdgePasses`).
    """
    options = PathOptions() if options is None else options
    hooked = HookedModel(model)
    with unit_change(hooked, before, options.neuron_groups, options.directions) as change:
        if not change.parameters:
            raise NoGainError("path: no weight differs between the models; nothing is attributed")
        passes = EdgePasses(hooked, change) if options.edges else None
        run = PathRuns(hooked, change, items, batch_size, passes)
        start, end = run.metric(0.0), run.metric(1.0)
        if reason := no_gap(start, end):
            raise NoGainError(f"path: the gain is {reason}; nothing is attributed")
        integral = integrate(run.slopes, run.metric, change.summed, options.nodes, counted)
        values, differences = integral.values, integral.moved
        scores = change.by_grain(values[:, : change.size])
        moved = change.by_grain(differences[: change.size])
        effects = interactions = edges = None
        if passes is not None:
            of_edges = values[:, change.size :], differences[change.size :]
            edges = passes.result(*of_edges, change.units[Grain.module], scores[Grain.module])
        if options.effects is not None:
            effects, interactions = _of_subsets(run, change, scores, options, counted)
    return PathAttribution(
        items.ids,
        change.units,
        start,
        end,
        {grain: values.T for grain, values in scores.items()},
        moved,
        integral,
        effects,
        interactions,
        edges,
    )


def _of_subsets(
    run: PathRuns,
    change: UnitChange,
    scores: dict[Grain, Values],
    options: PathOptions,
    counted: Counted,
) -> tuple[Effects, Interactions | None]:
    """Keep and remove units, and pairs of units if that is asked for or takes no further run."""
    assert options.effects is not None
    grain, models = options.effects, options.models
    count = len(change.units[grain])
    with counted(f"keep and remove each {grain}", planned(count, models)[0]) as done:
        subsets = Subsets(count, lambda factors: run.subset(grain, factors), done)
        effects = effects_of(grain, subsets, scores[grain].mean(0), models)
    more = len(pair_subsets(count) - subsets.known.keys())
    if not more:
        return effects, interactions_of(subsets, effects.exact)
    if not options.interactions:
        return effects, None
    log.info("path: interactions of pairs of %ss take %d more models", grain, more)
    with counted(f"keep and remove pairs of {grain}s: {more} models", more) as done:
        subsets.done = done
        return effects, interactions_of(subsets, effects.exact)


class PathRuns:
    """Runs of the live model with its change scaled.

    Args:
        hooked: the model.
        change: its change.
        items: the items.
        size: number of items in a batch where no gradient of a single item is taken.
        passes: divides the scores by edge; None to leave that out.
    """

    def __init__(
        self,
        hooked: HookedModel,
        change: UnitChange,
        items: ItemSet,
        size: int,
        passes: EdgePasses | None = None,
    ) -> None:
        self._hooked, self._change, self._items, self._size = hooked, change, items, size
        self._passes = passes
        self._known: dict[float, Values] = {}

    def metric(self, amount: float) -> Values:
        """Return the metric with the whole change multiplied by a factor, [items]."""
        if amount not in self._known:
            self._change.scale(amount)
            self._known[amount] = self._items.values(self._hooked, self._size)
        return self._known[amount]

    def subset(self, grain: Grain, factors: Values) -> Values:
        """Return the metric with each unit of a grain multiplied by its factor, [items]."""
        self._change.scale_units(grain, factors)
        return self._items.values(self._hooked, self._size)

    def mean_slope(
        self, grain: Grain, factors: Values, places: Sequence[int]
    ) -> tuple[float, Values]:
        """Return the mean metric of some items and its derivative by the factor of each unit.

        Args:
            grain: the grain of the units.
            factors: [units of the grain] factors of the units' changes.
            places: indices of the items.

        Returns:
            The mean metric, and [units of the grain] its derivatives.
        """
        self._change.scale_units(grain, factors)
        total, found = 0.0, np.zeros(self._change.size)
        some = ItemSet([self._items.items[place] for place in places])
        for batch in some.batches(self._size, self._hooked.device):
            value, gradients = self._differentiate(batch)
            total += float(value)
            found += self._change.scores(gradients)
        return total / len(some), self._change.by_grain(found / len(some))[grain]

    def slopes(self, amount: float) -> Values:
        """Return the products of gradient and change at one lambda.

        Returns:
            [items, units] of the units of all grains, followed by those of the edges, if any.
        """
        self._change.scale(amount)
        units, passes = self._change.size, self._passes
        found = np.empty((len(self._items), units + (0 if passes is None else passes.size)))
        if passes is not None:
            passes.read()
        for batch in self._items.batches(1, self._hooked.device):
            if passes is None:
                gradients = self._differentiate(batch)[1]
            else:
                gradients, found[batch.places, units:] = passes.differentiate(batch)
            found[batch.places, :units] = self._change.scores(gradients)
        return found

    def _differentiate(self, batch: ItemBatch) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the metric, summed over a batch, and its gradients by the changed tensors."""
        with torch.enable_grad():
            value = batch.read(self._hooked, batch.run(self._hooked)).sum()
            gradients = torch.autograd.grad(
                value, self._change.parameters, allow_unused=True, materialize_grads=True
            )
        return value.detach(), gradients
