"""Rival circuits: can other edges do the same?

Two searches rank edges by the same scores and select and prune them by the same rule as the
circuit:

- disjoint: among the edges outside the circuit, as many as were asked for, twice and four times as
  many. Their overlap with the circuit is 0 by construction.
- least overlap: by |score| - penalty x (1 for an edge of the circuit), as many as were asked for.
  The penalties are quartiles of the circuit's own |scores|; the largest leaves none of its edges.

A rival that these searches don't find may exist: scores are taken in the whole model, where the
circuit's own edges do the work. Source of the question: 2605.12671 (two circuits of indirect object
identification, equally accurate, which share 4 % of their edges).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sumcirc.circuits.card.lines import LEVEL, Line, told, verdict
from sumcirc.circuits.card.subject import Kept, Subject
from sumcirc.circuits.discovery import edges_of
from sumcirc.circuits.edge_selection import greedy, prune, top_n
from sumcirc.circuits.stability import jaccard
from sumcirc.schema import EdgeSelection
from sumcirc.statistics import Interval

TIMES = (1, 2, 4)  # sizes of disjoint circuits, in sizes of the circuit
QUARTILES = (0.25, 0.5, 0.75)  # of the circuit's |scores|, as penalties


@dataclass(frozen=True, eq=False)
class Rival:
    """A circuit that a search found.

    Attributes:
        kept: [sources, destinations] True at its edges.
        penalty: what an edge of the circuit loses in the search; infinite for a disjoint one.
        faithfulness: its faithfulness; NaN if no edge is left.
        below: by how much the circuit is more faithful.
    """

    kept: Kept
    penalty: float
    faithfulness: Interval
    below: Interval

    @property
    def as_good(self) -> bool:
        """Whether it is not shown to be less faithful than the circuit, and than the level."""
        if not self.kept.any():
            return False
        return not (self.below.low > 0 and self.faithfulness.high < LEVEL)


def rival(subject: Subject) -> Line:
    """Search for circuits without the circuit's edges and with few of them, and judge them.

    Args:
        subject: the circuit.
    """
    disjoint = [(without(subject, times), np.inf) for times in TIMES]
    sizes = np.abs(subject.found.aggregated[subject.circuit])
    penalties = [float(one) for one in np.quantile(sizes, QUARTILES)]
    shared = [(penalized(subject, penalty), penalty) for penalty in penalties]
    searched = disjoint + shared
    metrics = subject.run("card: rival circuits", [kept for kept, _ in searched])
    rivals = [
        Rival(kept, penalty, _defined(subject.share(metric), kept), subject.above(metric))
        for (kept, penalty), metric in zip(searched, metrics, strict=True)
    ]
    outside, sharing = rivals[: len(TIMES)], rivals[len(TIMES) :]
    best = max(outside, key=lambda one: np.nan_to_num(one.faithfulness.mean, nan=-np.inf))
    found = any(one.as_good for one in outside)
    said = _said(subject, outside, best, found)
    nearly = [one for one in rivals if one.as_good]
    if nearly:
        least = min(jaccard(one.kept, subject.circuit) for one in nearly)
        said += (
            f"; the least overlap of one that has {LEVEL:g} or as much as this circuit is a Jaccard"
            f" index of {least:.2f}"
        )
    else:
        said += f"; none that shares some of its edges has {LEVEL:g} or as much"
    details = {
        "search": _search(subject),
        "disjoint": [_row(subject, one) for one in outside],
        "least_overlap": [_row(subject, one) for one in sharing],
    }
    number = best.faithfulness if best.kept.any() else None
    passes = len(searched) * subject.pairs
    return Line("rival", verdict(not found), number, said, passes=passes, details=details)


def without(subject: Subject, times: int = 1) -> Kept:
    """Return the circuit that the search finds outside the circuit, [sources, destinations] bool.

    Args:
        subject: the circuit.
        times: its size before pruning, in sizes of the circuit.
    """
    graph = subject.graph
    scores = np.where(subject.circuit, 0.0, np.abs(subject.found.aggregated))
    left = graph.edges - int(subject.circuit.sum())
    count = min(left, times * edges_of(subject.found.aggregated, graph, subject.options))
    return prune(_select(subject)(scores, graph, count) & ~subject.circuit, graph)


def penalized(subject: Subject, penalty: float) -> Kept:
    """Return the circuit found by |score| minus a penalty on the circuit's edges.

    Args:
        subject: the circuit.
        penalty: what an edge of the circuit loses.

    Returns:
        [sources, destinations] bool.
    """
    graph = subject.graph
    ranked = np.abs(subject.found.aggregated) - penalty * subject.circuit
    ranked = np.where(graph.exists, ranked - ranked[graph.exists].min(), 0.0)
    count = edges_of(subject.found.aggregated, graph, subject.options)
    return prune(_select(subject)(ranked, graph, count), graph)


def passes(subject: Subject) -> int:
    """Return the number of passes over one pair that the test takes."""
    return (len(TIMES) + len(QUARTILES)) * subject.pairs


def _select(subject: Subject) -> Any:
    # a threshold selects the largest scores, of which there are as many as `edges_of` says
    return greedy if subject.options.select is EdgeSelection.greedy else top_n


def _search(subject: Subject) -> str:
    options = subject.options
    return f"{options.method} scores of the whole model, select={options.select}, pruned"


def _said(subject: Subject, outside: list[Rival], best: Rival, found: bool) -> str:
    words = f"{'a rival' if found else 'no rival'} found by {_search(subject)}"
    if not best.kept.any():
        return f"{words}: no path is left outside the circuit"
    sizes = ", ".join(f"{int(one.kept.sum()):,}" for one in outside)
    return (
        f"{words}, among all other edges ({sizes} edges): the best has {int(best.kept.sum()):,}"
        f" edges and {told(best.faithfulness)}"
    )


def _defined(faithfulness: Interval, kept: Kept) -> Interval:
    """Return NaN for a circuit without edges, whose run is the corrupted one."""
    if kept.any():
        return faithfulness
    return Interval(np.nan, np.nan, np.nan, faithfulness.n)


def _row(subject: Subject, one: Rival) -> dict[str, Any]:
    return {
        "penalty": one.penalty if np.isfinite(one.penalty) else None,
        "edges": int(one.kept.sum()),
        "jaccard": jaccard(one.kept, subject.circuit),
        "faithfulness": asdict(one.faithfulness),
        "below": asdict(one.below),
    }
