"""The shapes of the files in `circuits/`, and of the summary of `sumcirc circuit`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Number
from sumcirc.tracking.shapes.common_shapes import IntervalRecord, NotedSummary, Step
from sumcirc.tracking.shapes.span_shapes import BySpanSummary


class AreaRecord(TypedDict):
    """The area under a curve over circuit sizes.

    Attributes:
        value: the area for the run's circuits.
        random: the area for each draw of random circuits of the same sizes.
    """

    value: IntervalRecord
    random: list[IntervalRecord]


class AgainstRecord(TypedDict):
    """The circuit of the model `against`, and how far the run's circuit overlaps with it.

    Attributes:
        model: name of the model.
        circuit_edges: number of edges in its circuit.
        faithfulness: faithfulness of its circuit.
        in_sample: the same on the pairs on which its edges were chosen; null or missing if
            `faithfulness` is in-sample.
        jaccard, chance, within: overlap of the two circuits' edges, the overlap of random circuits,
            and that of two resamples of one model.
        gained, lost: numbers of edges in only the run's circuit, and only in that of the model.
        differs: whether the circuits differ by more than noise; null if it is unknown.
    """

    model: str
    circuit_edges: Count
    faithfulness: IntervalRecord
    in_sample: NotRequired[IntervalRecord | None]
    jaccard: Number
    chance: Number
    within: float | None
    gained: Count
    lost: Count
    differs: bool | None


class ReachedRecord(TypedDict):
    """The smallest circuit of the curve whose faithfulness reaches a level.

    Attributes:
        faithfulness: the level.
        fraction, edges: size of the circuit as a share of all edges, and as a number.
    """

    faithfulness: float
    fraction: float
    edges: Count


class InSampleRecord(TypedDict):
    """Figures of a circuit on the pairs on which its edges were chosen.

    Attributes:
        faithfulness, cpr, cmd: as in `CircuitSummary`.
        reached: the smallest circuit that is faithful enough there.
    """

    faithfulness: IntervalRecord
    cpr: IntervalRecord
    cmd: IntervalRecord
    reached: ReachedRecord | None


class CardCounts(TypedDict):
    """The lines of a circuit's card that passed, that failed, and that weren't tested."""

    passed: Count
    failed: Count
    not_tested: Count


class CardSummary(CardCounts):
    """The entry `card` of a summary.

    Attributes:
        verdicts: the verdict of each line, by its name.
    """

    verdicts: dict[str, str]


class CircuitSummary(NotedSummary):
    """Contents of summary.json of `sumcirc circuit`.

    Attributes:
        pairs: number of pairs of clean and corrupted documents on which edges were chosen.
        held_out_pairs: number of other pairs, on which circuits were judged; 0 or missing if they
            were judged in-sample, on `pairs`.
        nodes, edges: numbers of nodes and edges of the model's graph.
        circuit_edges: number of edges in the circuit.
        faithfulness: faithfulness of the circuit.
        cpr: area under faithfulness over circuit sizes.
        cmd: area of |1 - faithfulness| over circuit sizes.
        control: faithfulness of random circuits that match the circuit.
        control_shared: mean fraction of the circuit's edges that these contain.
        reached: the smallest circuit that is faithful enough; null if no size is.
        in_sample: figures on `pairs`, beside those on held-out pairs.
        jaccard: overlap of the circuits of two resamples of the pairs.
        jaccard_chance: the overlap that two random circuits have.
        spearman: rank correlation of the edges' scores between two resamples of the pairs.
        against: the circuit of the model `against`, and how far the two circuits overlap.
        card: verdicts of the circuit's card.
        by_span: the circuit by span; missing unless `circuit.by_span` was set.
    """

    pairs: Count
    held_out_pairs: NotRequired[Count]
    nodes: Count
    edges: Count
    circuit_edges: Count
    faithfulness: IntervalRecord
    cpr: AreaRecord
    cmd: AreaRecord
    control: NotRequired[IntervalRecord | None]
    control_shared: NotRequired[Number | None]
    reached: NotRequired[ReachedRecord | None]
    in_sample: NotRequired[InSampleRecord]
    jaccard: NotRequired[IntervalRecord]
    jaccard_chance: NotRequired[Number]
    spearman: NotRequired[IntervalRecord]
    against: NotRequired[AgainstRecord]
    card: NotRequired[CardSummary]
    by_span: NotRequired[BySpanSummary]


class SizeRecord(TypedDict):
    """The faithfulness of a circuit of one size, in circuits/faithfulness.json.

    Attributes:
        edges: number of edges in the circuit.
        faithfulness: its faithfulness.
    """

    edges: Count
    faithfulness: IntervalRecord


class RankingRecord(TypedDict):
    """Faithfulness over circuit sizes, where each circuit consists of the top edges of one ranking.

    Attributes:
        points: the ranking's circuit of each size.
        random: random circuits of the same sizes, one list per draw.
        control: faithfulness of the random circuits of each size together.
    """

    points: list[SizeRecord]
    random: list[list[SizeRecord]]
    control: NotRequired[list[IntervalRecord]]


class RankingsRecord(TypedDict):
    """Faithfulness over circuit sizes for both rankings; see `FaithfulnessFile`."""

    absolute: RankingRecord
    signed: RankingRecord


class FaithfulnessFile(TypedDict):
    """Contents of circuits/faithfulness.json.

    Attributes:
        absolute: results where edges are ranked by |score|.
        signed: results where edges are ranked by score.
        in_sample: the same on the pairs on which the edges were chosen; missing if `absolute` and
            `signed` are in-sample.
    """

    absolute: RankingRecord
    signed: RankingRecord
    in_sample: NotRequired[RankingsRecord]


class CardLineRecord(TypedDict):
    """A line of a circuit's card; see `circuits.card.lines`.

    Attributes:
        name: name of the line.
        status: its verdict: `pass`, `fail` or `not tested`.
        measures: what the number is.
        number: the number; null if it wasn't measured.
        bar, source: what the number has to reach, and where test and bar come from.
        said: what was found, or why the line wasn't tested.
        setting: the setting that tests the line; empty if it was tested.
        passes: number of passes over one pair that the test takes.
    """

    name: str
    status: Literal["pass", "fail", "not tested"]
    measures: str
    number: IntervalRecord | None
    bar: str
    source: str
    said: str
    setting: str
    passes: Count


class IdentificationRecord(TypedDict):
    """What a circuit is a circuit of, in sentences."""

    estimand: list[str]
    ablation: list[str]
    assumptions: list[str]


class CardFile(CardCounts):
    """Contents of circuits/card.json and circuits/against-card.json.

    Attributes:
        lines: the lines.
        identification: what is estimated and assumed.
    """

    lines: list[CardLineRecord]
    identification: IdentificationRecord


class OverlapRecord(TypedDict):
    """The overlap of each checkpoint's circuit with that of another checkpoint.

    Every list has one value per checkpoint.

    Attributes:
        jaccard: the Jaccard index of the two circuits.
        low, high: bounds that contain 95 % of the Jaccard indices over resamples of the documents.
        chance: the Jaccard index of random circuits of the same sizes.
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
        change_rate: number of edges (or nodes) added or removed since the previous checkpoint, as a
            percentage of those in the first circuit.
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
        noise_by_layer: number of edges that change if only the documents are resampled.
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


