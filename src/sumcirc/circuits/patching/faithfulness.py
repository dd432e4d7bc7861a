"""Faithfulness of circuits: how much of the model's behaviour they preserve, by size.

With m(C) a metric of a circuit's run on one document, m(G) of the whole model and m(0) of the empty
circuit (all edges patched):

    faithfulness f(C) = (m(C) - m(0)) / (m(G) - m(0)),  0 for the empty circuit, 1 for the model.

f over several documents is the ratio of the means, mean(m(C) - m(0)) / mean(m(G) - m(0)), so that a
document on which corruption hardly matters can't dominate; its interval resamples documents in
numerator and denominator together. The ratio of each document is recorded as well. Completeness is
1 - f(complement): what the model loses without the circuit's edges. KL(full || circuit) is in nats,
the mean over the metric's positions.

f is not defined, and NaN, for a circuit without edges, whose run is m(0) itself, and where
corruption has no effect to explain: where the mean of m(0) - m(G) is rounding or, with 8 documents
or more, its interval includes zero, since the ratio is then unbounded (`statistics.noise`). CPR and
CMD are not defined in the latter case either.

Over circuits of growing size (fractions of all edges, MIB's grid) two areas are computed by the
trapezoid rule with a linear axis of nominal sizes:

    CPR = integral of f(k) dk            signed top-n: largest score first
    CMD = integral of |1 - f(k)| dk      absolute top-n: largest |score| first

Sources: M. Hanna et al., Have Faith in Faithfulness, 2024, arXiv:2403.17806; A. Mueller et al.,
MIB: A Mechanistic Interpretability Benchmark, 2025, arXiv:2504.13151; K. Wang et al.,
Interpretability in the Wild, 2022, arXiv:2211.00593 (completeness).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.edge_selection import matched_circuit, prune, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.patching.evaluator import CircuitValues, Evaluator, Values, share_of
from sumcirc.circuits.patching.faithfulness_results import (
    Area,
    Faithfulness,
    FaithfulnessCurve,
    Judgement,
)
from sumcirc.circuits.patching.patched_run import ALL
from sumcirc.errors import UserError
from sumcirc.schema import SIZES
from sumcirc.statistics import Bootstrap, Interval
from sumcirc.statistics.noise import rounding_of

RANDOM_SEEDS = tuple(range(10))
BOOTSTRAP = Bootstrap()

Select = Callable[[NDArray[Any], Graph, int], NDArray[np.bool_]]


def faithfulness(
    evaluator: Evaluator,
    kept: NDArray[np.bool_],
    completeness: bool = True,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Faithfulness:
    """Measure the faithfulness of one circuit.

    Args:
        evaluator: runs circuits on the documents.
        kept: [sources, destinations] True at the edges of the circuit.
        completeness: whether to also measure completeness, which takes a second run.
        bootstrap: the resamples from which intervals are computed.
    """
    circuits = [kept, evaluator.graph.exists & ~kept] if completeness else [kept]
    found = evaluator.run(circuits)
    other = found[1] if completeness else None
    return measured(evaluator, None, kept, found[0], other, bootstrap)


def curve(
    evaluator: Evaluator,
    scores: NDArray[Any],
    absolute: bool = True,
    fractions: Sequence[float] = SIZES,
    select: Select | None = None,
    random_seeds: Sequence[int] = RANDOM_SEEDS,
    completeness: bool = False,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> FaithfulnessCurve:
    """Measure faithfulness at several circuit sizes, with random circuits as a control.

    For each fraction `Graph.edges_in` edges are selected, from which `prune` removes loose ends.
    The corresponding random circuits have as many edges of each kind and layer.

    Args:
        evaluator: runs circuits on the documents.
        scores: [sources, destinations] mean scores over documents, positive where the metric (a
            loss) rises when the edge is corrupted.
        absolute: whether to rank by |score|; otherwise edges are ranked by score, largest first.
        fractions: sizes of the circuits as fractions of all edges, ascending.
        select: function (scores, graph, n) -> circuit that selects n edges; None for `top_n`. If it
            is given, `absolute` is only recorded.
        random_seeds: seeds of the random circuits; each gives one control curve.
        completeness: whether to also measure completeness.
        bootstrap: the resamples from which intervals are computed.

    Raises:
        UserError: `fractions` is empty, is not ascending, or contains a value outside [0, 1].
    """
    choose = select or partial(top_n, absolute=absolute)
    plan = _Plan.of(evaluator, scores, fractions, choose, random_seeds)
    values = evaluator.run(plan.circuits, plan.shares)
    others: list[CircuitValues | None] = [None] * len(values)
    if completeness:
        rest = [evaluator.graph.exists & ~kept for kept in plan.circuits]
        others = [*evaluator.run(rest, plan.shares)]
    return plan.curve(evaluator, absolute, values, others, bootstrap)


def judgement(
    evaluator: Evaluator,
    scores: NDArray[Any],
    kept: NDArray[np.bool_],
    fractions: Sequence[float] = SIZES,
    select: Callable[..., NDArray[np.bool_]] = top_n,
    random_seeds: Sequence[int] = RANDOM_SEEDS,
    bootstrap: Bootstrap = BOOTSTRAP,
    signed: NDArray[Any] | None = None,
) -> Judgement:
    """Measure a circuit, and circuits of several sizes, in one pass over the documents.

    Args:
        evaluator, fractions, random_seeds, bootstrap: as in `curve`.
        scores: [sources, destinations] scores, whose size ranks the edges of the curve `absolute`.
        kept: [sources, destinations] True at the edges of the circuit.
        select: function (scores, graph, n, absolute=...) -> circuit, such as `top_n`.
        signed: [sources, destinations] mean scores, which rank the edges of the curve `signed`;
            None for `scores`.

    Raises:
        UserError: as in `curve`.
    """
    plans = [
        _Plan.of(evaluator, ranked, fractions, partial(select, absolute=absolute), seeds)
        for ranked, absolute, seeds in (
            (scores, True, random_seeds),
            (scores if signed is None else signed, False, ()),
        )
    ]
    controls = _matched(evaluator, [kept], random_seeds)
    alone = [kept, evaluator.graph.exists & ~kept, *(one for (one,) in controls)]
    shares = [ALL, ALL, *(share_of(i, len(evaluator.pairs)) for i in range(len(controls)))]
    for plan in plans:
        alone, shares = alone + plan.circuits, shares + plan.shares
    values = evaluator.run(alone, shares)
    count = 2 + len(controls)
    drawn, first, rest = values[2:count], values[count:], len(plans[0].circuits)
    none: list[CircuitValues | None] = [None] * len(values)
    return Judgement(
        measured(evaluator, None, kept, values[0], values[1], bootstrap),
        pooled_control(evaluator, kept, drawn, bootstrap) if drawn else None,
        pooled_control(evaluator, kept, drawn, bootstrap, values[0]) if drawn else None,
        _shared(kept & evaluator.graph.exists, [one for (one,) in controls]),
        plans[0].curve(evaluator, True, first[:rest], none[:rest], bootstrap),
        plans[1].curve(evaluator, False, first[rest:], none[: len(first) - rest], bootstrap),
    )


@dataclass(frozen=True)
class _Plan:
    """The circuits of one curve: those of the ranking, then the random ones of each seed."""

    sizes: Values
    circuits: list[NDArray[np.bool_]]
    shares: list[slice]

    @classmethod
    def of(
        cls,
        evaluator: Evaluator,
        scores: NDArray[Any],
        fractions: Sequence[float],
        choose: Select,
        random_seeds: Sequence[int],
    ) -> _Plan:
        graph, sizes = evaluator.graph, np.array(fractions, dtype=float)
        if not len(sizes) or sizes[0] < 0 or sizes[-1] > 1 or (np.diff(sizes) <= 0).any():
            raise UserError(f"fractions={list(fractions)}: must ascend within 0 and 1")
        ranked = [prune(choose(scores, graph, graph.edges_in(k)), graph) for k in sizes]
        circuits, shares = list(ranked), [ALL] * len(ranked)
        for number, drawn in enumerate(_matched(evaluator, ranked, random_seeds)):
            circuits += drawn
            shares += [share_of(number, len(evaluator.pairs))] * len(drawn)
        return cls(sizes, circuits, shares)

    def curve(
        self,
        evaluator: Evaluator,
        absolute: bool,
        values: Sequence[CircuitValues],
        others: Sequence[CircuitValues | None],
        bootstrap: Bootstrap,
    ) -> FaithfulnessCurve:
        sizes, count = self.sizes, len(self.sizes)
        judged = [
            measured(evaluator, float(sizes[i % count]), kept, value, other, bootstrap)
            for i, (kept, value, other) in enumerate(
                zip(self.circuits, values, others, strict=True)
            )
        ]
        parts = [judged[i : i + count] for i in range(0, len(judged), count)]
        areas = [_areas(evaluator, sizes, points, bootstrap) for points in parts]
        controls = [
            pooled_control(evaluator, self.circuits[i], values[count + i :: count], bootstrap)
            for i in range(count if len(parts) > 1 else 0)
        ]
        return FaithfulnessCurve(
            ablation=evaluator.ablation,
            metric=evaluator.metric.name,
            absolute=absolute,
            documents=list(evaluator.pairs.names),
            empty=evaluator.empty.metric.tolist(),
            full=evaluator.full.metric.tolist(),
            points=parts[0],
            random=parts[1:],
            control=controls,
            cpr=Area(areas[0][0], [cpr for cpr, _ in areas[1:]]),
            cmd=Area(areas[0][1], [cmd for _, cmd in areas[1:]]),
        )


def _matched(
    evaluator: Evaluator, circuits: Sequence[NDArray[np.bool_]], seeds: Sequence[int]
) -> list[list[NDArray[np.bool_]]]:
    """Draw for each seed one random circuit per given circuit, matched by kind and layer."""
    graph = evaluator.graph
    draws = [np.random.default_rng(seed).random(graph.exists.shape) for seed in seeds]
    return [[matched_circuit(draw, kept, graph) for kept in circuits] for draw in draws]


def measured(
    evaluator: Evaluator,
    fraction: float | None,
    kept: NDArray[np.bool_],
    values: CircuitValues,
    complement: CircuitValues | None,
    bootstrap: Bootstrap,
) -> Faithfulness:
    """Return the faithfulness of a circuit from the values of its run.

    Args:
        evaluator: the evaluator that ran the circuit.
        fraction: requested fraction of all edges; None if the circuit was given.
        kept: the circuit, whose entries are counted as its edges.
        values: values of the circuit's run.
        complement: values of the run of all other edges; None if it wasn't run.
        bootstrap: the resamples from which intervals are computed.
    """
    run = np.flatnonzero(np.isfinite(values.metric))
    empty, full = evaluator.empty.metric[run], evaluator.full.metric[run]
    whole, gain, kl = full - empty, values.metric[run] - empty, values.kl[run]
    edges = int((kept & evaluator.graph.exists).sum())
    defined = edges > 0 and evaluator.doubt is None
    told = defined & (np.abs(whole) > rounding_of(empty, full))

    def ratio(numerator: Values) -> Interval:
        if not defined:
            return Interval(np.nan, np.nan, np.nan, len(whole))
        return bootstrap.interval(
            lambda pick: numerator[pick].mean(-1) / whole[pick].mean(-1), len(whole)
        )

    by_document: list[float | None] = [None] * len(values.metric)
    with np.errstate(divide="ignore", invalid="ignore"):
        for place, one, sure in zip(run, gain / whole, told, strict=True):
            by_document[place] = float(one) if sure else None
    return Faithfulness(
        fraction=fraction,
        edges=edges,
        faithfulness=ratio(gain),
        kl=bootstrap.interval(lambda pick: kl[pick].mean(-1), len(whole)),
        completeness=None if complement is None else ratio(full - complement.metric[run]),
        metric=values.metric.tolist(),
        by_document=by_document,
        kl_by_document=values.kl.tolist(),
    )


def pooled_control(
    evaluator: Evaluator,
    kept: NDArray[np.bool_],
    drawn: Sequence[CircuitValues],
    bootstrap: Bootstrap,
    own: CircuitValues | None = None,
) -> Interval:
    """Return the pooled faithfulness of the random circuits that match `kept`.

    It is the ratio of the sums over circuits and documents. Every resample draws documents and
    circuits. With the values of `kept` itself, how far its faithfulness is above theirs, with the
    same documents drawn for both.

    Args:
        evaluator: the evaluator that ran the circuits.
        kept: the circuit that the random ones match.
        drawn: values of the random circuits, NaN for documents they weren't run on.
        bootstrap: the resamples from which the interval is computed.
        own: values of `kept` itself, for the difference; None for the control alone.
    """
    metric, empty = np.array([one.metric for one in drawn]), evaluator.empty.metric
    documents = len(empty)
    if not kept.any() or evaluator.doubt is not None:
        return Interval(np.nan, np.nan, np.nan, documents)
    run = np.isfinite(metric)
    gain = np.where(run, metric - empty, 0.0)
    whole = np.where(run, evaluator.full.metric - empty, 0.0)
    random = np.random.default_rng(bootstrap.seed + 1)

    def statistic(pick: NDArray[np.int64]) -> Any:
        if pick.ndim == 1:
            return gain[:, pick].sum() / whole[:, pick].sum()
        circuits = random.integers(len(drawn), size=(len(pick), len(drawn)))
        each = circuits[:, :, None], pick[:, None, :]
        return gain[each].sum((1, 2)) / whole[each].sum((1, 2))

    if own is None:
        return bootstrap.interval(statistic, documents)
    kept_gain, gap = own.metric - empty, evaluator.full.metric - empty
    return bootstrap.interval(
        lambda pick: kept_gain[pick].mean(-1) / gap[pick].mean(-1) - statistic(pick), documents
    )


def _shared(kept: NDArray[np.bool_], controls: Sequence[NDArray[np.bool_]]) -> float | None:
    """Return the mean fraction of a circuit's edges in its random circuits; None without any."""
    if not controls or not kept.any():
        return None
    return float(np.mean([(one & kept).sum() / kept.sum() for one in controls]))


def _areas(
    evaluator: Evaluator,
    sizes: Values,
    points: Sequence[Faithfulness],
    bootstrap: Bootstrap,
) -> tuple[Interval, Interval]:
    """Return CPR and CMD, which are NaN over a single size, where the area would be 0.

    Every resample of the documents has its own curve.
    """
    metric = np.array([point.metric for point in points])
    run = np.flatnonzero(np.isfinite(metric).all(0))
    empty = evaluator.empty.metric[run]
    whole = evaluator.full.metric[run] - empty
    gains = metric[:, run] - empty

    def heights(pick: NDArray[np.int64]) -> Values:
        return gains[:, pick].mean(-1) / whole[pick].mean(-1)

    def area(of: Callable[[Values], Values]) -> Interval:
        if evaluator.doubt is not None or len(sizes) < 2:
            return Interval(np.nan, np.nan, np.nan, len(whole))
        return bootstrap.interval(
            lambda pick: np.trapezoid(of(heights(pick)), sizes, axis=0), len(whole)
        )

    return area(lambda f: f), area(lambda f: np.abs(1 - f))
