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
    """status.json.

    Attributes:
        seconds: wall time of the run, over all resumes.
        resumed: number of times it was resumed.
        steps: total number of optimizer steps.
        traceback: name of the file with the traceback.
        data: hash of the documents of each split.
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
    """`model` of a configuration."""

    name: str
    path: NotRequired[str]


class DataSettings(TypedDict):
    """`data` of a configuration."""

    name: NotRequired[str]
    seed: NotRequired[int]
    sizes: NotRequired[dict[str, int | None]]


class SelectorSettings(TypedDict):
    """`selector` of a configuration."""

    name: NotRequired[str | None]
    seed: NotRequired[int | None]
    preset: NotRequired[str | None]
    layers: NotRequired[list[int] | None]
    score: NotRequired[str | None]


class AdaptationSettings(TypedDict):
    """`adaptation` of a configuration."""

    kind: str
    layers: str | list[int]


class OptimizerSettings(TypedDict):
    """`optimizer` of a configuration."""

    learning_rate: float


class LoggerSettings(TypedDict):
    """`logger` of a configuration."""

    kind: str
    project: str
    entity: NotRequired[str | None]


class SweepSettings(TypedDict):
    """`sweep` of a configuration."""

    name: str


class RunSettings(TypedDict):
    """`run` of a configuration."""

    axes: NotRequired[dict[str, Scalar | list[Any]]]


class Settings(TypedDict):
    """A configuration."""

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
    """`environment` of config.yaml."""

    sumcirc: NotRequired[str]
    python: NotRequired[str]
    platform: NotRequired[str]
    packages: NotRequired[dict[str, str | None]]
    commit: NotRequired[str | None]
    command: NotRequired[list[str]]


class ConfigFile(TypedDict):
    """config.yaml."""

    format: NotRequired[Format]
    verb: Verb
    config: dict[str, Any]  # `RunConfig`, where more than the values of settings is needed
    environment: Environment


class Bounds(TypedDict):
    """A mean with its interval."""

    mean: Number
    low: Number
    high: Number


class IntervalRecord(Bounds):
    """A mean with its interval, over `n` documents."""

    n: Count


ROUGE = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1")
Scores = Annotated[dict[str, IntervalRecord], Keys((*ROUGE, "length"))]


class NoticeRecord(TypedDict):
    """A notice, see `sumcirc.runtime.notices`."""

    text: str
    warning: bool


class NotedSummary(TypedDict):
    """Fields that every summary.json may contain."""

    format: NotRequired[Format]
    notices: NotRequired[list[NoticeRecord]]


class AdapterRecord(TypedDict):
    """`adapter` of a summary."""

    layers: NotRequired[list[Layer]]


class RougeRecord(TypedDict):
    """The ROUGE tokenizer of a run."""

    tokenizer: Literal["ascii", "unicode"]
    words: str


class ResultSummary(NotedSummary):
    """summary.json of train and evaluate."""

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
    """An area under a curve over circuit sizes, with those of random circuits."""

    value: IntervalRecord
    random: list[IntervalRecord]


class CircuitSummary(NotedSummary):
    """summary.json of circuit."""

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
    """The metric of two models, and the difference."""

    before: IntervalRecord
    after: IntervalRecord
    difference: IntervalRecord


class DirectRow(Bounds):
    """A component's contribution to the metric in two models; the interval is of the change."""

    part: str
    before: Number
    after: Number
    significant: NotRequired[bool]


class SpanRow(Bounds):
    """Attention of a head between two spans in two models; the interval is of the change."""

    source: str
    destination: str
    layer: Layer
    head: Layer
    before: Number
    after: Number
    significant: NotRequired[bool]


class HeadRow(TypedDict):
    """A head whose attention changed, see `compare.record_differences.HeadChange`."""

    layer: Layer
    head: Layer
    kl: Bounds
    entropy: Bounds
    significant: bool
    rank_low: Number
    rank_high: Number


class LayerRow(TypedDict):
    """A layer that changed, see `compare.record_differences.LayerChange`."""

    layer: Layer
    gained: Bounds
    kl: Bounds
    rank_low: Number
    rank_high: Number


class Promoted(TypedDict):
    """A token that a direction of the residual stream promotes, or with `value` < 0 demotes."""

    token: str
    value: float


