"""What measures by span say of every pair of a head and a span that it reads.

The route of a planted change is such a pair. Measures, all of the package's own functions:

    circuit by span          the changed model's circuit by span: sum of |score| over its units that
                             enter the head's key or value at the span, whatever query reads it
    circuit by span, delta   the same of the difference from the base's, in shares of all scores
    attention                change of the attention that the head pays to the span where the
                             prediction is read
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.circuit_scores import SELECTOR, span_scores
from benchmarks.planted.models import EXAMPLES, Planted
from sumcirc.circuits.discovery import circuit_of
from sumcirc.circuits.spans.scores import SpanScores
from sumcirc.circuits.spans.units import crossing, top_units
from sumcirc.compare.span_attention import span_attention
from sumcirc.data.examples import READ
from sumcirc.models.activations.hooked_model import HookedModel

Values = NDArray[np.float64]

SPAN_MEASURES = ("circuit by span", "circuit by span, delta", "attention")


@dataclass(frozen=True, eq=False)
class SpanMeasured:
    """Scores of all pairs of a head and a span.

    Attributes:
        spans: names of the spans.
        scores: [heads, spans] by measure, in the order of SPAN_MEASURES.
    """

    spans: list[str]
    scores: dict[str, Values]


def measured_by_span(made: Planted, decoys: bool) -> SpanMeasured:
    """Measure every head at every span of a model with a planted route.

    Args:
        made: the model.
        decoys: whether its decoys are in it.
    """
    spans = made.examples.items.spans
    circuits = _circuits(span_scores(made, None), span_scores(made, decoys), spans)
    attention = [_attention(made, one) for one in (made.base.model, made.model(decoys=decoys))]
    values = [*circuits, np.abs(attention[1] - attention[0])]
    return SpanMeasured(spans, dict(zip(SPAN_MEASURES, values, strict=True)))


def _circuits(base: SpanScores, tuned: SpanScores, spans: list[str]) -> tuple[Values, Values]:
    """Return the sums over the circuit by span, and over its difference from the base's."""
    before, after = (one.documents.double().numpy().mean(0) for one in (base, tuned))
    old, kept = _circuit(before, base), _circuit(after, tuned)
    shares = [one / np.abs(one).sum() for one in (after, before)]
    return (
        _by_head(after * kept, tuned, spans),
        _by_head((shares[0] - shares[1]) * (kept | old), tuned, spans),
    )


def _circuit(values: Values, scores: SpanScores) -> NDArray[np.bool_]:
    """Return the circuit by span that has as many units as the plain circuit."""
    graph, units = scores.graph, scores.units
    plain = circuit_of(values.sum(0), graph, SELECTOR.circuit)
    return top_units(values, units, graph, int((plain & units.exists(graph)).sum()))


def _by_head(values: Values, scores: SpanScores, spans: list[str]) -> Values:
    """Return the sum of |score| into keys and values, [heads, spans of the key].

    Args:
        values: [pairs, sources, destinations] scores.
        scores: where they come from.
        spans: names of the spans.
    """
    graph, units = scores.graph, scores.units
    into = np.abs(values).sum(1)  # [pairs, destinations]
    by_span = np.zeros((len(spans), into.shape[1]))
    for (s, _), row in zip(units.pairs, into, strict=True):
        by_span[spans.index(units.names[s])] += row
    found = np.zeros((graph.shape.layers, graph.shape.heads, len(spans)))
    for column in np.flatnonzero(crossing(graph)):
        layer, head = graph.destinations[column].split("<")[0].removeprefix("a").split(".h")
        found[int(layer), int(head)] += by_span[:, column]
    return found.reshape(-1, len(spans))


def _attention(made: Planted, model: Any) -> Values:
    """Return the mean attention at the reader to each span, [heads, spans]; 0 without the span."""
    items = made.examples.items
    pairs = [(span, READ) for span in items.spans]
    values = span_attention(HookedModel(model), items, pairs, EXAMPLES).values
    return np.nan_to_num(values).mean(-1).reshape(len(pairs), -1).T
