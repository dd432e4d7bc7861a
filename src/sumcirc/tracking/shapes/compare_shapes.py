"""The shape of the summary of `sumcirc compare`."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys, Number
from sumcirc.tracking.shapes.common_shapes import (
    Bounds,
    IntervalRecord,
    Layer,
    NotedSummary,
    Seconds,
)


class MetricRecord(TypedDict):
    """The metric of the models `before` and `after`, and the difference between them."""

    before: IntervalRecord
    after: IntervalRecord
    difference: IntervalRecord


class DirectRow(Bounds):
    """A component's contribution to the metric in two models, and its change with an interval.

    Attributes:
        part: name of the component.
        before, after: its contribution in each model.
        mean, low, high: the change from `before` to `after`, and the ends of its interval.
        significant: whether the change differs from zero.
    """

    part: str
    before: Number
    after: Number
    significant: NotRequired[bool]


class SpanRow(Bounds):
    """A head's attention between two spans of the text in two models, and its change.

    Attributes:
        source, destination: names of the span attended to and of the attending span.
        layer, head: indices of the head.
        before, after: the attention in each model.
        mean, low, high: the change from `before` to `after`, and the ends of its interval.
        significant: whether the change differs from zero.
    """

    source: str
    destination: str
    layer: Layer
    head: Layer
    before: Number
    after: Number
    significant: NotRequired[bool]


class LensRow(Bounds):
    """What a residual stream predicts under the logit lens in two models, and its change.

    Attributes:
        measure: `metric`, `kl_model_lens` or `top1_agreement`.
        stream: 0 is the embedding, l the stream after layer l - 1.
        before, after: the value in each model, with its interval.
        mean, low, high: the change from `before` to `after`, and the ends of its interval.
        significant: whether the change differs from zero.
    """

    measure: str
    stream: Layer
    before: Bounds
    after: Bounds
    significant: bool


class HeadRow(TypedDict):
    """A head whose attention changed; see `compare.record_differences.HeadChange`."""

    layer: Layer
    head: Layer
    kl: Bounds
    entropy: Bounds
    significant: bool
    rank_low: Number
    rank_high: Number


class LayerRow(TypedDict):
    """A layer that changed; see `compare.record_differences.LayerChange`."""

    layer: Layer
    gained: Bounds
    kl: Bounds
    rank_low: Number
    rank_high: Number


class Promoted(TypedDict):
    """A token that a direction in the residual stream promotes, or demotes if `value` < 0.

    Attributes:
        token: the token's text.
        value: how much the direction changes the token's logit.
    """

    token: str
    value: float


class DifferencesRecord(TypedDict):
    """The largest differences between the measures of two models.

    Attributes:
        heads: the heads whose attention changed most.
        layers: the layers that changed most.
        lens: the tokens that the change of the residual stream promotes or demotes.
    """

    heads: list[HeadRow]
    layers: list[LayerRow]
    lens: list[Promoted]


class PartRow(Bounds):
    """The effect of patching one component from one model into the other.

    Attributes:
        part: name of the component.
        kind: kind of the component, such as `output` or `mlp`.
        layer, index: its layer, and its index in the layer.
        mean, low, high: the effect as a fraction of the difference between the two models' metric,
            and the ends of its interval.
        significant: whether the effect differs from zero.
        effect: the effect in the metric's unit.
        attributed: the estimate of the effect from one backward pass.
    """

    part: str
    kind: str
    layer: Layer
    index: Layer
    significant: bool
    effect: NotRequired[Bounds]
    attributed: NotRequired[Number]


class SetRow(Bounds):
    """The effect of patching several components together.

    Attributes:
        kind: `first` for the best components, `random` for random ones, `own` for the user's.
        draw: number of the random set; null for other kinds.
        size: number of components.
        parts: names of the components.
        mean, low, high: the effect as a fraction of the difference between the two models' metric,
            and the ends of its interval.
    """

    kind: str
    draw: int | None
    size: Count
    parts: NotRequired[list[str]]


class SynergyRow(Bounds):
    """The effect of patching two components together minus the sum of their single effects.

    Attributes:
        parts: names of the two components.
        mean, low, high: this difference, and the ends of its interval.
    """

    parts: list[str]


class Agreement(TypedDict):
    """How well one backward pass estimates the effects of patching a kind of component.

    Attributes:
        pearson: correlation of estimated and measured effects.
    """

    pearson: Number


class Patching(TypedDict):
    """The effects of patching components from one of the two models into the other.

    Attributes:
        parts: effects of single components.
        sets: effects of several components together.
        synergy: effects of two components beyond the sum of both.
        agreement: how well estimates agree with measured effects, by kind of component.
    """

    parts: list[PartRow]
    sets: NotRequired[list[SetRow]]
    synergy: NotRequired[list[SynergyRow]]
    agreement: NotRequired[dict[str, Agreement]]


class DeltaScalingRow(Bounds):
    """The metric of a model in which the change of some weights is scaled by a factor.

    Attributes:
        arm: which change was scaled.
        layer, module: the layer and module whose weights were changed; null for all.
        amount: the factor.
        mean, low, high: the metric as a fraction of the difference between the two models' metric,
            and the ends of its interval.
        perplexity: perplexity of plain text.
        significant: whether the metric differs from that of the model `after`.
    """

    arm: str
    layer: Layer | None
    module: str | None
    amount: Number
    perplexity: NotRequired[Bounds]
    significant: NotRequired[bool]


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


class MaskPoint(TypedDict):
    """What the sets of a ranking keep and leave at one size, as fractions of the gain.

    Attributes:
        size: the size.
        kept: the metric with the change of the set alone.
        left: the metric without it.
        weights, squares: the set's share of the changed weights, and of the sum of squared changes.
    """

    size: Number
    kept: Bounds
    left: Bounds
    weights: Number
    squares: Number


class MaskAreas(TypedDict):
    """Areas under the curves of `kept` and `left`, or differences of them."""

    kept: NotRequired[Bounds]
    left: NotRequired[Bounds]


class MaskRanking(TypedDict):
    """A ranking of the units of the weight change, judged.

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


class Compared(TypedDict):
    """The results for one of the models `after`, compared with the model `before`.

    Attributes:
        metric: the metric of both models.
        differences: differences between the models' measures.
        direct: direct contributions of components to the metric.
        attention: attention between spans of the text.
        logit_lens: what residual streams predict.
        patching: effects of patching components, by direction.
        surgery: the metric with scaled weight changes.
        path: the gain attributed to parts of the weight change.
        masks: learned masks over the weight change.
    """

    metric: MetricRecord
    differences: NotRequired[DifferencesRecord]
    direct: NotRequired[list[DirectRow]]
    attention: NotRequired[list[SpanRow]]
    logit_lens: NotRequired[list[LensRow]]
    patching: NotRequired[
        Annotated[dict[str, Patching], Keys(allowed=("necessity", "sufficiency"))]
    ]
    surgery: NotRequired[list[DeltaScalingRow]]
    path: NotRequired[PathRecord]
    masks: NotRequired[MasksRecord]


class CompareSummary(NotedSummary):
    """Contents of summary.json of `sumcirc compare`.

    Attributes:
        before: name of the model `before`.
        metric, unit: name and unit of the metric.
        items: number of documents or prompts.
        after: results of each model `after`, by its name.
        seconds: wall time of each phase in seconds.
    """

    before: str
    metric: str
    unit: str
    items: Count
    after: dict[str, Compared]
    seconds: NotRequired[dict[str, Seconds]]
