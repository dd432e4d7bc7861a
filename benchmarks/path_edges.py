"""Edges to which a weight change writes: what they cost, and whether they are the circuit's edges.

    sumcirc circuit checkpoint=RUN_DIR
    python benchmarks/path_edges.py --before tiny --after RUN_DIR --circuit CIRCUIT_FILE --name full

There are two parts (--parts):

    cost     CPU seconds at one point along the change, with and without the division by edge,
             divided by the CPU seconds of one forward and backward pass for each item with
             gradients of the changed tensors; all three are measured in turns.
    circuit  what `sumcirc compare` reports of the edges, and how far the ranking of edges by
             |mean write| agrees with that by |mean score| of a circuit of the model after, over
             all edges that have a write: rank correlation, and the share of the TOP edges of one
             that are in the other. Both are also computed with the circuit's scores exchanged at
             random among edges of the same kinds and layers of both ends: what kinds and layers
             alone explain. Intervals are over items and the circuit's documents together.

The items are articles of the built-in wire. The record holds numbers and ids, no texts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measurement import median_interval, parser, prepare, rounded
from numpy.typing import NDArray
from path_attribution import add_subject, subject_of
from scipy.stats import rankdata

from sumcirc.circuits.edge_sums import edge_groups
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.path.edge_summary import edge_summary
from sumcirc.compare.path.edge_writes import EdgePasses, EdgeWrites
from sumcirc.compare.path.path_attribution import PathRuns, attribute_path
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import PathOptions
from sumcirc.tracking.run_directory import git_commit

Values = NDArray[np.float64]
TOP = (0.01, 0.05, 0.1)  # shares of the edges
ROUNDS = 8
RESAMPLES = 500
PERMUTATIONS = 200
PARTS = ("cost", "circuit")


def cost(model: Any, before: Any, items: ItemSet, options: PathOptions) -> dict[str, Any]:
    """Measure what a point costs beside plain passes, in CPU seconds."""
    hooked = HookedModel(model)
    seconds: dict[str, list[float]] = {"plain": [], "without": [], "with": []}
    with unit_change(hooked, before, options.neuron_groups, options.directions) as change:
        without = PathRuns(hooked, change, items, 4)
        divided = PathRuns(hooked, change, items, 4, EdgePasses(hooked, change))

        def plain(at: float) -> None:
            change.scale(at)
            for batch in items.batches(1, hooked.device):
                value = batch.read(hooked, batch.run(hooked)).sum()
                torch.autograd.grad(value, change.parameters, allow_unused=True)

        divided.slopes(0.1)  # torch loads its rules of forward-mode differentiation
        for at in np.linspace(0.2, 0.8, ROUNDS):
            for name, run in (
                ("plain", plain),
                ("without", without.slopes),
                ("with", divided.slopes),
            ):
                began = time.process_time()
                run(float(at))
                seconds[name].append(time.process_time() - began)
    found: dict[str, Any] = {"seconds": seconds}
    for name in ("without", "with"):
        ratios = np.divide(seconds[name], seconds["plain"]).tolist()
        low, high, _ = median_interval(ratios)
        found[name] = {"median": float(np.median(ratios)), "low": low, "high": high}
    return found


def agreement(written: EdgeWrites, scores: Values) -> dict[str, Any]:
    """Compare the ranking of edges by writes with that by a circuit's scores.

    Args:
        written: the writes.
        scores: [documents, sources, destinations] scores of the circuit's edges.
    """
    graph = written.graph
    known = np.zeros(graph.exists.shape, dtype=bool)
    known[sorted({sender.source for sender in written.senders})] = True
    known &= graph.exists
    writes, others = written.by_source[:, known], scores[:, known]
    groups = edge_groups(graph)[known]
    draw = np.random.default_rng(0)
    orders = [_within(groups, draw) for _ in range(PERMUTATIONS)]

    def measured(first: Values, second: Values, orders: list[Any]) -> list[float]:
        one, other = (np.abs(values.mean(0)) for values in (first, second))
        ranks = [rankdata(values) for values in (one, other)]
        found = [
            _pearson(*ranks),
            float(np.mean([_pearson(ranks[0], ranks[1][x]) for x in orders])),
        ]
        for share in TOP:
            tops = [_top(values, share) for values in (one, other)]
            count = tops[0].sum()
            expected = sum(
                tops[0][groups == group].sum() * tops[1][groups == group].mean()
                for group in np.unique(groups[tops[0]])
            )
            found += [float((tops[0] & tops[1]).sum() / count), float(expected / count)]
        return found

    names = ["spearman", "spearman_matched"]
    names += [f"top_{share:g}{end}" for share in TOP for end in ("", "_matched")]
    values = dict(zip(names, measured(writes, others, orders), strict=True))
    drawn = []
    for _ in range(RESAMPLES):
        picks = [draw.integers(len(one), size=len(one)) for one in (writes, others)]
        drawn.append(measured(writes[picks[0]], others[picks[1]], orders[:10]))
    table = np.array(drawn)
    for place in range(0, len(names), 2):
        excess = table[:, place] - table[:, place + 1]
        for name, column in ((names[place], table[:, place]), (f"{names[place]}_excess", excess)):
            low, high = np.quantile(column, (0.025, 0.975))
            values[f"{name}_low"], values[f"{name}_high"] = float(low), float(high)
        values[f"{names[place]}_excess"] = values[names[place]] - values[names[place + 1]]
    return {"edges": int(known.sum()), "documents": len(scores), **values}


def _within(groups: NDArray[np.intp], draw: np.random.Generator) -> NDArray[np.intp]:
    """Return a random order of the edges that exchanges edges of the same group alone."""
    by_group = np.argsort(groups, kind="stable")
    shuffled = np.lexsort((draw.random(len(groups)), groups))
    found = np.empty_like(by_group)
    found[by_group] = shuffled
    return found


def _pearson(one: Values, other: Values) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _top(values: Values, share: float) -> NDArray[np.bool_]:
    found = np.zeros(len(values), dtype=bool)
    found[np.argsort(-values, kind="stable")[: max(1, int(share * len(values)))]] = True
    return found


def main() -> None:
    """Run the parts that are asked for, print what they measure, and write it to a file."""
    command = parser(__doc__)
    add_subject(command, 16, PARTS)
    command.add_argument("--circuit", type=Path, help="score file of a circuit of the model after")
    options: argparse.Namespace = command.parse_args()
    if "circuit" in options.parts and options.circuit is None:
        command.error("--circuit is missing; `sumcirc circuit` writes the file, or --parts cost")
    prepare(options)
    model, weights, items = subject_of(options)
    settings = PathOptions(nodes=options.points, effects=None, edges=True)
    record: dict[str, Any] = {"commit": git_commit(), "items": items.ids}
    if "cost" in options.parts:
        record["cost"] = cost(model, weights, items, settings)
        print(rounded(record["cost"]), flush=True)
    if "circuit" in options.parts:
        found = attribute_path(model, weights, items, settings)
        assert found.edges is not None
        scores = DocumentScores.read(options.circuit)
        if scores.graph != found.edges.graph:
            command.error("--circuit: is of another model")
        record["points"], record["converged"] = found.integral.evaluations, found.converged
        record["errors"] = vars(found.integral.errors)
        record["edges"] = edge_summary(found.edges, found.gain)
        record["circuit"] = {
            "method": scores.method,
            "metric": scores.metric,
            **agreement(found.edges, scores.scores.astype(np.float64)),
        }
        print(rounded(record["circuit"]), flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"path-edges-{options.name}.json"
    file.write_text(json.dumps(rounded(record), indent=1) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