class SharedRecord(TypedDict):
    """The overlap of two circuits' edges, or of their nodes; see `circuits.circuit_comparison`.

    Attributes:
        before, after, shared: number of members of each circuit, and of both.
        jaccard, chance: their Jaccard index, and the index that random circuits have.
        low, high: bounds that contain 95 % of the indices of resampled documents.
        within: overlap between the circuits of two resamples of one model.
        differs: whether the circuits differ by more than noise.
    """

    before: Count
    after: Count
    shared: Count
    jaccard: Number
    chance: Number
    low: float | None
    high: float | None
    within: float | None
    differs: bool | None


class ChangedEdgeRecord(TypedDict):
    """An edge of only one of two circuits, with its score in each model."""

    source: str
    destination: str
    before: float
    after: float


class CircuitChangeFile(TypedDict):
    """Contents of circuits/comparison.json: how the circuits of two models differ.

    Attributes:
        before, after: names of the models.
        edges, nodes: overlap of the circuits' edges and of their nodes.
        gained, lost: edges in only one of the circuits.
        added_by_layer, removed_by_layer, noise_by_layer, added_by_kind, removed_by_kind,
            noise_by_kind: numbers of edges, by source and destination.
        source_kinds, destination_kinds: names of the rows and columns of the counts by kind.
    """

    before: str
    after: str
    edges: SharedRecord
    nodes: SharedRecord
    gained: list[ChangedEdgeRecord]
    lost: list[ChangedEdgeRecord]
    added_by_layer: list[list[float]]
    removed_by_layer: list[list[float]]
    noise_by_layer: list[list[float]] | None
    added_by_kind: list[list[float]]
    removed_by_kind: list[list[float]]
    noise_by_kind: list[list[float]] | None
    source_kinds: list[str]
    destination_kinds: list[str]
