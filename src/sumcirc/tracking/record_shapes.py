"""The shapes of the files in a run directory, as far as readers rely on them.

`docs/reference/files.md` describes every key. Sizes are bounded where a reader allocates arrays of
that size.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys, Number, Range, Share
from sumcirc.tracking.record_format import FIRST, FORMAT

State = Literal["pending", "running", "done", "failed"]
Verb = Literal["train", "evaluate", "circuit", "compare", "select"]  # the verbs that make a run
Seconds = Annotated[float, Range(0, 1e12)]
Layer = Annotated[int, Range(0, 999)]  # also the index of a head or of a stream position
Step = Annotated[int, Range(-1, 10**15)]  # -1: the base model
Scalar = str | int | float | bool | None
Format = Annotated[int, Range(FIRST, FORMAT)]


class Status(TypedDict):
    """Contents of status.json.

    Attributes:
        format: format of the run's records (`record_format`).
        verb: the command that made the run.
        reason: why the run failed or was stopped; null otherwise.
        created, updated, started: local times; `started` is that of the last start or resume.
        seconds: wall time of the run in seconds, summed over all resumes.
        resumed: number of times the run was resumed.
        steps: total number of optimizer steps.
        process, host: id and machine of the process that last ran the run.
        wandb_id: id of the run in W&B.
        traceback: name of the file that contains the traceback; null if there is none.
        data: hash of the documents of each split, by the split's name.
    """

    state: State
    format: NotRequired[Format]
    verb: NotRequired[Verb]
    reason: NotRequired[str | None]
    created: NotRequired[str]
    updated: NotRequired[str]
    started: NotRequired[str]
    seconds: NotRequired[Seconds]
    resumed: NotRequired[Count]
    steps: NotRequired[Count]
    process: NotRequired[int]
    host: NotRequired[str]
    wandb_id: NotRequired[str]
    traceback: NotRequired[str | None]
    data: NotRequired[dict[str, str]]


class ModelSettings(TypedDict):
    """The settings under `model` that readers of a run use."""

    name: str
    path: NotRequired[str]


class DataSettings(TypedDict):
    """The settings under `data` that readers of a run use."""

    name: NotRequired[str]
    seed: NotRequired[int]
    sizes: NotRequired[dict[str, int | None]]


class SelectorSettings(TypedDict):
    """The settings under `selector` that readers of a run use."""

    name: NotRequired[str | None]
    seed: NotRequired[int | None]
    preset: NotRequired[str | None]
    layers: NotRequired[list[int] | None]
    score: NotRequired[str | None]


class AdaptationSettings(TypedDict):
    """The settings under `adaptation` that readers of a run use."""

    kind: str
    layers: str | list[int]


class OptimizerSettings(TypedDict):
    """The settings under `optimizer` that readers of a run use."""

    learning_rate: float


class LoggerSettings(TypedDict):
    """The settings under `logger` that readers of a run use."""

    kind: str
    project: str
    entity: NotRequired[str | None]


class SweepSettings(TypedDict):
    """The settings under `sweep` that readers of a run use."""

    name: str


class RunSettings(TypedDict):
    """The settings under `run` that readers of a run use.

    Attributes:
        axes: value of each setting that the run's sweep varies, by the setting's name.
    """

    axes: NotRequired[dict[str, Scalar | list[Any]]]


class Settings(TypedDict):
    """The settings of a configuration that readers of a run use, by section."""

    seed: NotRequired[int]
    model: NotRequired[ModelSettings]
    data: NotRequired[DataSettings]
    adaptation: NotRequired[AdaptationSettings]
    selector: NotRequired[SelectorSettings | None]
    optimizer: NotRequired[OptimizerSettings]
    logger: NotRequired[LoggerSettings]
    sweep: NotRequired[SweepSettings]
    run: NotRequired[RunSettings]


# settings that readers of runs rely on; comparisons of arms also need those of training
OF_EVERY_RUN = ("seed", "model", "logger", "sweep", "run")
RunConfig = Annotated[Settings, Keys(OF_EVERY_RUN)]
TrainConfig = Annotated[Settings, Keys((*OF_EVERY_RUN, "adaptation", "optimizer"))]


class Environment(TypedDict):
    """The section `environment` of config.yaml: what is needed to repeat the run.

    Attributes:
        sumcirc, python, platform: versions of this package, of Python and of the system.
        packages: version of each library; null if it is not installed.
        commit: git commit of this package's code; null if it is not in a checkout.
        command: words of the command that made the run.
    """

    sumcirc: NotRequired[str]
    python: NotRequired[str]
    platform: NotRequired[str]
    packages: NotRequired[dict[str, str | None]]
    commit: NotRequired[str | None]
    command: NotRequired[list[str]]


class ConfigFile(TypedDict):
    """Contents of config.yaml: the run's verb, settings and environment."""

    format: NotRequired[Format]
    verb: Verb
    config: dict[str, Any]  # `RunConfig`, where more than the values of settings is needed
    environment: Environment


