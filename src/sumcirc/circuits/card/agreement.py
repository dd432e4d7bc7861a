"""Whether the scores that chose the edges are right: more steps, and single edges patched.

- converged: the edges are scored again with four times as many interpolation steps on the pairs
  that chose them, and the circuits that both scores select are compared. A. Arora et al., 2026,
  arXiv:2609.25518, find that five steps aren't enough for nodes.
- exact: the effect of an edge is m(G without e) - m(G) on the pairs that judge, measured for a
  sample of edges, half of them from the circuit, and ranked against the scores of these pairs.
  Attribution
  patching approximates this (2310.10348). Scores and effects below `card.floor` of the gap
  count as 0, since the order of edges that don't matter means nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import signed_scores
from sumcirc.circuits.card.lines import AGREEING, CONVERGED, Line, untested, verdict
from sumcirc.circuits.card.subject import BOOTSTRAP, Subject, spread
from sumcirc.circuits.discovery import circuit_of, score_edges
from sumcirc.circuits.patching.evaluator import share_of
from sumcirc.circuits.sign_filter import ranking_scores
from sumcirc.circuits.stability import jaccard
from sumcirc.errors import UserError
from sumcirc.schema import Method
from sumcirc.statistics import Interval
from sumcirc.statistics.ranks import spearman

FACTOR = 4
STEPPED = (Method.eap_ig_inputs, Method.eap_ig_activations)


def converged(subject: Subject) -> Line:
    """Score the edges again with four times as many steps, and compare the circuits.

    Args:
        subject: the circuit.
    """
    options = subject.options
    if options.method not in STEPPED:
        return untested("converged", f"circuit.method={options.method} takes no steps")
    finer = replace(options, steps=FACTOR * options.steps)
    label = f"card: attribute with {finer.steps} steps"
    with subject.counted(label, len(subject.task.pairs)) as advance:
        scores = score_edges(subject.model, subject.task, finer, advance)
    documents = scores.documents.double().numpy()
    score = signed_scores(documents, options.aggregation)
    ranking = ranking_scores(documents, subject.graph, options)
    circuit = circuit_of(ranking, subject.graph, options)
    exists = subject.graph.exists
    overlap = jaccard(subject.circuit, circuit)
    before = subject.found.signed_scores
    rho = float(spearman(before[exists], score[exists]))
    flipped = int((np.sign(score) != np.sign(before))[subject.circuit].sum())
    said = (
        f"{options.steps} against {finer.steps} steps: {int((circuit & subject.circuit).sum()):,}"
        f" of {int(subject.circuit.sum()):,} edges stay, Spearman {rho:.3f} over all scores,"
        f" {flipped} of its edges change sign"
    )
    details = {"steps": [options.steps, finer.steps], "spearman": rho, "flipped": flipped}
    number = Interval(overlap, np.nan, np.nan, len(subject.task.pairs))
    status = verdict(overlap >= CONVERGED)
    return Line("converged", status, number, said, passes=finer_passes(subject), details=details)


def finer_passes(subject: Subject) -> int:
    """Return the number of passes over one pair of `converged`."""
    return (FACTOR * subject.options.steps + 2) * len(subject.task.pairs)


def exact(subject: Subject) -> Line:
    """Patch a sample of edges one by one, and correlate their effects with their scores.

    Both are of the same held-out pairs, some of which are left out where there are many.

    Args:
        subject: the circuit.
    """
    options, graph = subject.options, subject.graph
    half = subject.card.exact_edges // 2
    inside = spread(subject.ranked(), half)
    edges = inside + spread(subject.others(), subject.card.exact_edges - len(inside))
    try:
        with subject.counted("card: attribute held-out pairs", subject.pairs) as advance:
            scored = score_edges(subject.model, subject.held_out, options, advance)
    except UserError as error:  # a pair needs more memory than those that chose the edges
        return untested("exact", str(error))
    patched = np.repeat(graph.exists[None], len(edges), 0)
    for number, (row, column) in enumerate(edges):
        patched[number, row, column] = False
    metrics = subject.run("card: patch single edges", list(patched), share_of(0, subject.pairs))
    effects = np.array(metrics) - subject.evaluator.full.metric
    run = np.isfinite(effects).all(0)
    rows, columns = np.array(edges).T
    scores = scored.documents.double().numpy()[:, rows, columns].T
    gap = np.abs(subject.evaluator.full.metric - subject.evaluator.empty.metric)[run].mean()
    least = subject.card.floor * gap
    said, details = _agreement(subject, edges, scores[:, run], effects[:, run], least)
    number = _correlation(scores[:, run], effects[:, run], least)
    said = f"{len(edges)} edges patched one by one, {len(inside)} of them in the circuit; {said}"
    passes = exact_passes(subject)
    # NaN, which is no pass, where all scores or effects are equal
    status = verdict(number.low >= AGREEING)
    return Line("exact", status, number, said, passes=passes, details=details)


def _agreement(
    subject: Subject,
    edges: list[tuple[int, int]],
    scores: NDArray[np.float64],
    effects: NDArray[np.float64],
    least: float,
) -> tuple[str, dict[str, Any]]:
    """Return what else is known about scores and effects, as words and as numbers."""
    chosen = np.array([subject.found.signed_scores[edge] for edge in edges])
    effect, floor = effects.mean(-1), subject.card.floor
    matter = int((np.abs(effect) >= least).sum())
    across = float(spearman(_at_least(chosen, least), _at_least(effect, least)))
    said = (
        f"{matter} have an effect of at least {floor:g} of the gap; the scores of the pairs that"
        f" chose the edges: {across:.2f}"
    )
    return said, {
        "pairs": effects.shape[1],
        "edges": [subject.edge_name(edge) for edge in edges],
        "scores": scores.mean(-1).tolist(),
        "effects": effect.tolist(),
        "chosen_on": across,
    }


def _correlation(
    scores: NDArray[np.float64], effects: NDArray[np.float64], least: float
) -> Interval:
    """Return the rank correlation of mean scores and effects, [edges, pairs], over edges."""

    def statistic(pick: NDArray[np.int64]) -> NDArray[np.float64]:
        one, other = (_at_least(values[:, pick].mean(-1).T, least) for values in (scores, effects))
        return spearman(one, other)

    return BOOTSTRAP.interval(statistic, effects.shape[1])


def exact_passes(subject: Subject) -> int:
    """Return the number of passes over one pair of `exact`."""
    pairs = len(range(subject.pairs)[share_of(0, subject.pairs)])
    edges = min(subject.graph.edges, subject.card.exact_edges)
    return edges * pairs + (subject.options.steps + 2) * subject.pairs


def _at_least(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    return np.where(np.abs(values) >= least, values, 0.0)
