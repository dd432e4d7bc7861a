"""The measured effect of every edge: it alone is patched, the model runs, the metric is read.

Many edges are patched at a time, each in a separate row of one batch (`PatchedRun`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Metric
from sumcirc.circuits.patching.patched_run import PatchedRun
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel


def exact_scores(
    model: Any,
    pairs: TokenPairs,
    metric: Metric,
    graph: Graph,
    edges: int,
    progress: Callable[[int], None],
) -> Tensor:
    """Return every edge's effect: the metric with this edge alone patched, minus the clean metric.

    Args:
        model: the model, with or without an adapter.
        pairs: clean and corrupted inputs.
        metric: the metric, created for the items of `pairs`.
        graph: the model's graph.
        edges: number of edges to measure in one pass, each in a separate row of the batch.
        progress: called with 1 after each item.

    Returns:
        [items, sources, destinations] in the metric's unit; 0 where there is no edge.
    """
    hooked = HookedModel(model)
    weights = AttentionWeights(hooked, graph.expand_groups)
    dtype = torch.promote_types(hooked.model.dtype, torch.float32)
    found = torch.zeros((len(pairs), *graph.exists.shape), dtype=dtype)
    # ordered by destination, so that the rows of a pass concern few layers
    columns, rows = np.nonzero(graph.exists.T)
    for item in range(len(pairs)):
        used = pairs.columns([item])
        clean, corrupted, mask = pairs.cut([item], hooked.model.device)
        run = PatchedRun(model, clean, corrupted, mask, graph, weights=weights)
        positions = metric.positions[[item], used].to(clean.device)
        whole = run.logits(graph.exists, positions)
        reference = metric.reference(whole) if metric.against_clean else None
        baseline = metric.values(whole, torch.tensor([item]), reference)
        for start in range(0, len(rows), edges):
            source, destination = rows[start : start + edges], columns[start : start + edges]
            kept = np.repeat(graph.exists[None], len(source), 0)
            kept[np.arange(len(source)), source, destination] = False
            logits = run.logits(kept, positions).flatten(0, 1)
            repeated = None if reference is None else reference.repeat(len(source), 1)
            items = torch.tensor([item]).expand(len(source))
            values = metric.values(logits, items, repeated) - baseline
            found[item, source, destination] = values.to(found)
        progress(1)
    return found
