"""The circuit pipeline: from pairs to edge scores, a circuit, its faithfulness and stability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.aggregation import aggregated, per_document, signed_scores
from sumcirc.circuits.attribution.methods import AttributionSettings, EdgeScores, attribute
from sumcirc.circuits.card.lines import Card
from sumcirc.circuits.eap_ig_format import write_circuit
from sumcirc.circuits.edge_selection import Selection, greedy, prune, threshold, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.patching.evaluator import share_of
from sumcirc.circuits.patching.faithfulness import judgement
from sumcirc.circuits.patching.faithfulness_results import (
    Faithfulness,
    FaithfulnessCurve,
    Judgement,
)
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.sign_filter import candidate_count, ranking_scores, sign_filter_of
from sumcirc.circuits.stability import Stability, stability
from sumcirc.circuits.tasks import Task
from sumcirc.schema import Aggregation, CircuitOptions, EdgeSelection
from sumcirc.statistics import Interval

if TYPE_CHECKING:
    from sumcirc.circuits.spans.circuit import SpanCircuit

Progress = Callable[[int], None]


@dataclass(frozen=True)
class CircuitResult:
    """A circuit with its scores, faithfulness and stability.

    Attributes:
        scores: scores of all edges on each document.
        circuit: [sources, destinations] bool; the edges that are selected by the size of their
            aggregated score (after the sign filter, if there is one) and lie on a path from the
            embedding to the logits, see `circuit_of`.
        faithfulness: faithfulness and completeness of `circuit` on held-out pairs, or in-sample if
            `in_sample` is None.
        stability: stability of scores and circuit over resamples of the documents; None for a
            single document.
        absolute: faithfulness of circuits of growing size whose edges are ranked by the size of
            the aggregated score, with random circuits as a control, on the same pairs as
            `faithfulness`; CMD is taken from this curve.
        signed: like `absolute`, but with edges ranked by their mean score, the largest first, and
            without random circuits; CPR is taken from this curve.
        control: faithfulness of random circuits with as many edges of each kind and layer as
            `circuit`, with an interval over documents and circuits.
        above_control: how far the circuit's faithfulness is above `control`, paired by document.
        control_shared: mean fraction of the edges of `circuit` that these contain.
        in_sample: the same measured on the pairs on which the edges were chosen, without random
            circuits; None if no pairs were held out, so that all figures are in-sample.
        aggregation: how an edge's scores on the documents became the one that ranks it.
        candidates: number of edges that pass the sign filter; None without one.
        card: the circuit's card; None if it wasn't tested.
        by_span: the circuit by span; None unless `circuit.by_span` is set.
    """

    scores: EdgeScores
    circuit: NDArray[np.bool_]
    faithfulness: Faithfulness
    stability: Stability | None
    absolute: FaithfulnessCurve
    signed: FaithfulnessCurve
    control: Interval | None = None
    above_control: Interval | None = None
    control_shared: float | None = None
    in_sample: Judgement | None = None
    aggregation: Aggregation = Aggregation.mean_absolute
    candidates: int | None = None
    card: Card | None = None
    by_span: SpanCircuit | None = None

    @property
    def aggregated(self) -> NDArray[np.float64]:
        """The score of each edge over all documents, [sources, destinations] float64."""
        return aggregated(self.scores.documents.double().numpy(), self.aggregation)

    @property
    def signed_scores(self) -> NDArray[np.float64]:
        """The same with the sign of the mean score, in which files and figures show it."""
        return signed_scores(self.scores.documents.double().numpy(), self.aggregation)

    def save(self, path: str | Path) -> None:
        """Write the circuit to a JSON file in EAP-IG's format, see `circuits.eap_ig_format`.

        Args:
            path: the file to write.
        """
        write_circuit(Path(path), self.signed_scores, self.circuit, self.scores.graph)

    def largest_edges(self, count: int) -> list[tuple[str, str, float]]:
        """Return the `count` edges of the circuit with the largest |score|, the largest first.

        Each edge is (source, destination, aggregated score with the sign of the mean score).

        Args:
            count: number of edges; all edges are returned if the circuit has fewer.
        """
        score, graph = self.signed_scores, self.scores.graph
        rows, columns = np.nonzero(self.circuit)
        order = np.argsort(-np.abs(score[rows, columns]), kind="stable")[:count]
        return [
            (
                graph.sources[rows[i]],
                graph.destinations[columns[i]],
                float(score[rows[i], columns[i]]),
            )
            for i in order
        ]


def score_edges(
    model: PreTrainedModel | PeftModel,
    task: Task,
    options: CircuitOptions,
    progress: Progress | None = None,
) -> EdgeScores:
    """Score every edge on every pair.

    Args:
        model: the model, with or without an adapter.
        task: the pairs and the metric.
        options: settings that determine the attribution method, the batch size and the memory
            budget.
        progress: called with the number of newly scored pairs.

    Raises:
        UserError: for the reasons given in `attribute`.
    """
    return attribute(
        model,
        task.tokens,
        task.metric,
        AttributionSettings(options.method, options.steps, options.rule),
        batch_size=options.batch_size,
        memory=options.memory,
        progress=progress,
    )


def edges_of(scores: NDArray[np.floating], graph: Graph, options: CircuitOptions) -> int:
    """Return the number of edges to select for a circuit, before pruning.

    Args:
        scores: [sources, destinations] aggregated scores.
        graph: the model's graph.
        options: settings that determine the size of the circuit as a fraction of all edges, or a
            threshold.
    """
    if options.threshold is not None:
        return int(threshold(scores, graph, options.threshold).sum())
    return graph.edges_in(options.size)


def selection_of(options: CircuitOptions) -> Selection:
    """Return the function that selects a circuit's edges.

    Args:
        options: settings; `threshold`, if set, or else `select` determines the function.

    Returns:
        A function of the scores, the graph and the number of edges, such as `top_n`.
    """
    if options.threshold is not None:
        least = options.threshold
        return lambda scores, graph, edges: threshold(scores, graph, least)
    return greedy if options.select is EdgeSelection.greedy else top_n


def circuit_of(
    scores: NDArray[np.floating], graph: Graph, options: CircuitOptions
) -> NDArray[np.bool_]:
    """Return the circuit: edges selected by |score|, from which `prune` removes loose ends.

    Args:
        scores: [sources, destinations] scores that rank edges, see `sign_filter.ranking_scores`.
        graph: the model's graph.
        options: settings that determine how edges are selected, and the size or the threshold.

    Returns:
        [sources, destinations] bool.
    """
    return prune(selection_of(options)(scores, graph, edges_of(scores, graph, options)), graph)


def to_store(scores: EdgeScores, options: CircuitOptions, step: int) -> DocumentScores:
    """Return scores in the form in which they are saved, with the settings that produced them.

    Args:
        scores: scores of all edges on each document.
        options: settings with which the scores were computed.
        step: optimizer step of the model; -1 for the base.
    """
    return DocumentScores(
        scores.graph,
        scores.documents.float().numpy(),
        scores.ids,
        options.method.value,
        options.metric.value,
        options.steps,
        step,
    )


def circuit_runs(task: Task, options: CircuitOptions, held_out: Task | None = None) -> int:
    """Return how many runs of a circuit on one document `judge` makes, for a progress bar.

    These are the circuits of two curves, the circuit itself and its complement, each on every
    document, and random circuits of each size and of the circuit, each on some documents.

    Args:
        task: the pairs on which edges are chosen.
        options: settings that determine the sizes of circuits and the number of random circuits.
        held_out: the pairs on which circuits are judged; None for those of `task`.
    """
    ranked, judged = 2 * len(options.sizes) + 2, len((held_out or task).pairs)
    random = sum(
        len(range(judged)[share_of(seed, judged)]) for seed in range(options.random_circuits)
    )
    runs = ranked * judged + (len(options.sizes) + 1) * random
    return runs if held_out is None else runs + ranked * len(task.pairs)


def judge(
    task: Task,
    scores: EdgeScores,
    options: CircuitOptions,
    progress: Progress | None = None,
    held_out: Task | None = None,
) -> CircuitResult:
    """Determine the circuit and measure its faithfulness and stability.

    Args:
        task: the pairs on which the edges were scored, and the metric.
        scores: scores of all edges on each document.
        options: settings that determine how edges are selected, the sizes of circuits, and the
            numbers of random circuits and resamples.
        progress: called with the number of documents on which a circuit was newly run, up to
            `circuit_runs` in all.
        held_out: other pairs, on which circuits are judged; those of `task` give the figures in
            `CircuitResult.in_sample` then. None to judge circuits on `task`.
    """
    graph, documents = scores.graph, scores.documents.double().numpy()
    score = ranking_scores(documents, graph, options)
    circuit = circuit_of(score, graph, options)
    # circuits by a threshold are those of the largest scores, so they share one curve
    select = greedy if options.select is EdgeSelection.greedy else top_n

    def judged(on: Task, random_circuits: int) -> Judgement:
        on.evaluator.progress = progress or (lambda documents: None)
        seeds = range(random_circuits)
        return judgement(
            on.evaluator, score, circuit, options.sizes, select, seeds, signed=documents.mean(0)
        )

    found = judged(held_out or task, options.random_circuits)
    in_sample = None if held_out is None else judged(task, 0)
    steady = None
    if len(scores.ids) > 1:
        count = edges_of(score, graph, options)
        by_document = per_document(scores.documents.float().numpy(), options.aggregation)
        steady = stability(
            by_document,
            graph,
            count,
            selection_of(options),
            resamples=options.resamples,
            sign_filter=sign_filter_of(options),
        )
    return CircuitResult(
        scores,
        circuit,
        found.faithfulness,
        steady,
        found.absolute,
        found.signed,
        found.control,
        found.above_control,
        found.control_shared,
        in_sample,
        options.aggregation,
        candidate_count(documents, graph, options),
    )
