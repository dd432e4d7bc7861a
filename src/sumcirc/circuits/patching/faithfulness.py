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
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.memory import groups, patching_cost
from sumcirc.circuits.edge_selection import prune, random_circuit, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric, log_probabilities
from sumcirc.circuits.patching.patched_run import Ablation, PatchedRun
from sumcirc.errors import UserError
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import SIZES
from sumcirc.statistics import Bootstrap, Interval
from sumcirc.statistics.noise import no_gap, rounding_of
from sumcirc.storage.writing import plain_numbers

RANDOM_SEEDS = (0, 1, 2)
BOOTSTRAP = Bootstrap()

Values = NDArray[np.float64]
Select = Callable[[NDArray[Any], Graph, int], NDArray[np.bool_]]


@dataclass(frozen=True)
class CircuitValues:
    """The results of running one circuit, by document.

    Attributes:
        metric: [documents] value of the metric in the circuit's run.
        kl: [documents] KL(full || circuit) of the next-token distributions in nats, mean over the
            metric's positions.
    """

    metric: Values
    kl: Values


class Evaluator:
    """Runs circuits on pairs, a few documents at a time, and computes the metric and KL of each.

    Args:
        model: the model, with or without adapters; see `PatchedRun`.
        pairs: clean and corrupted documents.
        metric: the metric, created for the items of `pairs`.
        graph: the graph whose edges circuits select; it is made from the model by default.
        ablation, means: what patched edges carry, see `PatchedRun`.
        batch: number of documents per pass.
        memory: number of bytes that a pass may need in addition to the model; fewer documents are
            processed at once if necessary. None sets no limit.

    Attributes:
        full, empty: values of the whole model and of the empty circuit.
        doubt: the reason why corruption has no effect that circuits could explain, so that
            faithfulness is undefined; None if it has an effect. It is determined on `pairs`;
            callers that selected these pairs by their effect set it to the result on all pairs.
        progress: called with the number of documents on which `run` has run a circuit.

    Raises:
        UserError: the metric was created for other items, or a document needs more than `memory`;
            also for the reasons given in `PatchedRun`.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        pairs: TokenPairs,
        metric: Metric,
        graph: Graph | None = None,
        ablation: Ablation = "interchange",
        means: Tensor | None = None,
        batch: int = 8,
        memory: int | None = None,
    ) -> None:
        if metric.positions.shape != pairs.attention_mask.shape:
            raise UserError(
                f"metric {metric.name}: has items and tokens {tuple(metric.positions.shape)}, the"
                f" pairs have {tuple(pairs.attention_mask.shape)}; make it from these pairs"
            )
        self.model, self.pairs, self.metric = model, pairs, metric
        hooked = HookedModel(model)
        self.graph = graph or Graph(hooked.shape)
        self._device = hooked.device
        self.ablation: Ablation = ablation
        self._means = means
        cost = patching_cost(hooked, self.graph)
        self._groups = list(groups(pairs, metric, batch, cost, memory))
        self._weights = AttentionWeights(hooked, self.graph.expand_groups)
        self.progress: Callable[[int], None] = lambda documents: None
        whole = self.graph.exists
        self.empty, self.full = self.run([np.zeros_like(whole), whole])
        reason = no_gap(self.full.metric, self.empty.metric)
        self.doubt = reason and (
            f"corruption raises {metric.name} of {len(pairs)} pairs by {reason}"
        )

    def run(self, circuits: Sequence[NDArray[np.bool_]]) -> list[CircuitValues]:
        """Run circuits on all documents, and return the metric and the KL of each circuit.

        Args:
            circuits: bool matrices [sources, destinations], True at kept edges.

        Returns:
            The values of each circuit, in the given order.
        """
        found = np.zeros((2, len(circuits), len(self.pairs)))
        for items in self._groups:
            columns = self.pairs.columns(items)
            run = self._patched(items)
            positions = self.metric.positions[items][:, columns].to(self._device)
            clean = run.logits(self.graph.exists, positions)
            full = log_probabilities(clean)
            reference = self.metric.reference(clean) if self.metric.against_clean else None
            rows = positions.nonzero()[:, 0]
            for number, kept in enumerate(circuits):
                logits = run.logits(kept, positions)
                values = self.metric.values(logits, items, reference)
                own = log_probabilities(logits)
                kl = kl_div(own, full, reduction="none", log_target=True).sum(-1)
                total = kl.new_zeros(len(items)).index_add(0, rows, kl)
                found[0, number, items] = values.double().cpu()
                found[1, number, items] = (total / positions.sum(1)).clamp(min=0).double().cpu()
                self.progress(len(items))
        return [CircuitValues(*pair) for pair in found.swapaxes(0, 1)]

    def _patched(self, items: Tensor) -> PatchedRun:
        clean, corrupted, mask = self.pairs.cut(items, self._device)
        return PatchedRun(
            self.model,
            clean,
            corrupted,
            mask,
            self.graph,
            self.ablation,
            self._means,
            self._weights,
        )


@dataclass(frozen=True)
class Faithfulness:
    """The faithfulness of one circuit C; the module's docstring defines f, m(C), m(0) and m(G).

    Attributes:
        fraction: requested fraction of all edges, before pruning; None if the circuit was given as
            a mask.
        edges: number of edges of the circuit.
        faithfulness: f(C), the ratio of the means, with an interval from resampled documents; NaN
            where f is not defined.
        kl: mean KL(full || circuit) in nats.
        completeness: 1 - f(complement); None if it wasn't measured.
        metric: [documents] m(C).
        by_document: [documents] f of each document alone; None where the document's m(0) - m(G) is
            only rounding error, and where `faithfulness` is not defined.
        kl_by_document: [documents] KL(full || circuit) in nats.
    """

    fraction: float | None
    edges: int
    faithfulness: Interval
    kl: Interval
    completeness: Interval | None
    metric: list[float]
    by_document: list[float | None]
    kl_by_document: list[float]


@dataclass(frozen=True)
class Area:
    """An area (CPR or CMD) over the sizes of circuits.

    Attributes:
        value: the area for the ranked circuits, with its interval.
        random: the areas for random circuits, one per seed.
    """

    value: Interval
    random: list[Interval]


@dataclass(frozen=True)
class FaithfulnessCurve:
    """The faithfulness of circuits of growing size, for one ranking of edges.

    Attributes:
        ablation: what patched edges carry: `interchange`, `zero` or `mean`.
        metric: name of the metric.
        absolute: whether edges are ranked by |score|; otherwise they are ranked by score.
        documents: ids of the documents.
        empty, full: [documents] metric of the empty circuit, m(0), and of the model, m(G).
        points: results of the ranked circuits, the smallest first.
        random: results of random circuits about as large as those of `points`, one list per seed.
        cpr: CPR, higher is better; MIB reports it for signed ranking.
        cmd: CMD, lower is better and 0 is best; MIB reports it for absolute ranking.
    """

    ablation: str
    metric: str
    absolute: bool
    documents: list[str]
    empty: list[float]
    full: list[float]
    points: list[Faithfulness]
    random: list[list[Faithfulness]]
    cpr: Area
    cmd: Area

    def as_json(self) -> dict[str, Any]:
        """Return the curve as dicts, lists, numbers and strings, ready to be written as JSON."""
        return plain_numbers(asdict(self))


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
    return _judged(evaluator, None, kept, found[0], other, bootstrap)


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
    """Measure the faithfulness of circuits of growing size, and of random circuits as a control.

    For a fraction k, int(k * edges) edges are selected, from which `prune` removes loose ends. The
    corresponding random circuit is selected by random scores, with so many edges that after pruning
    it has at least as many as the ranked circuit.

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
    graph = evaluator.graph
    sizes = np.array(fractions, dtype=float)
    if not len(sizes) or sizes[0] < 0 or sizes[-1] > 1 or (np.diff(sizes) <= 0).any():
        raise UserError(f"fractions={list(fractions)}: must ascend within 0 and 1")
    choose = select or partial(top_n, absolute=absolute)
    chosen = [prune(choose(scores, graph, int(k * graph.edges)), graph) for k in sizes]
    series = [chosen]
    for each in random_seeds:
        draws = np.random.default_rng(each).random(graph.exists.shape)
        series.append([random_circuit(draws, graph, int(kept.sum())) for kept in chosen])
    flat = [kept for circuits in series for kept in circuits]
    values = evaluator.run(flat)
    others: list[CircuitValues | None] = [None] * len(flat)
    if completeness:
        others = [*evaluator.run([graph.exists & ~kept for kept in flat])]
    judged = [
        _judged(evaluator, float(sizes[i % len(sizes)]), kept, value, other, bootstrap)
        for i, (kept, value, other) in enumerate(zip(flat, values, others, strict=True))
    ]
    count = len(sizes)
    parts = [judged[i : i + count] for i in range(0, len(judged), count)]
    areas = [_areas(evaluator, sizes, points, bootstrap) for points in parts]
    return FaithfulnessCurve(
        ablation=evaluator.ablation,
        metric=evaluator.metric.name,
        absolute=absolute,
        documents=list(evaluator.pairs.names),
        empty=evaluator.empty.metric.tolist(),
        full=evaluator.full.metric.tolist(),
        points=parts[0],
        random=parts[1:],
        cpr=Area(areas[0][0], [cpr for cpr, _ in areas[1:]]),
        cmd=Area(areas[0][1], [cmd for _, cmd in areas[1:]]),
    )