class DifferencesRecord(TypedDict):
    """What differs between the measures of two models."""

    heads: list[HeadRow]
    layers: list[LayerRow]
    lens: list[Promoted]


class PartRow(Bounds):
    """Effect of patching one component, as a fraction of the gap between the models."""

    part: str
    kind: str
    layer: Layer
    index: Layer
    significant: bool
    effect: NotRequired[Bounds]
    attributed: NotRequired[Number]


class SetRow(Bounds):
    """Effect of patching several components together, as a fraction of the gap."""

    kind: str
    draw: int | None
    size: Count
    parts: NotRequired[list[str]]


class SynergyRow(Bounds):
    """What two parts do together beyond what each does alone."""

    parts: list[str]


class Agreement(TypedDict):
    """How well one backward pass estimates the measured effects of a kind of part."""

    pearson: Number


class Patching(TypedDict):
    """Patching effects in one direction."""

    parts: list[PartRow]
    sets: NotRequired[list[SetRow]]
    synergy: NotRequired[list[SynergyRow]]
    agreement: NotRequired[dict[str, Agreement]]


class DeltaScalingRow(Bounds):
    """The metric of a model with scaled weight changes, as a fraction of the gap."""

    arm: str
    layer: Layer | None
    module: str | None
    amount: Number
    perplexity: NotRequired[Bounds]
    significant: NotRequired[bool]


class Compared(TypedDict):
    """Results for one model `after`, compared with the model `before`."""

    metric: MetricRecord
    differences: NotRequired[DifferencesRecord]
    direct: NotRequired[list[DirectRow]]
    attention: NotRequired[list[SpanRow]]
    patching: NotRequired[
        Annotated[dict[str, Patching], Keys(allowed=("necessity", "sufficiency"))]
    ]
    surgery: NotRequired[list[DeltaScalingRow]]


class CompareSummary(NotedSummary):
    """summary.json of compare."""

    before: str
    metric: str
    unit: str
    items: Count
    after: dict[str, Compared]
    seconds: NotRequired[dict[str, Seconds]]


class SelectSummary(NotedSummary):
    """summary.json of select."""

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
    """An element of samples.json."""

    id: str
    document: str
    reference: str


class SizeRecord(TypedDict):
    """A circuit of one size in circuits/faithfulness.json."""

    edges: Count
    faithfulness: IntervalRecord


class RankingRecord(TypedDict):
    """Faithfulness over circuit sizes, for one ranking of edges."""

    points: list[SizeRecord]
    random: list[list[SizeRecord]]


class FaithfulnessFile(TypedDict):
    """circuits/faithfulness.json."""

    absolute: RankingRecord
    signed: RankingRecord


class OverlapRecord(TypedDict):
    """Overlap of each checkpoint's circuit with another checkpoint's; one value per checkpoint."""

    jaccard: list[Number]
    low: NotRequired[list[Number]]
    high: NotRequired[list[Number]]
    chance: list[Number]
    differs: list[bool]


class TrackRecord(TypedDict):
    """How the edges or nodes of a circuit changed; lists have one value per checkpoint."""

    to_first: OverlapRecord
    to_previous: OverlapRecord
    to_last: NotRequired[OverlapRecord]
    within: list[Number]
    change_rate: NotRequired[list[Number]]
    total_change_rate: float | None


class TransitionRecord(TypedDict):
    """Edges added and removed between two checkpoints, by layer of source and destination."""

    step: Step
    next_step: Step
    added_by_layer: list[list[float]]
    removed_by_layer: list[list[float]]
    noise_by_layer: list[list[float]]


class EvolutionFile(TypedDict):
    """circuits/evolution.json."""

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
    """A measure of an arm."""


class ArmRecord(TypedDict):
    """An arm in comparison.json."""

    arm: str
    seeds: list[str]
    trainable_parameters: float
    lowest_validation_loss: float | None
    remarks: list[str]
    scores: dict[str, ArmScore]


class OptionsRecord(TypedDict):
    """`options` of comparison.json."""

    metric: Literal["rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "facts"]
    confidence: Share


class ComparisonFile(TypedDict):
    """comparison/comparison.json."""

    command: str
    options: OptionsRecord
    documents: Count
    arms: list[ArmRecord]
    differences: list[dict[str, Any]]
    notes: list[str]
    in_words: list[str]
