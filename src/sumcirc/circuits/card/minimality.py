"""Minimality: how many edges of a circuit can't be left out, each of them alone.

The cost of leaving out edge e is f(C) - f(C without e) on the pairs that judge. An edge matters if
its cost is at least a floor and is above zero over documents, by a permutation test of the mean
(the signs of the documents' changes are flipped; R. A. Fisher, The Design of Experiments, 1935) at
a false discovery rate over all tested edges (Benjamini and Hochberg, 1995). Leaving out several
edges at once is not tested, so an edge whose part another one takes over doesn't matter here.
Source: C. Shi et al., Hypothesis Testing the Circuit Hypothesis in LLMs, 2024, arXiv:2410.13032
(minimality); K. Wang et al., Interpretability in the Wild, 2022, arXiv:2211.00593.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.card.lines import NEEDED, Line, verdict
from sumcirc.circuits.card.subject import Subject, spread
from sumcirc.statistics import Interval
from sumcirc.statistics.noise import rounding_of, sign_flip_p_values

LISTED = 5  # edges named in the sentence


def minimal(subject: Subject) -> Line:
    """Leave out edges of the circuit one by one, and return the share of those that matter.

    Args:
        subject: the circuit; of many edges a sample is taken over all sizes of score.
    """
    edges = spread(subject.ranked(), subject.card.removed)
    removed = []
    for row, column in edges:
        kept = subject.circuit.copy()
        kept[row, column] = False
        removed.append(kept)
    metrics = subject.run("card: leave out single edges", removed)
    own, rounding = subject.own, rounding_of(subject.own)
    changes = np.array([metric - own for metric in metrics])  # > 0: the loss rises
    changes[np.abs(changes) <= rounding] = 0.0
    costs = [subject.above(metric) for metric in metrics]
    matters = mattering(changes, costs, subject.card.floor, subject.card.fdr)
    total, count = int(subject.circuit.sum()), int(matters.sum())
    share = _share(count, len(edges), total)
    said = f"{count} of {len(edges)} edges matter"
    if len(edges) < total:
        said += f", a sample of {total:,} over all sizes of score"
    harmful = sum(cost.high < 0 for cost in costs)
    if harmful:
        said += f"; without any one of {harmful} edges the circuit is more faithful"
    free = [subject.edge_name(e) for e, m in zip(edges, matters, strict=True) if not m]
    if free:
        said += f"; not needed: {', '.join(free[:LISTED])}"
        said += f" and {len(free) - LISTED} more" if len(free) > LISTED else ""
    rows = [
        _row(subject, edge, cost, bool(needed))
        for edge, cost, needed in zip(edges, costs, matters, strict=True)
    ]
    details = {
        "floor": subject.card.floor,
        "fdr": subject.card.fdr,
        "edges": total,
        "tested": rows,
    }
    passes = len(edges) * subject.pairs
    status = verdict(share.mean >= NEEDED)
    return Line("minimal", status, share, said, passes=passes, details=details)


def mattering(
    changes: NDArray[np.float64], costs: list[Interval], floor: float, fdr: float
) -> NDArray[np.bool_]:
    """Return which edges matter: [edges] bool.

    Args:
        changes: [edges, pairs] the metric (a loss) without the edge minus that of the circuit.
        costs: for each edge, by how much faithfulness falls without it.
        floor: least cost of an edge that matters.
        fdr: false discovery rate.
    """
    from scipy.stats import false_discovery_control

    found = false_discovery_control(sign_flip_p_values(changes), method="bh") <= fdr
    return found & np.array([cost.mean >= floor for cost in costs])


def passes(subject: Subject) -> int:
    """Return the number of passes over one pair that the test takes."""
    return min(int(subject.circuit.sum()), subject.card.removed) * subject.pairs


def _share(count: int, tested: int, total: int) -> Interval:
    """Return a share of edges; of a sample with Wilson's interval (E. B. Wilson, 1927)."""
    from scipy.stats import binomtest

    if tested == total:
        return Interval(count / tested, np.nan, np.nan, tested)
    bounds = binomtest(count, tested).proportion_ci(0.95, method="wilson")
    return Interval(count / tested, float(bounds.low), float(bounds.high), tested)


def _row(subject: Subject, edge: tuple[int, int], cost: Interval, needed: bool) -> dict[str, Any]:
    return {
        "edge": subject.edge_name(edge),
        "score": float(subject.found.signed_scores[edge]),
        "cost": asdict(cost),
        "matters": needed,
    }
