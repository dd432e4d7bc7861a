"""Learned masks over fine-tuning's change, beside other rankings of its units.

Rankings are made on one half of the items and judged on the other: the nested ranking and grafting
(`training.py`); path attribution (`compare.path`); weight patching, which moves each unit alone
into the model before, or takes it out of the model after (our reading of Weight Patching,
arXiv:2604.13694, which moves weights of single modules); the nested ranking inverted; and random
ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.compare.deltas.deltas import Before
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.masks.forgetting import Forgetting, Texts, measure_forgetting
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
    most_runs,
)
from sumcirc.compare.masks.training import Learned, Training, learn_graft, learn_nested
from sumcirc.compare.patching.patching_scores import halves
from sumcirc.compare.path.path_attribution import NoGainError, PathRuns
from sumcirc.compare.path.quadrature import integrate
from sumcirc.compare.path.subsets import Subsets, one_by_one
from sumcirc.compare.path.unit_change import UnitChange, unit_change
from sumcirc.compare.path.units import Unit
from sumcirc.errors import UserError
from sumcirc.evaluation.retention import KeptBase
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import MaskOptions, PathOptions, Shares
from sumcirc.statistics import MIN_DOCUMENTS
from sumcirc.statistics.noise import no_gap

Values = NDArray[np.float64]
FEWEST = 2 * MIN_DOCUMENTS  # items: one half is judged, with intervals


@dataclass(frozen=True, eq=False)
class LearnedMasks:
    """Rankings of the units of a change, and how they were judged.

    Attributes:
        items: ids of the items on which the rankings are judged.
        trained_on: ids of the items on which they were made.
        units: the units of the grain.
        extent: sizes of the units.
        judged: the rankings with what their sets keep and leave.
        losses: loss of every step, for each name and seed of a trained ranking.
        path_converged: whether the integrals of path attribution have converged.
        options: the settings.
        forgetting: how well plain texts are predicted with the sets' change; None without texts.
    """

    items: list[str]
    trained_on: list[str]
    units: list[Unit]
    extent: Extent
    judged: Judged
    losses: dict[tuple[str, int], Values]
    path_converged: bool
    options: MaskOptions
    forgetting: Forgetting | None = None

    @property
    def order(self) -> list[str]:
        """Labels of the units by the nested ranking, best first: by their mean rank over seeds."""
        orders = [self.judged.rankings[i].order for i in self.judged.of(MASKS)]
        ranks = np.mean([np.argsort(order) for order in orders], axis=0)
        return [self.units[i].label for i in np.argsort(ranks, kind="stable")]


def check_counts(items: int, texts: int | None = None) -> None:
    """Check that there are enough items and plain texts to learn masks and to judge them.

    Args:
        items: number of items, which are trained on one half and judged on the other.
        texts: number of plain texts; None if none are to be read.

    Raises:
        UserError: there are fewer than FEWEST items or MIN_DOCUMENTS texts.
    """
    if items < FEWEST:
        raise UserError(
            f"masks: there {_number(items, 'item')}; masks are trained on one half and judged on"
            f" the other, which takes {FEWEST} at least; raise compare.items, give more texts, or"
            " leave masks out of compare.analyses"
        )
    if texts is not None and texts < MIN_DOCUMENTS:
        raise UserError(
            f"compare.masks.retention=true: there {_number(texts, 'plain text')}, and intervals"
            f" take {MIN_DOCUMENTS} at least; give more in compare.text, or leave it out"
        )


def _number(count: int, noun: str) -> str:
    return f"is {count} {noun}" if count == 1 else f"are {count} {noun}s"


def learn_masks(
    model: PreTrainedModel | PeftModel,
    before: Before,
    items: ItemSet,
    options: MaskOptions | None = None,
    batch_size: int = 4,
    counted: Counted = silent,
    texts: Texts = (),
) -> LearnedMasks:
    """Learn which units of a fine-tuned model's change are enough for its gain.

    Args:
        model: the model after fine-tuning; it is restored exactly.
        before: weights of the model before fine-tuning, by name; None if `model` has an adapter,
            and the model before is `model` without it.
        items: the items; those with even indices are trained on, the others judged.
        options: the settings; None for the defaults.
        batch_size: number of items in a batch.
        counted: shows the progress, as `runtime.progress.counted` does.
        texts: token ids of plain texts, two or more each, which are read with the change of each
            set alone; empty to leave this out.

    Raises:
        NoGainError: no weight differs, a single unit does, or the gain can't be distinguished from
            zero.
        UserError: there are too few items or texts, or the change can't be scaled (see
            `compare.path.changed_tensors`).
    """
    options = MaskOptions() if options is None else options
    check_counts(len(items), len(texts) if texts else None)
    hooked = HookedModel(model)
    with unit_change(hooked, before, options.neuron_groups, 0) as change:
        if not change.parameters:
            raise NoGainError("masks: no weight differs between the models; nothing is ranked")
        units = change.units[options.units]
        if len(units) < 2:
            raise NoGainError(
                f"masks: only {units[0].label} has a change at compare.masks.grain={options.grain};"
                " nothing is ranked; use a finer grain, such as head"
            )
        sides = [ItemSet([items.items[place] for place in places]) for places in halves(len(items))]
        runs = [PathRuns(hooked, change, side, batch_size) for side in sides]
        for run in runs:
            if reason := no_gap(run.metric(0.0), run.metric(1.0)):
                raise NoGainError(f"masks: the gain is {reason}; nothing is ranked")
        extent = extent_of(change, options)
        learned = _learned(runs[0], extent, options, counted)
        made = [Ranking(*about, one.scores) for about, one in learned.items()]
        made += [Ranking(INVERTED, one.draw, -one.scores) for one in made if one.name == MASKS]
        along, converged = _along(runs[0], change, extent, options, counted)
        made += [*along, *_patched(runs[0], len(units), options, counted)]
        judged = _judged(runs[1], made, extent, options, counted)
        forgotten = None
        if texts:
            change.scale(0.0)
            kept = KeptBase(model, texts, batch_size)
            most = 2 + len(options.sizes) * len(judged.rankings)
            with counted("read plain texts with each set", most) as done:
                forgotten = measure_forgetting(judged, change, options.units, kept, done)
    losses = {about: one.losses for about, one in learned.items()}
    ids = [side.ids for side in sides]
    about = (converged, options, forgotten)
    return LearnedMasks(ids[1], ids[0], units, extent, judged, losses, *about)


def extent_of(change: UnitChange, options: MaskOptions) -> Extent:
    """Return the sizes of a change's units.

    Args:
        change: the change.
        options: the settings.
    """
    weights, squares = change.weights(options.units), change.squares(options.units)
    shares = weights / weights.sum(), squares / squares.sum()
    equal = np.full(len(weights), 1 / len(weights))
    return Extent(shares[0] if options.shares is Shares.weights else equal, *shares)


def _learned(
    run: PathRuns, extent: Extent, options: MaskOptions, counted: Counted
) -> dict[tuple[str, int], Learned]:
    """Train the nested ranking and the graft, and return them by name and seed."""
    before, after = run.metric(0.0), run.metric(1.0)
    slope = partial(run.mean_slope, options.units)
    training = Training(slope, extent.sized, after, float((after - before).mean()))
    found = {}
    for name, learn in ((MASKS, learn_nested), (GRAFTING, learn_graft)):
        with counted(f"train {name}", options.seeds * options.steps) as done:
            for seed in range(options.seeds):
                found[name, seed] = learn(training, options, seed, done)
    return found


def _along(
    run: PathRuns, change: UnitChange, extent: Extent, options: MaskOptions, counted: Counted
) -> tuple[list[Ranking], bool]:
    """Rank units by path scores, and by path scores per weight if sets are sized by weights."""
    found = integrate(run.slopes, run.metric, change.summed, PathOptions().nodes, counted)
    scores = change.by_grain(found.values)[options.units].mean(0)
    rankings = [Ranking(PATH, 0, scores)]
    if options.shares is Shares.weights:
        rankings.append(Ranking(PATH_DENSITY, 0, scores / extent.weights))
    return rankings, found.converged


def _patched(run: PathRuns, units: int, options: MaskOptions, counted: Counted) -> list[Ranking]:
    """Rank units by what each does alone, and by what is lost without it."""
    with counted(f"keep and remove each {options.grain}", 2 * units + 2) as done:
        effects = one_by_one(Subsets(units, partial(run.subset, options.units), done))
    return [
        Ranking(name, 0, values.mean(1))
        for name, values in zip((ADD, REMOVE), effects, strict=True)
    ]


def _judged(
    run: PathRuns, made: list[Ranking], extent: Extent, options: MaskOptions, counted: Counted
) -> Judged:
    """Judge rankings beside random ones."""
    units = len(extent.sized)
    drawn = [np.random.default_rng(seed).permutation(units) for seed in range(options.random)]
    random = [Ranking("", seed, one.astype(np.float64)) for seed, one in enumerate(drawn)]
    total = most_runs(len(made), len(random), len(options.sizes))
    with counted("judge rankings", total) as done:
        subsets = Subsets(units, partial(run.subset, options.units), done)
        return judge(made, random, subsets, extent, options.sizes)