def _judged(
    evaluator: Evaluator,
    fraction: float | None,
    kept: NDArray[np.bool_],
    values: CircuitValues,
    complement: CircuitValues | None,
    bootstrap: Bootstrap,
) -> Faithfulness:
    empty = evaluator.empty.metric
    whole = evaluator.full.metric - empty
    gain = values.metric - empty
    edges = int((kept & evaluator.graph.exists).sum())
    defined = edges > 0 and evaluator.doubt is None
    told = defined & (np.abs(whole) > rounding_of(empty, evaluator.full.metric))

    def ratio(numerator: Values) -> Interval:
        if not defined:
            return Interval(np.nan, np.nan, np.nan, len(whole))
        return bootstrap.interval(
            lambda pick: numerator[pick].mean(-1) / whole[pick].mean(-1), len(whole)
        )

    with np.errstate(divide="ignore", invalid="ignore"):
        own = gain / whole
    return Faithfulness(
        fraction=fraction,
        edges=edges,
        faithfulness=ratio(gain),
        kl=bootstrap.interval(lambda pick: values.kl[pick].mean(-1), len(whole)),
        completeness=None
        if complement is None
        else ratio(evaluator.full.metric - complement.metric),
        metric=values.metric.tolist(),
        by_document=[float(one) if sure else None for one, sure in zip(own, told, strict=True)],
        kl_by_document=values.kl.tolist(),
    )


def _areas(
    evaluator: Evaluator,
    sizes: Values,
    points: Sequence[Faithfulness],
    bootstrap: Bootstrap,
) -> tuple[Interval, Interval]:
    """Return CPR and CMD; every resample of the documents has its own curve."""
    empty = evaluator.empty.metric
    whole = evaluator.full.metric - empty
    gains = np.array([point.metric for point in points]) - empty

    def heights(pick: NDArray[np.int64]) -> Values:
        return gains[:, pick].mean(-1) / whole[pick].mean(-1)

    def area(of: Callable[[Values], Values]) -> Interval:
        if evaluator.doubt is not None:
            return Interval(np.nan, np.nan, np.nan, len(whole))
        return bootstrap.interval(
            lambda pick: np.trapezoid(of(heights(pick)), sizes, axis=0), len(whole)
        )

    return area(lambda f: f), area(lambda f: np.abs(1 - f))
