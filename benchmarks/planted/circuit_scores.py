"""Scores of edges and of edges by span, which several measures of a model use.

Those of the latest model are kept: the base's are the same with decoys and without, and scores of
edges are sums of those by span.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from benchmarks.planted.models import EXAMPLES, KINDS, Planted
from sumcirc.circuits.discovery import score_edges, to_store
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.spans.circuit import score_units
from sumcirc.circuits.spans.scores import SpanScores
from sumcirc.circuits.tasks import Task, make_task
from sumcirc.schema import SelectorConfig, SelectorName

# intervals are over models, so selectors need not resample examples
SELECTOR = SelectorConfig(name=SelectorName.circuit, resamples=2, batch_size=EXAMPLES)


def _task(made: Planted, decoys: bool | None) -> tuple[Any, Task]:
    model = made.base.model if decoys is None else made.model(decoys=decoys)
    return model, make_task(model, made.examples.pairs, SELECTOR.circuit, keep_all=True)


@lru_cache(maxsize=3)
def span_scores(made: Planted, decoys: bool | None) -> SpanScores:
    """Return the scores of edges by span.

    Args:
        made: the model, with a planted route.
        decoys: whether its decoys are in it; None for the base.
    """
    return score_units(*_task(made, decoys), None, SELECTOR.circuit)


@lru_cache(maxsize=3)
def edge_scores(made: Planted, decoys: bool | None) -> DocumentScores:
    """Return the attribution scores of the edges of a planted model.

    Args:
        made: the model.
        decoys: as of `span_scores`.
    """
    options = SELECTOR.circuit
    if KINDS[made.kind].route:
        return to_store(span_scores(made, decoys).edges, options, 0)
    return to_store(score_edges(*_task(made, decoys), options), options, 0)
