"""Circuits by span: their units, their faithfulness beside plain circuits, and what cancels.

A plain circuit keeps each of its edges at all spans. A circuit by span of the same size has as many
units as that plain circuit, those of largest |score|, before both are pruned. Random controls have
for every pair of spans as many units of each kind and layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import signed_scores
from sumcirc.circuits.attribution.methods import AttributionSettings
from sumcirc.circuits.discovery import CircuitResult, circuit_runs, judge
from sumcirc.circuits.edge_selection import greedy, prune, top_n
from sumcirc.circuits.edge_sums import DESTINATION_KINDS, destination_kinds
from sumcirc.circuits.patching.evaluator import share_of
from sumcirc.circuits.patching.faithfulness import BOOTSTRAP, measured, pooled_control
from sumcirc.circuits.patching.faithfulness_results import REACHED, Faithfulness
from sumcirc.circuits.patching.patched_run import ALL
from sumcirc.circuits.spans.patching import SpanEvaluator
from sumcirc.circuits.spans.scores import SpanScores, Values, attribute_spans, cancelled
from sumcirc.circuits.spans.units import SpanPairs, matched_units, top_units
from sumcirc.circuits.tasks import Task
from sumcirc.runtime.progress import Counted, silent
from sumcirc.schema import CircuitOptions, EdgeSelection
from sumcirc.statistics import Interval
from sumcirc.storage.writing import plain_numbers

LARGEST = 50  # units listed in the record

Circuit = NDArray[np.bool_]


@dataclass(frozen=True)
class SpanPoint:
    """A circuit by span, and the plain circuit of the same size.

    Attributes:
        fraction: size of the plain circuit as a fraction of all edges, before it is pruned.
        edges: number of edges of the plain circuit.
        allowed: number of units of the plain circuit, and of that by span before it is pruned.
        units: number of units of the circuit by span.
        touched: number of edges that these units belong to.
        outside: number of these edges that the plain circuit lacks.
        faithfulness, kl: of the circuit by span.
        control: faithfulness of random units; None without random circuits.
        plain: faithfulness of the plain circuit.
    """

    fraction: float
    edges: int
    allowed: int
    units: int
    touched: int
    outside: int
    faithfulness: Interval
    kl: Interval
    control: Interval | None
    plain: Interval


@dataclass(frozen=True)
class SpanCircuit:
    """A circuit by span with its scores and tests.

    Attributes:
        scores: scores of all units on each document that chose them.
        aggregated: [pairs, sources, destinations] one score for each unit over these documents,
            with the sign of their mean.
        circuit: [pairs, sources, destinations] bool, true at the circuit's units.
        point: its size and faithfulness, beside the plain circuit.
        points: the same of circuits of growing size.
        cancelled: share of the mean scores that cancels within edges, see `cancelled_share`.
        cancelled_by_document: mean over documents of the share that cancels in each one's scores.
        tokens: mean share of a document's tokens in each span.
    """

    scores: SpanScores
    aggregated: Values
    circuit: Circuit
    point: SpanPoint
    points: list[SpanPoint]
    cancelled: float
    cancelled_by_document: Interval
    tokens: Values

    @property
    def shares(self) -> Values:
        """Share of all |scores| by pair of spans and kind of destination, [pairs, kinds]."""
        sizes = np.abs(self.aggregated).sum(1)
        kinds = destination_kinds(self.scores.graph)
        count = len(DESTINATION_KINDS)
        return np.stack([sizes[:, kinds == kind].sum(1) for kind in range(count)], 1) / sizes.sum()

    def largest(self, count: int) -> list[tuple[str, str, str, str, float]]:
        """Return the units of largest |score|: source, destination, spans s and t, score.

        Args:
            count: number of units.
        """
        graph, units = self.scores.graph, self.scores.units
        order = np.argsort(-np.abs(self.aggregated), axis=None, kind="stable")[:count]
        places = np.stack(np.unravel_index(order, self.aggregated.shape), 1)
        return [
            (
                graph.sources[row],
                graph.destinations[column],
                *(units.names[span] for span in units.pairs[number]),
                float(self.aggregated[number, row, column]),
            )
            for number, row, column in places.tolist()
        ]

    def _reached(self) -> dict[str, Any] | None:
        """Return the size of the smallest circuit that is faithful enough; None if none is."""
        for one in self.points:
            if one.faithfulness.mean >= REACHED:
                return {"faithfulness": REACHED, "units": one.units, "touched": one.touched}
        return None

    def as_json(self) -> dict[str, Any]:
        """Return the content of circuits/spans.json."""
        units = self.scores.units
        named = [[units.names[span] for span in pair] for pair in units.pairs]
        keys = ("source", "destination", "span", "reader", "score")
        record = {
            "spans": list(units.names),
            "tokens": dict(zip(units.names, self.tokens.tolist(), strict=True)),
            "units": int(units.exists(self.scores.graph).sum()),
            "cancelled": self.cancelled,
            "cancelled_by_document": asdict(self.cancelled_by_document),
            "shares": [
                {
                    "span": s,
                    "reader": t,
                    **dict(zip(DESTINATION_KINDS, row, strict=True)),
                }
                for (s, t), row in zip(named, self.shares.tolist(), strict=True)
            ],
            "largest": [dict(zip(keys, one, strict=True)) for one in self.largest(LARGEST)],
            "circuit": asdict(self.point),
            "reached": self._reached(),
            "points": [asdict(point) for point in self.points],
        }
        return plain_numbers(record)


def score_units(
    model: Any,
    task: Task,
    held_out: Task | None,
    options: CircuitOptions,
    progress: Callable[[int], None] | None = None,
) -> SpanScores:
    """Score every unit on every pair.

    Args:
        model: the model, with or without an adapter.
        task: the pairs and the metric; the pairs have spans.
        held_out: the pairs on which circuits will be judged, whose pairs of spans count as well.
        options: settings of the circuit.
        progress: called with the number of newly scored pairs.

    Raises:
        UserError: for the reasons given in `attribute_spans`, and `SpanPairs.of`.
    """
    tokens = [one.tokens for one in (task, held_out) if one is not None]
    return attribute_spans(
        model,
        task.tokens,
        task.metric,
        SpanPairs.of(*tokens),
        AttributionSettings(options.method, options.steps, options.rule),
        batch_size=options.batch_size,
        memory=options.memory,
        progress=progress,
    )


def find_units(
    model: Any,
    task: Task,
    held_out: Task | None,
    options: CircuitOptions,
    counted: Counted = silent,
) -> CircuitResult:
    """Score all units, choose the plain circuit and that by span, and judge both.

    The plain scores are the sums of those by span.

    Args:
        model, task, held_out, options: as in `score_units`.
        counted: shows the progress of a part, as `runtime.progress.counted` does.

    Returns:
        The plain circuit, with the one by span as `by_span`. Both are judged on `held_out`, or on
        `task` if there is none.

    Raises:
        UserError: for the reasons given in `score_units`.
    """
    judged = held_out or task
    with counted(f"attribute by {options.method.value}, by span", len(task.pairs)) as done:
        scores = score_units(model, task, held_out, options, done)
    with counted("judge circuits", circuit_runs(task, options, held_out)) as done:
        found = judge(task, scores.edges, options, done, held_out)
    with counted("judge circuits by span", unit_runs(judged, options)) as done:
        by_span = judge_units(model, judged, scores, found, options, done)
    return replace(found, by_span=by_span)


def unit_runs(judged: Task, options: CircuitOptions) -> int:
    """Return how many runs of a circuit on one document `judge_units` makes, for a progress bar.

    Args:
        judged: the pairs on which circuits are judged.
        options: settings that determine the sizes of circuits and the number of random circuits.
    """
    count = len(judged.pairs)
    random = sum(len(range(count)[share_of(i, count)]) for i in range(options.random_circuits))
    return (len(options.sizes) + 1) * (count + random)


def judge_units(
    model: Any,
    judged: Task,
    scores: SpanScores,
    found: CircuitResult,
    options: CircuitOptions,
    progress: Callable[[int], None] | None = None,
) -> SpanCircuit:
    """Choose circuits by span as large as plain ones, and measure both on the same pairs.

    Args:
        model: the model, with or without an adapter.
        judged: the pairs on which circuits are judged.
        scores: scores of all units.
        found: the plain circuit, from the same scores, with its faithfulness.
        options: settings of the circuit.
        progress: called with the number of documents on which a circuit was newly run.
    """
    units, graph = scores.units, scores.graph
    evaluator = _evaluator(model, judged, units, options)
    evaluator.progress = progress or evaluator.progress
    values = signed_scores(scores.documents.double().numpy(), options.aggregation)
    select = greedy if options.select is EdgeSelection.greedy else top_n
    plain = [found.circuit]
    for size in options.sizes:
        plain.append(prune(select(found.aggregated, graph, graph.edges_in(size)), graph))
    exists = units.exists(graph)
    allowed = [int((kept & exists).sum()) for kept in plain]
    ours = [top_units(values, units, graph, count) for count in allowed]
    judgements = [found.faithfulness, *found.absolute.points]
    ran = _run(evaluator, ours, options.random_circuits)
    points = [
        SpanPoint(
            float(options.size if one.fraction is None else one.fraction),
            one.edges,
            count,
            int(kept.sum()),
            int(kept.any(0).sum()),
            int((kept.any(0) & ~edges).sum()),
            mine.faithfulness,
            mine.kl,
            control,
            one.faithfulness,
        )
        for one, count, kept, edges, (mine, control) in zip(
            judgements, allowed, ours, plain, ran, strict=True
        )
    ]
    share, each = cancelled(scores, BOOTSTRAP)
    grids = judged.tokens.clean.spans.values()
    real = judged.tokens.attention_mask.sum(1)
    tokens = np.array([float((grid.sum(1) / real).mean()) for grid in grids])
    return SpanCircuit(scores, values, ours[0], points[0], points[1:], share, each, tokens)


def _evaluator(
    model: Any, judged: Task, units: SpanPairs, options: CircuitOptions
) -> SpanEvaluator:
    plain = judged.evaluator
    found = SpanEvaluator(
        units,
        model,
        judged.tokens,
        judged.metric,
        ablation=plain.ablation,
        means=plain.means,
        batch=options.batch_size,
        memory=options.memory,
    )
    found.doubt = plain.doubt  # of all pairs, before some were left out
    return found


def _run(
    evaluator: SpanEvaluator, circuits: list[Circuit], random: int
) -> list[tuple[Faithfulness, Interval | None]]:
    """Run circuits by span and their random controls; return the results of each circuit."""
    graph, count = evaluator.graph, len(circuits)
    every, shares = list(circuits), [ALL] * count
    for seed in range(random):
        draws = np.random.default_rng(seed).random(circuits[0].shape)
        every += [matched_units(draws, kept, graph) for kept in circuits]
        shares += [share_of(seed, len(evaluator.pairs))] * count
    values = evaluator.run(every, shares)
    return [
        (
            measured(evaluator, None, kept, values[i], None, BOOTSTRAP),
            pooled_control(evaluator, kept, values[count + i :: count], BOOTSTRAP)
            if random
            else None,
        )
        for i, kept in enumerate(circuits)
    ]
