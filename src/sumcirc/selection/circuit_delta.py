"""Where training changes the circuit: from the base to a tuned model, on the same pairs.

Each model's scores are divided by the sum of all its |mean| scores, since a model that summarizes
has more to lose: what is compared is how the effect is shared out among edges. With these shares p,

S(module) = sum over its edges e in C or C' of |mean over documents of p'(e) - p(e)|

where C and C' are the circuits (5 % of all edges) of the base and of the tuned model. That change
concentrates in few edges is the finding of Y. Wang et al., 2025, arXiv 2502.11812.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.discovery import circuit_of
from sumcirc.errors import UserError
from sumcirc.selection.edges import (
    along_mean,
    by_module,
    resampled_edges,
    size_by_module,
)
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """Score modules by how the shares of their edges change.

    Raises:
        UserError: a model's scores are all 0.
    """
    options = evidence.config.selector.circuit
    base, tuned = evidence.base_circuit, evidence.tuned_circuit()
    graph = base.graph
    totals = [_total(stored.scores.mean(0, dtype=np.float64)) for stored in (base, tuned)]

    def circuits(*means: NDArray[np.floating]) -> NDArray[np.bool_]:
        before, after = (circuit_of(mean, graph, options) for mean in means)
        return before | after

    def sizes(before: NDArray[np.floating], after: NDArray[np.floating]) -> NDArray[np.float64]:
        change = after / _total(after) - before / _total(before)
        return size_by_module(change, circuits(before, after), graph)

    kept = circuits(base.scores.mean(0), tuned.scores.mean(0))
    change = tuned.scores / totals[1] - base.scores / totals[0]
    draws = [
        resampled_edges(one.scores, evidence.config.selector.resamples) for one in (base, tuned)
    ]
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