class Bounds(TypedDict):
    """A mean with its interval, which extends from `low` to `high`."""

    mean: Number
    low: Number
    high: Number


class IntervalRecord(Bounds):
    """A mean over `n` documents with its interval, which extends from `low` to `high`."""

    n: Count


ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1")
Scores = Annotated[dict[str, IntervalRecord], Keys((*ROUGE, "length"))]


class NoticeRecord(TypedDict):
    """A notice about the data of a run; see `sumcirc.runtime.notices`.

    Attributes:
        text: the notice as a sentence.
        warning: whether so many items are affected that results mean something else.
    """

    text: str
    warning: bool


class NotedSummary(TypedDict):
    """Fields that every summary.json may contain."""

    format: NotRequired[Format]
    notices: NotRequired[list[NoticeRecord]]


class AdapterRecord(TypedDict):
    """The section `adapter` of summary.json.

    Attributes:
        layers: the layers that have an adapter.
    """

    layers: NotRequired[list[Layer]]


class RougeRecord(TypedDict):
    """The section `rouge` of summary.json: how ROUGE split texts into words.

    Attributes:
        tokenizer: name of the tokenizer.
        words: description of what counts as a word.
    """

    tokenizer: Literal["ascii", "unicode"]
    words: str


class ResultSummary(NotedSummary):
    """Contents of summary.json of `sumcirc train` and `sumcirc evaluate`.

    Attributes:
        model: the model.
        items: hash of the test items; null if there are none.
        systems: mean test scores of each system, by the system's name.
        rouge: how ROUGE split texts into words.
        seconds: wall time of each phase in seconds.
        steps: number of optimizer steps.
        total_parameters, trainable_parameters: parameters of the base model, and those trained.
        adapter: where the adapter is.
    """

    model: NotRequired[str]
    items: str | None
    systems: dict[str, Scores]
    rouge: NotRequired[RougeRecord]
    seconds: NotRequired[dict[str, Seconds]]
    steps: NotRequired[Count]
    total_parameters: NotRequired[Count]
    trainable_parameters: NotRequired[Count]
    adapter: NotRequired[AdapterRecord]


TrainSummary = Annotated[ResultSummary, Keys(("trainable_parameters", "steps"))]


class AreaRecord(TypedDict):
    """The area under a curve over circuit sizes.

    Attributes:
        value: the area for the run's circuits.
        random: the area for each draw of random circuits of the same sizes.
    """

    value: IntervalRecord
    random: list[IntervalRecord]


