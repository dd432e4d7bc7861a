"""The circuit pipeline: from pairs to edge scores, a circuit, its faithfulness and stability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.methods import AttributionSettings, EdgeScores, attribute
from sumcirc.circuits.eap_ig_format import write_circuit
from sumcirc.circuits.edge_selection import Selection, greedy, prune, threshold, top_n
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.filtering import answerable, changed_pairs
from sumcirc.circuits.metrics import Metric
from sumcirc.circuits.patching.faithfulness import (
    Evaluator,
    Faithfulness,
    FaithfulnessCurve,
    curve,
    faithfulness,
)
from sumcirc.circuits.patching.patched_run import source_means
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.stability import Stability, stability
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice, left_out
from sumcirc.schema import Ablation, CircuitOptions, EdgeSelection

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """The behaviour that a circuit is to explain: pairs, and a metric on them.

    Attributes:
        pairs: the pairs that are used. Corruption raises the metric on each of them, unless
            `make_task` was called with `keep_all`.
        tokens: the same pairs as padded tensors.
        metric: the metric, created for these pairs.
        evaluator: runs circuits on these pairs and computes the metric.
        unchanged: number of pairs that were left out because corruption doesn't raise their metric.
        untold: number of pairs that were left out because the metric is a logit difference and no
            wrong answer is known for them.
    """

    pairs: list[ExamplePair]
    tokens: TokenPairs
    metric: Metric
    evaluator: Evaluator
    unchanged: int
    untold: int

    @property
    def notices(self) -> list[Notice]:
        """Messages for the user about pairs that were left out and about undefined faithfulness."""
        total = len(self.pairs) + self.unchanged + self.untold
        reasons = {
            f"corruption does not raise {self.metric.name}": self.unchanged,
            "no other answer is known": self.untold,
        }
        found = left_out("circuit.metric", "pairs", reasons, total)
        if self.evaluator.doubt is not None:
            words = (
                "pairs have no effect to explain, so that faithfulness, CPR and CMD are not"
                f" defined: {self.evaluator.doubt}; train the model first, or take another metric"
                " or other pairs"
            )
            count = len(self.pairs)
            found.append(Notice("circuit.metric", "no effect", count, count, words, limit=0.0))
        return found


@dataclass(frozen=True)
class CircuitResult:
    """A circuit with its scores, faithfulness and stability.

    Attributes:
        scores: scores of all edges on each document.
        circuit: [sources, destinations] bool; the edges that are selected by |mean score| and lie
            on a path from the embedding to the logits, see `circuit_of`.
        faithfulness: faithfulness and completeness of `circuit`.
        stability: stability of scores and circuit over resamples of the documents; None for a
            single document.
        absolute: faithfulness of circuits of growing size whose edges are ranked by |score|, with
            random circuits as a control; CMD is taken from this curve.
        signed: like `absolute`, but with edges ranked by score and without random circuits; CPR is
            taken from this curve.
    """

    scores: EdgeScores
    circuit: NDArray[np.bool_]
    faithfulness: Faithfulness
    stability: Stability | None
    absolute: FaithfulnessCurve
    signed: FaithfulnessCurve

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean score of each edge over documents, [sources, destinations] float64."""
        return self.scores.mean.double().numpy()

    def save(self, path: str | Path) -> None:
        """Write the circuit to a JSON file in EAP-IG's format, see `circuits.eap_ig_format`.

        Args:
            path: the file to write.
        """
        write_circuit(Path(path), self.mean, self.circuit, self.scores.graph)

    def largest_edges(self, count: int) -> list[tuple[str, str, float]]:
        """Return the `count` edges of the circuit with the largest |mean score|, the largest first.

        Each edge is (source, destination, mean score).

        Args:
            count: number of edges; all edges are returned if the circuit has fewer.
        """
        mean, graph = self.mean, self.scores.graph
        rows, columns = np.nonzero(self.circuit)
        order = np.argsort(-np.abs(mean[rows, columns]), kind="stable")[:count]
        return [
            (
                graph.sources[rows[i]],
                graph.destinations[columns[i]],
                float(mean[rows[i], columns[i]]),
            )
            for i in order
        ]


