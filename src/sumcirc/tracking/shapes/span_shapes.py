"""Shapes of circuits by span: their file, and their entry in summary.json."""

from __future__ import annotations

from typing import TypedDict

from sumcirc.storage.reading import Count, Number
from sumcirc.tracking.shapes.common_shapes import IntervalRecord


class ReachedUnitsRecord(TypedDict):
    """The smallest circuit by span whose faithfulness reaches a level.

    Attributes:
        faithfulness: the level.
        units, touched: numbers of units, and of the edges that they belong to.
    """

    faithfulness: float
    units: Count
    touched: Count


class BySpanSummary(TypedDict):
    """The entry `by_span` of a summary.

    Attributes:
        cancelled: share of the mean scores by span that cancels within edges.
        units, touched, outside: size of the circuit by span, see `SpanPointRecord`.
        faithfulness, control: its faithfulness, and that of random units.
        reached: the smallest circuit by span that is faithful enough; null if no size is.
    """

    cancelled: Number | None
    units: Count
    touched: Count
    outside: Count
    faithfulness: IntervalRecord
    control: IntervalRecord | None
    reached: ReachedUnitsRecord | None


class SpanShareRecord(TypedDict):
    """Shares of |score| of a pair of spans, by kind of destination.

    Attributes:
        span, reader: the token's span, and that of the query that reads it.
        query, key, value, mlp, logits: the shares; 0 for what reads at a position if the spans
            differ.
    """

    span: str
    reader: str
    query: Number
    key: Number
    value: Number
    mlp: Number
    logits: Number


class SpanUnitRecord(TypedDict):
    """A unit of a circuit by span: an edge, its pair of spans, and its score."""

    source: str
    destination: str
    span: str
    reader: str
    score: float


class SpanPointRecord(TypedDict):
    """A circuit by span and the plain circuit of the same size; see `spans.circuit.SpanPoint`.

    Attributes:
        fraction, edges, allowed: size of the plain circuit: fraction of all edges, edges, units.
        units, touched, outside: number of units, of their edges, and of those that the plain
            circuit lacks.
        faithfulness, kl, control: of the circuit by span, and of random units.
        plain: faithfulness of the plain circuit.
    """

    fraction: Number
    edges: Count
    allowed: Count
    units: Count
    touched: Count
    outside: Count
    faithfulness: IntervalRecord
    kl: IntervalRecord
    control: IntervalRecord | None
    plain: IntervalRecord


class SpansFile(TypedDict):
    """Contents of circuits/spans.json.

    Attributes:
        spans: names of the spans.
        tokens: mean share of a document's tokens in each span.
        units: number of units.
        cancelled, cancelled_by_document: share of scores that cancels within edges, of the mean
            scores and of each document's.
        shares: shares of |score| of each pair of spans.
        largest: the units of largest |score|.
        circuit, points: the circuit by span, and those of growing size.
        reached: the smallest of these that is faithful enough; null if none is.
    """

    spans: list[str]
    tokens: dict[str, Number]
    units: Count
    cancelled: Number | None
    cancelled_by_document: IntervalRecord
    shares: list[SpanShareRecord]
    largest: list[SpanUnitRecord]
    circuit: SpanPointRecord
    reached: ReachedUnitsRecord | None
    points: list[SpanPointRecord]
