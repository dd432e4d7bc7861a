"""Shapes of what `sumcirc compare` finds in the weight change: path attribution, learned masks."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys, Number
from sumcirc.tracking.shapes.common_shapes import Bounds, Layer


class PathRow(Bounds):
    """The part of the gain that is attributed to a unit of the weight change.

    Attributes:
        unit: name of the unit.
        layer, part, index: what the unit is; null where it has none.
        mean, low, high: its path score as a fraction of the difference between the two models'
            metric, and the ends of its interval.
        score: the same in the metric's unit.
        significant: whether the score differs from zero.
        moved: change of the share between 3 and 7 points in each panel.
    """

    unit: str
    layer: Layer | None
    part: str
    index: int | None
    score: Bounds
    significant: bool
    moved: Number


class UnitEffects(TypedDict):
    """Effects of a unit as fractions of the difference between the two models' metric.

    Attributes:
        unit: name of the unit.
        layer, part, index: what the unit is; null where it has none.
        path: its path score.
        add: effect of adding it to the model before.
        remove: effect of removing it from the model after.
        shapley: its Shapley value.
    """

    unit: str
    layer: Layer | None
    part: str
    index: int | None
    path: Bounds
    add: Bounds
    remove: Bounds
    shapley: NotRequired[Bounds]


class CurvePoint(TypedDict):
    """The metric with several units of the change, as fractions of the difference.

    Attributes:
        size: number of units.
        keep: the units with the largest path scores alone.
        drop: all other units.
        random: random units alone.
    """

    size: Count
    keep: Bounds
    drop: Bounds
    random: NotRequired[Bounds]


class TestedBounds(Bounds):
    """A mean as a fraction of the difference between the two models' metric, with its interval.

    Attributes:
        significant: whether it differs from zero.
    """

    significant: bool


class UnitPair(TypedDict):
    """Interactions of two units of the weight change, as fractions of the difference.

    They are negative if the two stand in for each other, and positive if they need each other.

    Attributes:
        units: names of the two units.
        add: interaction of the two alone.
        remove: interaction of the two when they are removed from the model after.
        shapley: the Shapley interaction index.
    """

    units: list[str]
    add: TestedBounds
    remove: TestedBounds
    shapley: NotRequired[TestedBounds]


class PathEffects(TypedDict):
    """Effects of units that are kept or removed.

    Attributes:
        grain: how the change is divided into units.
        models: number of models that were run.
        exact: whether Shapley values are from all subsets of units.
        orders: number of drawn orders of the units for Shapley values.
        left_out: why there are no Shapley values; empty if there are.
        units: effects of single units.
        order: names of the units by their path scores.
        curve: effects of several units together.
        agreement: rank correlations of path scores with the effects.
        interactions: interactions of each two units.
    """

    grain: str
    models: Count
    exact: bool
    orders: Count
    left_out: str
    units: list[UnitEffects]
    order: list[str]
    curve: list[CurvePoint]
    agreement: dict[str, Number]
    interactions: NotRequired[list[UnitPair]]


class PathErrors(TypedDict):
    """Errors of path scores, as fractions of the difference between the two models' metric.

    Attributes:
        unit: largest change of a unit's score between 3 and 7 points in each panel.
        total: the sum of all units minus the difference.
        document: the same for the item where it is largest.
    """

    unit: Number
    total: Number
    document: Number


class TrajectoryRow(Bounds):
    """The part of the gain that is attributed to a unit over the training trajectory.

    Attributes:
        unit: name of the unit.
        layer, part, index: what the unit is; null where it has none.
        mean, low, high: its score over the trajectory as a fraction of the difference.
        path: its path score along the straight line.
        difference: the former minus the latter.
        segments: its score on each segment.
    """

    unit: str
    layer: Layer | None
    part: str
    index: int | None
    path: Bounds
    difference: TestedBounds
    segments: list[TestedBounds]


class TrajectorySegment(TypedDict):
    """A segment of the trajectory between two checkpoints.

    Attributes:
        start, end: optimizer steps.
        evaluations: number of points at which gradients were taken.
        gain: its part of the difference.
    """

    start: Count
    end: Count
    evaluations: Count
    gain: Bounds


class StraightPath(TypedDict):
    """Scores over the trajectory beside path scores along the straight line.

    Attributes:
        ranking: rank correlation of the two over units.
        moved: half the sum of their absolute differences.
        lowering: fraction of scores of segments that differ from zero and are against the gain.
    """

    ranking: Bounds
    moved: Number
    lowering: Number


class TrajectoryCheckpoint(TypedDict):
    """What a checkpoint says about the last one.

    Attributes:
        step: optimizer step.
        gain: gain so far as a fraction of the last.
        items: rank correlation of the two over items.
        ranking: rank correlation of scores so far with the last over units, by grain.
    """

    step: Count
    gain: Bounds
    items: Bounds
    ranking: dict[str, Bounds]


class TrajectoryRecord(TypedDict):
    """The gain attributed to parts of the weight change, along the training trajectory.

    Attributes:
        converged: whether the errors are within their tolerances.
        errors: errors of the sums over segments.
        segments: the segments.
        units: scores of units, by grain.
        straight: comparison with the straight line, by grain.
        checkpoints: what each checkpoint says about the last one.
        agrees_from: step from which on the ranking of units agrees with the last, by grain; null if
            it doesn't before the last.
    """

    converged: bool
    errors: PathErrors
    segments: list[TrajectorySegment]
    units: dict[str, list[TrajectoryRow]]
    straight: dict[str, StraightPath]
    checkpoints: list[TrajectoryCheckpoint]
    agrees_from: dict[str, int | None]


class PathRecord(TypedDict):
    """The gain attributed to parts of the weight change, along the change.

    Attributes:
        left_out: why there are no results; nothing else is stored then.
        converged: whether the errors are within their tolerances.
        errors: the errors.
        evaluations: number of points along the change at which gradients were taken.
        panels: ends of the panels of the quadrature.
        units: scores of units, by grain.
        effects: effects of units that are kept or removed.
        trajectory: the same along the training trajectory.
    """

    left_out: NotRequired[str]
    converged: NotRequired[bool]
    errors: NotRequired[PathErrors]
    evaluations: NotRequired[Count]
    panels: NotRequired[list[Number]]
    units: NotRequired[
        Annotated[dict[str, list[PathRow]], Keys(allowed=("layer", "module", "head", "direction"))]
    ]
    effects: NotRequired[PathEffects]
    trajectory: NotRequired[TrajectoryRecord]


class MaskPoint(TypedDict):
    """Shares of the gain with a ranking's best units alone and without them, at one size.

    Attributes:
        size: the size.
        kept: the metric with the change of the set alone.
        left: the metric without it.
        weights, squares: the set's share of the changed weights, and of the sum of squared changes.
        nll_change, kl: with the set's change alone, change of the negative log-likelihood of plain
            texts, and KL from the model before on them, in nats a token.
    """

    size: Number
    kept: Bounds
    left: Bounds
    weights: Number
    squares: Number
    nll_change: NotRequired[Bounds]
    kl: NotRequired[Bounds]


class MaskRetention(TypedDict):
    """How well both models predict plain texts, in nats a token.

    Attributes:
        texts: number of texts.
        before: negative log-likelihood of the model before.
        nll_change, kl: its change in the model after, and KL from the model before.
    """

    texts: Count
    before: Bounds
    nll_change: Bounds
    kl: Bounds


class MaskAreas(TypedDict):
    """Areas under the curves of `kept` and `left`, or differences of them."""

    kept: NotRequired[Bounds]
    left: NotRequired[Bounds]


class MaskRanking(TypedDict):
    """How a ranking of the units of the weight change was judged.

    Attributes:
        draws: number of seeds or random draws.
        curve: what its sets keep and leave.
        area: areas under both curves.
        difference: areas of the learned masks minus those of this ranking; empty for the masks.
        loss: mean loss of the first and of the last steps, if it was trained.
    """

    draws: Count
    curve: list[MaskPoint]
    area: MaskAreas
    difference: MaskAreas
    loss: NotRequired[list[Number]]


class MaskUnit(TypedDict):
    """A unit of the weight change with its ranks, 1 for the best.

    Attributes:
        unit: name of the unit.
        layer, part, index: what the unit is; null where it has none.
        weights, squares: its share of the changed weights, and of the sum of squared changes.
        ranks: rank by the learned masks for each seed.
        grafting, path, add, remove: rank by the other rankings, mean over draws.
    """

    unit: str
    layer: Layer | None
    part: str
    index: int | None
    weights: Number
    squares: Number
    ranks: list[Count]
    grafting: Number
    path: Number
    add: Number
    remove: Number


class MasksRecord(TypedDict):
    """Rankings of the units of the weight change, with learned masks among them.

    Attributes:
        left_out: why there are no results; nothing else is stored then.
        grain: how the change is divided into units.
        shares: what sizes are shares of, `weights` or `units`.
        trained_on, judged_on: number of items on which rankings were made, and judged.
        path_converged: whether path scores have converged.
        sizes: sizes of the sets.
        rankings: the rankings by their names.
        units: the units by their ranks.
        agreement: rank correlations of the learned masks between seeds and with other rankings.
        retention: how well plain texts are predicted, if they were read.
    """

    left_out: NotRequired[str]
    grain: NotRequired[str]
    shares: NotRequired[str]
    trained_on: NotRequired[Count]
    judged_on: NotRequired[Count]
    path_converged: NotRequired[bool]
    sizes: NotRequired[list[Number]]
    rankings: NotRequired[dict[str, MaskRanking]]
    units: NotRequired[list[MaskUnit]]
    agreement: NotRequired[dict[str, Number]]
    retention: NotRequired[MaskRetention]
