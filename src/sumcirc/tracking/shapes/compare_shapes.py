"""The shape of the summary of `sumcirc compare`."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys, Number
from sumcirc.tracking.shapes.change_shapes import MasksRecord, PathRecord
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