class CircuitSummary(NotedSummary):
    """Contents of summary.json of `sumcirc circuit`.

    Attributes:
        pairs: number of pairs of clean and corrupted documents.
        nodes, edges: numbers of nodes and edges of the model's graph.
        circuit_edges: number of edges in the circuit.
        faithfulness: faithfulness of the circuit.
        cpr: area under faithfulness over circuit sizes.
        cmd: area of |1 - faithfulness| over circuit sizes.
        jaccard: overlap of the circuits of two resamples of the pairs.
        jaccard_chance: the overlap that two random circuits have.
        spearman: rank correlation of the edges' scores between two resamples of the pairs.
    """

    pairs: Count
    nodes: Count
    edges: Count
    circuit_edges: Count
    faithfulness: IntervalRecord
    cpr: AreaRecord
    cmd: AreaRecord
    jaccard: NotRequired[IntervalRecord]
    jaccard_chance: NotRequired[Number]
    spearman: NotRequired[IntervalRecord]


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
        patching: effects of patching components, by direction.
        surgery: the metric with scaled weight changes.
    """

    metric: MetricRecord
    differences: NotRequired[DifferencesRecord]
    direct: NotRequired[list[DirectRow]]
    attention: NotRequired[list[SpanRow]]
    patching: NotRequired[
        Annotated[dict[str, Patching], Keys(allowed=("necessity", "sufficiency"))]
    ]
    surgery: NotRequired[list[DeltaScalingRow]]


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


class SelectSummary(NotedSummary):
    """Contents of summary.json of `sumcirc select`.

    Attributes:
        adapter: the layers that were chosen.
        seconds: wall time of each phase in seconds.
    """

    adapter: NotRequired[AdapterRecord]
    seconds: NotRequired[dict[str, Seconds]]


SUMMARIES: dict[str, Any] = {
    "train": TrainSummary,
    "evaluate": ResultSummary,
    "circuit": CircuitSummary,
    "compare": CompareSummary,
    "select": SelectSummary,
}


class Sample(TypedDict):
    """A test document in samples.json, with its id, text and reference summary."""

    id: str
    document: str
    reference: str


class SizeRecord(TypedDict):
    """The faithfulness of a circuit of one size, in circuits/faithfulness.json.

    Attributes:
        edges: number of edges in the circuit.
        faithfulness: its faithfulness.
    """

    edges: Count
    faithfulness: IntervalRecord


class RankingRecord(TypedDict):
    """Faithfulness over circuit sizes, where circuits are the first edges of one ranking.

    Attributes:
        points: one circuit per size.
        random: random circuits of the same sizes, one list per draw.
    """

    points: list[SizeRecord]
    random: list[list[SizeRecord]]


class FaithfulnessFile(TypedDict):
    """Contents of circuits/faithfulness.json.

    Attributes:
        absolute: results where edges are ranked by |score|.
        signed: results where edges are ranked by score.
    """

    absolute: RankingRecord
    signed: RankingRecord


class OverlapRecord(TypedDict):
    """The overlap of each checkpoint's circuit with that of another checkpoint.

    Every list has one value per checkpoint.

    Attributes:
        jaccard: the Jaccard index of the two circuits.
        low, high: bounds that contain 95 % of the indices of resampled documents.
        chance: the index that random circuits of these sizes have.
        differs: whether the circuits differ by more than noise.
    """

    jaccard: list[Number]
    low: NotRequired[list[Number]]
    high: NotRequired[list[Number]]
    chance: list[Number]
    differs: list[bool]


class TrackRecord(TypedDict):
    """How the edges, or the nodes, of a circuit changed in training.

    Every list has one value per checkpoint.

    Attributes:
        to_first, to_previous, to_last: overlap with the first, previous or last checkpoint.
        within: overlap between the circuits of two resamples of the documents.
        change_rate: members added or removed since the previous checkpoint, in percent of the first
            circuit.
        total_change_rate: sum of `change_rate`; null if it is undefined.
    """

    to_first: OverlapRecord
    to_previous: OverlapRecord
    to_last: NotRequired[OverlapRecord]
    within: list[Number]
    change_rate: NotRequired[list[Number]]
    total_change_rate: float | None


class TransitionRecord(TypedDict):
    """The edges that a circuit gained and lost between two checkpoints.

    The matrices have one row per layer of the edge's source, one column per layer of its
    destination.

    Attributes:
        step, next_step: the two checkpoints; -1 is the base model.
        added_by_layer, removed_by_layer: numbers of edges added and removed.
        noise_by_layer: number of changed edges that resampling the documents alone gives.
    """

    step: Step
    next_step: Step
    added_by_layer: list[list[float]]
    removed_by_layer: list[list[float]]
    noise_by_layer: list[list[float]]


class EvolutionFile(TypedDict):
    """Contents of circuits/evolution.json: how a circuit changed in training.

    Attributes:
        steps: the checkpoints as optimizer steps; -1 is the base model.
        edges, nodes: changes of the circuit's edges and of its nodes.
        transitions: edges gained and lost between consecutive checkpoints.
    """

    steps: list[Step]
    edges: TrackRecord
    nodes: TrackRecord
    transitions: list[TransitionRecord]


# columns of documents.parquet that readers rely on, and those that not all data has
DOCUMENT_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("id", "system"), str),
    "prediction": str | None,  # None where only the numbers were kept
    **dict.fromkeys(ROUGE, Share),
    "length": Annotated[float, Range(0)],
}


class ArmScore(Bounds):
    """The mean of one score over an arm's seeds and documents.

    Attributes:
        mean: the mean.
        low, high: ends of its interval.
    """


class ArmRecord(TypedDict):
    """An arm in comparison.json: a configuration that was trained with several seeds.

    Attributes:
        arm: name of the arm.
        seeds: its seeds.
        trainable_parameters: number of parameters that are trained.
        lowest_validation_loss: in nats per summary token; null if it is unknown.
        remarks: differences from the control other than the layers.
        scores: mean of each score, by its name.
    """

    arm: str
    seeds: list[str]
    trainable_parameters: float
    lowest_validation_loss: float | None
    remarks: list[str]
    scores: dict[str, ArmScore]


class OptionsRecord(TypedDict):
    """The section `options` of comparison.json.

    Attributes:
        metric: the score by which arms are compared.
        confidence: level of the intervals, such as 0.95.
    """

    metric: Literal["rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "facts"]
    confidence: Share


class ComparisonFile(TypedDict):
    """Contents of comparison/comparison.json.

    Attributes:
        command: the command that made the file.
        options: settings of the comparison.
        documents: number of test documents.
        arms: the compared arms.
        differences: differences between arms and controls.
        notes: remarks.
        in_words: the results as sentences.
    """

    command: str
    options: OptionsRecord
    documents: Count
    arms: list[ArmRecord]
    differences: list[dict[str, Any]]
    notes: list[str]
    in_words: list[str]