def make_task(
    model: PreTrainedModel | PeftModel,
    pairs: list[ExamplePair],
    options: CircuitOptions,
    keep_all: bool = False,
) -> Task:
    """Return a task made of the pairs on which corruption raises the metric.

    The selected pairs would show an effect of corruption even if there were only noise. Whether
    there is an effect (`Evaluator.doubt`) is therefore tested on all pairs.

    Args:
        model: the model, with or without an adapter.
        pairs: clean and corrupted inputs.
        options: settings that determine the metric, the ablation, the batch size and the memory
            budget.
        keep_all: whether to keep pairs on which corruption does not raise the metric, so that
            circuits of several models use the same pairs.

    Raises:
        UserError: fewer than two pairs are left, or the metric does not fit the pairs.
    """
    told = answerable(pairs, options.metric)
    unchanged, untold = 0, len(pairs) - len(told)
    pairs, doubt = told, None
    while True:
        tokens = TokenPairs.of(pairs)
        metric = pair_metric(options.metric, tokens)
        evaluator = Evaluator(
            model, tokens, metric, batch=options.batch_size, memory=options.memory
        )
        clean, corrupted = evaluator.full.metric, evaluator.empty.metric
        kept, dropped = changed_pairs(pairs, clean, corrupted)
        doubt = doubt or evaluator.doubt
        if doubt is None and not keep_all and corrupted.mean() < clean.mean():
            gap = corrupted.mean() - clean.mean()
            doubt = f"corruption raises {metric.name} of {len(pairs)} pairs by {gap:.3g}"
        evaluator.doubt = doubt
        if not dropped or keep_all:
            if options.ablation is not Ablation.patch:
                evaluator = _ablating(model, tokens, metric, options)
            return Task(pairs, tokens, metric, evaluator, unchanged, untold)
        pairs, unchanged = kept, unchanged + dropped
        if len(pairs) < 2:
            raise UserError(
                f"circuit.metric={options.metric}: corruption raises it in {len(pairs)} of"
                f" {len(pairs) + unchanged} pairs; there is no behaviour to explain (train the"
                " model first, or take another metric or other pairs)"
            )


def _ablating(
    model: PreTrainedModel | PeftModel, tokens: TokenPairs, metric: Metric, options: CircuitOptions
) -> Evaluator:
    """Return an evaluator whose circuits have zeros or means in place of the cut edges."""
    means = None
    if options.ablation is Ablation.mean:
        means = source_means(
            model, tokens.clean.input_ids, tokens.attention_mask, options.batch_size
        )
    return Evaluator(
        model,
        tokens,
        metric,
        ablation=options.ablation.value,
        means=means,
        batch=options.batch_size,
        memory=options.memory,
    )


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


def edges_of(mean: NDArray[np.floating], graph: Graph, options: CircuitOptions) -> int:
    """Return the number of edges to select for a circuit, before pruning.

    Args:
        mean: [sources, destinations] mean scores.
        graph: the model's graph.
        options: settings that determine the size of the circuit as a fraction of all edges, or a
            threshold.
    """
    if options.threshold is not None:
        return int(threshold(mean, graph, options.threshold).sum())
    return max(1, round(options.size * graph.edges))


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
    mean: NDArray[np.floating], graph: Graph, options: CircuitOptions
) -> NDArray[np.bool_]:
    """Return the circuit: edges selected by |mean score|, from which `prune` removes loose ends.

    Args:
        mean: [sources, destinations] mean scores.
        graph: the model's graph.
        options: settings that determine how edges are selected, and the size or the threshold.

    Returns:
        [sources, destinations] bool.
    """
    return prune(selection_of(options)(mean, graph, edges_of(mean, graph, options)), graph)


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


def circuit_runs(task: Task, options: CircuitOptions) -> int:
    """Return the number of runs of a circuit on a document that `judge` takes.

    These are the circuits of two curves, those of the random controls, the circuit itself and its
    complement, each on every document.

    Args:
        task: the pairs.
        options: settings that determine the sizes of circuits and the number of random circuits.
    """
    return (len(options.sizes) * (2 + options.random_circuits) + 2) * len(task.pairs)


def judge(
    task: Task, scores: EdgeScores, options: CircuitOptions, progress: Progress | None = None
) -> CircuitResult:
    """Determine the circuit and measure its faithfulness and stability.

    Args:
        task: the pairs and the metric.
        scores: scores of all edges on each document.
        options: settings that determine how edges are selected, the sizes of circuits, and the
            numbers of random circuits and resamples.
        progress: called with the number of documents on which a circuit was newly run, up to
            `circuit_runs` in all.
    """
    task.evaluator.progress = progress or (lambda documents: None)
    mean, graph = scores.mean.double().numpy(), scores.graph
    circuit = circuit_of(mean, graph, options)
    # random circuits of a size serve as a control for both rankings
    seeds = range(options.random_circuits)
    # circuits by a threshold are those of the largest scores, so they share one curve
    select = greedy if options.select is EdgeSelection.greedy else top_n
    ranked = [partial(select, absolute=absolute) for absolute in (True, False)]
    absolute = curve(task.evaluator, mean, True, options.sizes, ranked[0], seeds)
    signed = curve(task.evaluator, mean, False, options.sizes, ranked[1], ())
    judgement = faithfulness(task.evaluator, circuit)
    by_document = scores.documents.float().numpy()
    steady = None
    if len(scores.ids) > 1:
        count = edges_of(mean, graph, options)
        steady = stability(
            by_document, graph, count, selection_of(options), resamples=options.resamples
        )
    return CircuitResult(scores, circuit, judgement, steady, absolute, signed)
