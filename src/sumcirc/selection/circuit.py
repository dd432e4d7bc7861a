"""Where the circuit of the base is: sums of |EAP-IG score| over the edges of each module.

S(module) = sum over its edges e in C of |mean over documents d of s_d(e)|, where C is the circuit
of the 5 % of all edges of largest |mean|, pruned, and s the scores of `circuits.attribution`
(M. Hanna et al., 2024, arXiv 2403.17806): how much the metric rises, to first order, when the edge
is corrupted. No model is trained for it. In each resample of the documents the circuit is found
anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sumcirc.circuits.discovery import circuit_of
from sumcirc.selection.edges import (
    along_mean,
    by_module,
    resampled_edges,
    size_by_module,
)
from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores


def score(evidence: Evidence) -> Scores:
    """Score modules by their edges in the base's circuit."""
    stored, options = evidence.base_circuit, evidence.config.selector.circuit
    scores, graph = stored.scores, stored.graph

    def sizes(mean: NDArray[np.floating]) -> NDArray[np.float64]:
        return size_by_module(mean, circuit_of(mean, graph, options), graph)

    kept = circuit_of(scores.mean(0), graph, options)
    again = [sizes(mean) for mean in resampled_edges(scores, evidence.config.selector.resamples)]
    return Scores(
        by_module(along_mean(scores, kept), graph),
        f"the base's circuit runs through it ({stored.method}, {int(kept.sum())} edges)",
        "logits" if stored.metric == "logit_difference" else "nats",
        "documents",
        resamples=np.stack(again, -1),
    )
