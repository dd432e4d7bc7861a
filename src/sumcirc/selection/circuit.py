"""Selectors that score modules by the circuit that runs through them.

A module's score is the sum over the circuit's edges that it takes part in: `qkv` reads the edges
into queries, keys and values, `mlp_in` those into the MLP; `attn_out` and `mlp_out` write those out
of the heads and out of the MLP. So an edge counts both where it is written and where it is read.
The circuit is determined anew in each resample of the documents. With
`selector.aggregation=mean_absolute`, an edge's scores on the documents are replaced by their
absolute values throughout.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.aggregation import per_document
from sumcirc.circuits.discovery import circuit_of
from sumcirc.circuits.graph import Graph
from sumcirc.errors import UserError
from sumcirc.schema import SelectorName
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.registry import selector
from sumcirc.selection.scores import Scores
from sumcirc.statistics.resampling import weights


@selector(SelectorName.circuit, pairs=True, weights=True)
def circuit(context: SelectionContext) -> Scores:
    """Score modules by S = sum over their edges e in C of |mean over documents d of s_d(e)|.

    s_d(e) is the score of edge e on document d: the estimated rise of the metric if the edge is
    corrupted (`circuits.attribution`; M. Hanna et al., 2024, arXiv 2403.17806). C is the circuit of
    the base model: the edges of largest |score|, 5 % of all by default, without edges
    that lie on no path from the embedding to the logits. No model is trained for these scores.
    """
    stored, options = context.base_circuit, context.config.selector.circuit
    scores, graph = per_document(stored.scores, options.aggregation), stored.graph

    def sizes(mean: NDArray[np.floating]) -> NDArray[np.float64]:
        return size_by_module(mean, circuit_of(mean, graph, options), graph)

    kept = circuit_of(scores.mean(0), graph, options)
    again = [sizes(mean) for mean in resampled_edges(scores, context.config.selector.resamples)]
    return Scores(
        by_module(along_mean(scores, kept), graph),
        f"the base's circuit runs through it ({stored.method}, {int(kept.sum())} edges)",
        options.metric.unit,
        "documents",
        resamples=np.stack(again, -1),
    )


@selector(SelectorName.circuit_delta, compares=True, pairs=True, weights=True)
def circuit_delta(context: SelectionContext) -> Scores:
    """Score modules by how fine-tuning changes their edges' shares of the total score.

    The edge scores of each model are divided by the sum of its |mean| scores over all edges, since
    corruption harms a model more if it summarizes well. With these shares p of the base and p' of
    the tuned model on the same documents,

        S = sum over a module's edges e in C or C' of |mean over documents of p'(e) - p(e)|

    where C and C' are the circuits of the base and of the tuned model, see `circuit`. Y. Wang et
    al., 2025, arXiv 2502.11812, found that the change concentrates in few edges.

    Raises:
        UserError: all scores of a model are 0.
    """
    options = context.config.selector.circuit
    stored = context.base_circuit, context.tuned_circuit()
    graph = stored[0].graph
    base, tuned = (per_document(one.scores, options.aggregation) for one in stored)
    totals = [_total(scores.mean(0, dtype=np.float64)) for scores in (base, tuned)]

    def circuits(*means: NDArray[np.floating]) -> NDArray[np.bool_]:
        before, after = (circuit_of(mean, graph, options) for mean in means)
        return before | after

    def sizes(before: NDArray[np.floating], after: NDArray[np.floating]) -> NDArray[np.float64]:
        change = after / _total(after) - before / _total(before)
        return size_by_module(change, circuits(before, after), graph)

    kept = circuits(base.mean(0), tuned.mean(0))
    change = tuned / totals[1] - base / totals[0]
    draws = [resampled_edges(one, context.config.selector.resamples) for one in (base, tuned)]
    return Scores(
        by_module(along_mean(change, kept), graph),
        "training moves the circuit here",
        "share of all |score|",
        "documents",
        resamples=np.stack([sizes(*pair) for pair in zip(*draws, strict=True)], -1),
        scale=1.0,
    )


def _total(mean: NDArray[np.floating]) -> float:
    total = float(np.abs(mean).sum())
    if total == 0:
        raise UserError(
            "selector=circuit_delta: corruption has no effect on a model, so it has no circuit;"
            " take another selector.metric or selector.corruption"
        )
    return total


def by_module(values: NDArray[np.floating], graph: Graph) -> NDArray[np.float64]:
    """Sum the values of all edges that a module reads or writes, for each module.

    Args:
        values: [documents, sources, destinations] values of the edges.
        graph: the model's graph.

    Returns:
        [layers, modules, documents] sums, with modules in the order of `schema.MODULES`.
    """
    read = values.sum(1, dtype=np.float64).T
    written = values.sum(2, dtype=np.float64).T
    found = []
    for layer in range(graph.shape.layers):
        places = (graph.query_columns(layer), graph.key_columns(layer), graph.value_columns(layer))
        found.append(
            [
                sum(read[place].sum(0) for place in places),
                written[graph.attention_sources(layer)].sum(0),
                read[graph.mlp_destination(layer)],
                written[graph.mlp_source(layer)],
            ]
        )
    return np.array(found)


def size_by_module(
    mean: NDArray[np.floating], kept: NDArray[np.bool_], graph: Graph
) -> NDArray[np.float64]:
    """Sum |mean| over the edges of a circuit that a module reads or writes, for each module.

    Args:
        mean: [sources, destinations] mean scores of the edges.
        kept: [sources, destinations] True at the edges of the circuit.
        graph: the model's graph.

    Returns:
        [layers, modules] sums, with modules in the order of `schema.MODULES`.
    """
    return by_module((np.abs(mean) * kept)[None], graph)[..., 0]


def resampled_edges(scores: NDArray[np.floating], resamples: int) -> Iterator[NDArray[np.float64]]:
    """Yield the mean scores [sources, destinations] of each resample of the documents.

    Args:
        scores: [documents, sources, destinations] scores of the edges.
        resamples: number of resamples.
    """
    for weight in weights(len(scores), resamples):
        yield np.tensordot(weight, scores, 1)


def along_mean(values: NDArray[np.floating], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each document's contribution to |mean over documents| of the edges of a circuit.

    An edge's value is multiplied by the sign of its mean over documents. The mean of the result
    over documents is therefore |mean|, and noise with changing signs cancels out.

    Args:
        values: [documents, sources, destinations] values of the edges.
        kept: [sources, destinations] True at the edges of the circuit.

    Returns:
        [documents, sources, destinations] contributions, 0 for edges that aren't in the circuit.
    """
    return values * np.sign(values.mean(0, dtype=np.float64)) * kept
